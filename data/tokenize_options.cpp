#include "data/tokenize_options.h"

#include <iterator>

#include "core/error.h"

namespace sinter::data {
namespace {

// The index of `value` among `names`.
template <std::size_t n>
std::size_t choose(const char* option, std::string_view value, const char* const (&names)[n], const char* rule) {
  for (std::size_t i = 0; i < n; ++i)
    if (value == names[i]) return i;
  fail(ErrorCode::usage, option, " is \"", value, "\"; it must be ", rule, ".");
}

constexpr const char* kPaddings[] = {"do_not_pad", "longest", "max_length"};
constexpr const char* kTruncations[] = {"do_not_truncate", "longest_first", "only_first", "only_second"};
constexpr const char* kSides[] = {"left", "right"};

}  // namespace

Padding::Padding(std::string_view name)
    : strategy_(static_cast<Strategy>(choose("padding", name, kPaddings,
                                             "true, false, \"longest\", \"max_length\" or \"do_not_pad\""))) {}

Truncation::Truncation(std::string_view name)
    : strategy_(static_cast<Strategy>(
          choose("truncation", name, kTruncations,
                 "true, false, \"longest_first\", \"only_first\", \"only_second\" or \"do_not_truncate\""))) {}

Side::Side(std::string_view name)
    : name_(static_cast<Name>(choose("a side", name, kSides, "\"left\" or \"right\""))) {}

}  // namespace sinter::data
