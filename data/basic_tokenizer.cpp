#include "data/basic_tokenizer.h"

#include "data/utf8.h"

namespace sinter::data {

namespace {

bool is_ascii_punctuation(char32_t c) {
  return (c >= 33 && c <= 47) || (c >= 58 && c <= 64) || (c >= 91 && c <= 96) || (c >= 123 && c <= 126);
}

TracedText clean(std::string_view text, bool tokenize_chinese_chars, std::uint32_t first) {
  TracedText result;
  result.text.reserve(text.size());
  result.origin.reserve(text.size());
  for (std::uint32_t from = first; !text.empty(); ++from) {
    const Utf8Step step = decode_utf8(text);
    text.remove_prefix(step.length);
    const char32_t c = step.code_point;  // U+FFFD for invalid bytes, which is removed
    if (is_removed(c)) continue;
    const bool ideograph = tokenize_chinese_chars && is_cjk(c);
    if (ideograph) result.push_back(U' ', from);
    result.push_back(is_separator(c) ? U' ' : c, from);
    if (ideograph) result.push_back(U' ', from);
  }
  return result;
}

void drop_nonspacing_marks(TracedText& text) {
  std::size_t kept = 0;
  for (std::size_t i = 0; i < text.text.size(); ++i) {
    if (is_nonspacing_mark(text.text[i])) continue;
    text.text[kept] = text.text[i];
    text.origin[kept++] = text.origin[i];
  }
  text.text.resize(kept);
  text.origin.resize(kept);
}

}  // namespace

TracedText normalize(std::string_view text, const NormalizerOptions& options, std::uint32_t first) {
  TracedText result = clean(text, options.tokenize_chinese_chars, first);
  if (options.strip_accents.value_or(options.do_lower_case)) {
    result = decompose(result);
    drop_nonspacing_marks(result);
  }
  if (!options.do_lower_case) return result;
  TracedText lowered;
  lowered.text.reserve(result.text.size());
  lowered.origin.reserve(result.text.size());
  for (std::size_t i = 0; i < result.text.size(); ++i) append_lower(lowered, result.text[i], result.origin[i]);
  return lowered;
}

char normalize_ascii(char c, bool do_lower_case) {
  if (c == '\t' || c == '\n' || c == '\r') return ' ';
  if (c < 0x20 || c == 0x7F) return 0;
  return do_lower_case && c >= 'A' && c <= 'Z' ? static_cast<char>(c + 32) : c;
}

bool cuts_word(char32_t c) { return c < 0x80 ? is_ascii_punctuation(c) : is_punctuation(c); }

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
