// What all copies of a tokenizer share. Only for the files that implement BertTokenizer.
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "data/added_tokens.h"
#include "data/basic_tokenizer.h"
#include "data/tokenizer.h"
#include "data/word_piece.h"

namespace sinter::data {

struct BertTokenizer::Tables {
  Tables(std::vector<std::string> vocabulary, const BertTokenizerOptions& options);

  /// Appends the tokens of a text, without [CLS] and [SEP]. Error usage for a text of 2^31 bytes or more.
  void append_tokens(std::string_view text, std::vector<Token>& tokens) const;
  /// Id of a token of the vocabulary or an added one; -1 if there is none.
  std::int32_t find(std::string_view token) const;

  BertTokenizerOptions options;
  NormalizerOptions normalizer;
  WordPiece word_piece;
  std::vector<AddedToken> added;   // by id; those at the end may lie behind the vocabulary
  std::vector<bool> is_special;    // of each id
  std::int32_t pad = -1, unk = -1, cls = -1, sep = -1, mask = -1;

 private:
  struct AsciiCharacter {
    char normalized = 0;   // as normalize_ascii says
    bool cuts = false;
  };

  void add_named_tokens();
  void check_added_tokens() const;
  void append_ordinary(std::string_view text, std::uint32_t first, std::vector<Token>& tokens) const;
  void append_ascii(std::string_view text, std::uint32_t first, std::vector<Token>& tokens) const;
  void append_words(const TracedText& text, std::size_t begin, std::size_t end, std::vector<Token>& tokens) const;
  void append_with_normalized_tokens(const TracedText& text, std::vector<Token>& tokens) const;

  std::array<AsciiCharacter, 128> ascii_;
  PatternFinder<char> raw_;
  PatternFinder<char32_t> normalized_;
};

}  // namespace sinter::data
