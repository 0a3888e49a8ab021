// The one exception type of sinter.
#pragma once

#include <cmath>
#include <sstream>
#include <stdexcept>
#include <string>
#include <type_traits>

namespace sinter {

/// Who has to act on an Error. The command line exits 2 for the first four, 1 for the others.
enum class ErrorCode {
  usage,          ///< an option, an argument or a call is wrong: the caller's program or command line
  bad_input,      ///< a file or a data set breaks a rule
  not_found,      ///< a file, a name or a device is not there
  unsupported,    ///< a thing that sinter does not do, named
  io,             ///< the operating system refused
  out_of_memory,
  device,         ///< a backend failed
  diverged,       ///< a run that computes inf or NaN
  internal,       ///< a broken invariant of sinter itself
};

/// One sentence that names the value, the rule that it broke, and where it helps the way out.
class Error : public std::runtime_error {
 public:
  Error(ErrorCode code, const std::string& sentence) : std::runtime_error(sentence), code_(code) {}
  ErrorCode code() const { return code_; }

 private:
  ErrorCode code_;
};

/// Throws Error with the parts joined as `<<` prints them, but for a NaN's sign:
/// fail(ErrorCode::usage, "rank ", 7, " exceeds 6").
template <class... Parts>
[[noreturn]] void fail(ErrorCode code, const Parts&... parts) {
  std::ostringstream text;
  const auto put = [&text](const auto& part) {
    if constexpr (std::is_floating_point_v<std::decay_t<decltype(part)>>)
      text << (part != part ? std::abs(part) : part);
    else
      text << part;
  };
  (put(parts), ...);
  throw Error(code, text.str());
}

}  // namespace sinter
