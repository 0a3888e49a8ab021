#include "data/utf8.h"

namespace sinter::data {

namespace {

// Bounds of the second byte by lead byte (the Unicode Standard, table 3-7): they exclude overlong forms, surrogates
// and values above U+10FFFF.
struct Lead {
  std::size_t length;
  unsigned char second_low;
  unsigned char second_high;
};

Lead classify(unsigned char lead) {
  if (lead >= 0xC2 && lead <= 0xDF) return {2, 0x80, 0xBF};
  if (lead == 0xE0) return {3, 0xA0, 0xBF};
  if (lead == 0xED) return {3, 0x80, 0x9F};
  if (lead >= 0xE1 && lead <= 0xEF) return {3, 0x80, 0xBF};
  if (lead == 0xF0) return {4, 0x90, 0xBF};
  if (lead >= 0xF1 && lead <= 0xF3) return {4, 0x80, 0xBF};
  if (lead == 0xF4) return {4, 0x80, 0x8F};
  return {0, 0, 0};
}

}  // namespace

Utf8Step decode_utf8(std::string_view text) {
  const auto byte = [&](std::size_t i) { return static_cast<unsigned char>(text[i]); };
  const unsigned char first = byte(0);
  if (first < 0x80) return {first, 1, true};
  const Lead lead = classify(first);
  if (lead.length == 0) return {0xFFFD, 1, false};
  char32_t value = first & (0xFFu >> (lead.length + 1));
  for (std::size_t i = 1; i < lead.length; ++i) {
    const unsigned char low = i == 1 ? lead.second_low : 0x80;
    const unsigned char high = i == 1 ? lead.second_high : 0xBF;
    if (i >= text.size() || byte(i) < low || byte(i) > high) return {0xFFFD, i, false};
    value = (value << 6) | (byte(i) & 0x3Fu);
  }
  return {value, lead.length, true};
}

std::size_t encode_utf8(char32_t c, char* bytes) {
  const auto put = [&](std::size_t at, char32_t byte) {
    bytes[at] = static_cast<char>(static_cast<unsigned char>(byte));
  };
  if (c < 0x80) {
    put(0, c);
    return 1;
  }
  const std::size_t length = c < 0x800 ? 2 : c < 0x10000 ? 3 : 4;
  const char32_t lead = length == 2 ? 0xC0 : length == 3 ? 0xE0 : 0xF0;
  for (std::size_t i = length - 1; i > 0; --i, c >>= 6) put(i, 0x80 | (c & 0x3F));
  put(0, lead | c);
  return length;
}

void append_utf8(std::string& text, char32_t c) {
  char bytes[4];
  text.append(bytes, encode_utf8(c, bytes));
}

std::size_t first_invalid_utf8(std::string_view text) {
  std::size_t at = 0;
  while (at < text.size()) {
    const Utf8Step step = decode_utf8(text.substr(at));
    if (!step.valid) return at;
    at += step.length;
  }
  return at;
}

}  // namespace sinter::data
