// Running a program to its end and keeping what it said.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

namespace sinter::testing {

struct ProgramRun {
  int exit_code = 0;        ///< 128 and more: the signal that ended it
  std::string out, err;
};

/// Runs `program` with `words` as its arguments and nothing on standard input; `working_folder` is where it starts.
ProgramRun run_program(const std::string& program, const std::vector<std::string>& words,
                       const std::filesystem::path& working_folder);

}  // namespace sinter::testing
