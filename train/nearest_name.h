// The name that somebody probably meant.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace sinter::train {

/// The end of a message, as "; the nearest one is --learning_rate". Of `known` it is the one that the fewest
/// insertions, deletions and replacements of characters make of `name` (Levenshtein), the first among equals; where
/// that would change more than a third of it, one that `name` is a part of; "" where there is none.
std::string nearest_name_hint(std::string_view name, const std::vector<std::string>& known);

}  // namespace sinter::train
