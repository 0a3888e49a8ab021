#include "data/basic_tokenizer.h"

#include <algorithm>

#include "data/unicode.h"
#include "data/utf8.h"

namespace sinter::data {

namespace {

bool is_ascii(std::string_view text) {
  return std::all_of(text.begin(), text.end(), [](char c) { return static_cast<unsigned char>(c) < 0x80; });
}

bool is_ascii_punctuation(char32_t c) {
  return (c >= 33 && c <= 47) || (c >= 58 && c <= 64) || (c >= 91 && c <= 96) || (c >= 123 && c <= 126);
}

bool cuts_word(char32_t c) { return c < 0x80 ? is_ascii_punctuation(c) : is_punctuation(c); }

// ASCII needs no table, no decomposition and no ideographs; nearly all English text comes this way.
std::u32string normalize_ascii(std::string_view text, bool lower) {
  std::u32string result;
  result.reserve(text.size());
  for (const char byte : text) {
    const auto c = static_cast<unsigned char>(byte);
    if (c == '\t' || c == '\n' || c == '\r') {
      result += U' ';
    } else if (c >= 0x20 && c != 0x7F) {
      result += lower && c >= 'A' && c <= 'Z' ? static_cast<char32_t>(c + 32) : static_cast<char32_t>(c);
    }
  }
  return result;
}

}  // namespace

std::u32string normalize(std::string_view text, const BertTokenizerOptions& options) {
  if (is_ascii(text)) return normalize_ascii(text, options.do_lower_case);
  std::u32string result;
  result.reserve(text.size());
  while (!text.empty()) {
    const Utf8Step step = decode_utf8(text);
    text.remove_prefix(step.length);
    const char32_t c = step.code_point;  // U+FFFD for invalid bytes, which cleaning removes
    if (is_removed(c)) continue;
    if (is_separator(c)) {
      result += U' ';
    } else if (options.tokenize_chinese_chars && is_cjk(c)) {
      result += {U' ', c, U' '};
    } else {
      result += c;
    }
  }
  if (options.strip_accents.value_or(options.do_lower_case)) {
    result = decompose(result);
    std::erase_if(result, is_nonspacing_mark);
  }
  if (!options.do_lower_case) return result;
  std::u32string lowered;
  lowered.reserve(result.size());
  for (const char32_t c : result) append_lower(lowered, c);
  return lowered;
}

std::vector<std::u32string_view> split_words(std::u32string_view normalized) {
  std::vector<std::u32string_view> words;
  std::size_t start = 0;
  const auto finish_word = [&](std::size_t end) {
    if (end > start) words.push_back(normalized.substr(start, end - start));
  };
  for (std::size_t i = 0; i < normalized.size(); ++i) {
    const bool cuts = cuts_word(normalized[i]);
    if (!cuts && normalized[i] != U' ') continue;
    finish_word(i);
    if (cuts) words.push_back(normalized.substr(i, 1));
    start = i + 1;
  }
  finish_word(normalized.size());
  return words;
}

}  // namespace sinter::data
