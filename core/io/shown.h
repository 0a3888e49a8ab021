// Text of unknown origin inside a message.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>

namespace sinter {

/// `text` as it may stand in a sentence to a person: control characters become '?', and what has more than `limit`
/// bytes is cut at a character's border and ends in " ...".
std::string shown(std::string_view text, std::size_t limit = 80);

}  // namespace sinter
