// UTF-8 decoding that survives every byte string.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>

namespace sinter::data {

struct Utf8Step {
  char32_t code_point = 0;
  std::size_t length = 0;  ///< bytes consumed, at least 1
  bool valid = false;      ///< false: `length` bytes are one maximal ill-formed subpart, code_point is U+FFFD
};

/// Decodes at text[0]; `text` must not be empty. Ill-formed input is cut as the Unicode Standard, section 3.9,
/// recommends (U+FFFD Substitution of Maximal Subparts), as Rust's from_utf8_lossy and Python's errors="replace"
/// do.
Utf8Step decode_utf8(std::string_view text);

/// Writes the encoding of a scalar value, 1 to 4 bytes, and returns their number.
std::size_t encode_utf8(char32_t code_point, char* bytes);
/// Appends the encoding of a scalar value.
void append_utf8(std::string& text, char32_t code_point);

/// Offset of the first ill-formed byte; text.size() if there is none.
std::size_t first_invalid_utf8(std::string_view text);

}  // namespace sinter::data
