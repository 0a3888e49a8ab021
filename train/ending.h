// How a program of sinter ends: what it says of an exception, and its exit code.
#pragma once

#include <functional>
#include <string>

namespace sinter::train {

struct Ending {
  std::string sentence;   ///< on one line, without control characters
  int code = 0;           ///< 2 for what the caller can mend (usage, input, what is missing), 1 for a run that failed
};
/// Of the exception that is being handled.
Ending ending_of_exception();

/// "<program>: <sentence>" on standard error.
void say(const char* program, const std::string& sentence);

/// The body of main(): the exit code of `body`, or that of what it throws, after its sentence. 1 at least, after one,
/// where standard output could not be written.
int run_program(const char* program, const std::function<int()>& body);

}  // namespace sinter::train
