// The name that somebody probably meant.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace sinter::train {

/// The one of `known` that is the fewest insertions, deletions and replacements of characters (Levenshtein) away from
/// `name`; the first among equals. `known` must not be empty.
std::string nearest_name(std::string_view name, const std::vector<std::string>& known);

}  // namespace sinter::train
