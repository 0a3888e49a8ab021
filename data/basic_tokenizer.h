// The first half of BERT's tokenizer: from bytes to words.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace sinter::data {

struct BertTokenizerOptions {
  bool do_lower_case = true;
  std::optional<bool> strip_accents = std::nullopt;  ///< unset: as do_lower_case
  bool tokenize_chinese_chars = true;
};

/// In this order: bytes that are not UTF-8 and control characters are dropped, whitespace becomes spaces,
/// ideographs get a space on both sides, accents are stripped (NFD without nonspacing marks), letters are lowered.
/// Memory: some 12 bytes for each byte of text.
std::u32string normalize(std::string_view text, const BertTokenizerOptions& options);

/// The words of a normalized text: cut at spaces, each punctuation character a word of its own. Views into the text.
std::vector<std::u32string_view> split_words(std::u32string_view normalized);

}  // namespace sinter::data
