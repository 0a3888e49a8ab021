#include "core/io/shown.h"

namespace sinter {

std::string shown(std::string_view text, std::size_t limit) {
  const auto continues_a_character = [](char c) { return (static_cast<unsigned char>(c) & 0xC0) == 0x80; };
  std::size_t length = text.size();
  if (length > limit) {
    length = limit;
    while (length > 0 && continues_a_character(text[length])) --length;
  }
  std::string result(text.substr(0, length));
  for (char& c : result)
    if (static_cast<unsigned char>(c) < 0x20 || c == 0x7F) c = '?';
  return length < text.size() ? result + " ..." : result;
}

}  // namespace sinter
