#include "tests/train/program.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include "core/io/files.h"
#include "tests/core/io/scratch_folder.h"

namespace sinter::testing {
namespace {

constexpr std::size_t kMostOutput = 1 << 24;

/// In the child: gives descriptor `to` the file `path`. Only calls that are allowed between fork and exec.
void redirect(const char* path, int flags, int to) {
  const int file = ::open(path, flags, 0600);
  if (file < 0 || ::dup2(file, to) < 0) ::_exit(127);
}

}  // namespace

ProgramRun run_program(const std::string& program, const std::vector<std::string>& words,
                       const std::filesystem::path& working_folder) {
  const ScratchFolder folder;
  const std::string out = folder / "out", err = folder / "err";
  std::vector<char*> argv{const_cast<char*>(program.c_str())};
  for (const std::string& word : words) argv.push_back(const_cast<char*>(word.c_str()));
  argv.push_back(nullptr);
  const pid_t child = ::fork();
  if (child == 0) {
    redirect("/dev/null", O_RDONLY, STDIN_FILENO);
    redirect(out.c_str(), O_WRONLY | O_CREAT, STDOUT_FILENO);
    redirect(err.c_str(), O_WRONLY | O_CREAT, STDERR_FILENO);
    if (::chdir(working_folder.c_str()) != 0) ::_exit(127);
    ::execv(program.c_str(), argv.data());
    ::_exit(127);
  }
  int status = 0;
  if (child < 0 || ::waitpid(child, &status, 0) != child) ADD_FAILURE() << "cannot run " << program;
  return {.exit_code = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status),
          .out = read_file(out, kMostOutput),
          .err = read_file(err, kMostOutput)};
}

}  // namespace sinter::testing
