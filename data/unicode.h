// What a code point is to a BERT tokenizer. The tables (tables/unicode.inc, written by tables/generate.py) are the
// behaviour of Hugging Face's fast tokenizer, observed for every scalar value.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace sinter::data {

/// A text, and where it came from: character i of `text` stands for character origin[i] of a source.
struct TracedText {
  std::u32string text;
  std::vector<std::uint32_t> origin;   ///< as long as text, ascending

  void push_back(char32_t c, std::uint32_t from) {
    text.push_back(c);
    origin.push_back(from);
  }
};

/// Dropped by text cleaning: NUL, U+FFFD, control, format and private-use characters, but not TAB, LF, CR.
bool is_removed(char32_t c);
/// Turned into a space by text cleaning: TAB, LF, CR and the characters of category Z.
bool is_separator(char32_t c);
/// An ideograph, which is a word of its own. Kana and Hangul are not. U+2B820 to U+2B91F are not either, as in HF.
bool is_cjk(char32_t c);
/// A word of its own: every ASCII symbol and the characters of category P.
bool is_punctuation(char32_t c);
/// Category Mn: what stripping accents drops after decomposition.
bool is_nonspacing_mark(char32_t c);

/// Canonical decomposition (NFD) with canonical ordering. Where ordering moves marks, their origins do not move along:
/// the n-th character that began a decomposition gets the n-th origin, the others that of the character before, as in
/// HF. O(n), and O(r log r) for a run of r combining marks.
TracedText decompose(const TracedText& source);

/// Appends the lower-case form of c, without regard to its neighbours: the Greek final sigma stays a plain one.
void append_lower(TracedText& text, char32_t c, std::uint32_t from);

}  // namespace sinter::data
