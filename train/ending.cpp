#include "train/ending.h"

#include <cstdio>
#include <filesystem>

#include "core/error.h"
#include "core/io/shown.h"

namespace sinter::train {
namespace {

int exit_code(ErrorCode code) {
  switch (code) {
    case ErrorCode::usage:
    case ErrorCode::bad_input:
    case ErrorCode::not_found:
    case ErrorCode::unsupported: return 2;
    default: return 1;
  }
}

}  // namespace

Ending ending_of_exception() {
  const auto ending = [](const std::string& sentence, int code) {
    return Ending{shown(sentence, std::string::npos), code};
  };
  try {
    throw;
  } catch (const Error& error) {
    return ending(error.what(), exit_code(error.code()));
  } catch (const std::filesystem::filesystem_error& error) {  // a path that is not what it should be
    return ending(error.path1().string() + ": " + error.code().message(), 2);
  } catch (const std::exception& error) {
    return ending(error.what(), 1);
  }
}

void say(const char* program, const std::string& sentence) {
  std::fprintf(stderr, "%s: %s\n", program, shown(sentence, std::string::npos).c_str());
}

int run_program(const char* program, const std::function<int()>& body) {
  try {
    const int code = body();
    if (std::fflush(stdout) == 0 && std::ferror(stdout) == 0) return code;
    say(program, "standard output could not be written");
    return code != 0 ? code : 1;
  } catch (const std::exception&) {
    const Ending ending = ending_of_exception();
    say(program, ending.sentence);
    return ending.code;
  }
}

}  // namespace sinter::train
