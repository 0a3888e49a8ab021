// The first half of BERT's tokenizer: from bytes to words.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "data/unicode.h"

namespace sinter::data {

struct NormalizerOptions {
  bool do_lower_case = true;
  std::optional<bool> strip_accents = std::nullopt;  ///< unset: as do_lower_case
  bool tokenize_chinese_chars = true;
};

/// In this order: bytes that are not UTF-8 and control characters are dropped, whitespace becomes spaces,
/// ideographs get a space on both sides, accents are stripped (NFD without nonspacing marks), letters are lowered.
/// The source's characters are numbered from `first`; each maximal ill-formed byte sequence counts as one.
/// What stands left and right of an ASCII space does not influence each other, so a text may be normalized in parts.
/// Memory: some 30 bytes for each byte of text.
TracedText normalize(std::string_view text, const NormalizerOptions& options, std::uint32_t first = 0);

/// What normalize() makes of an ASCII character: 0 drops it, ' ' separates words, else a part of a word.
char normalize_ascii(char c, bool do_lower_case);

/// A word of its own, such as every ASCII symbol.
bool cuts_word(char32_t c);

/// The words of a normalized text: cut at spaces, each punctuation character a word of its own. Views into the text.
std::vector<std::u32string_view> split_words(std::u32string_view normalized);

}  // namespace sinter::data
