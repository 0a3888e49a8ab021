// BERT's tokenizer, with the behaviour of Hugging Face's fast one (package `tokenizers`).
//
// In this order: special tokens are found in the raw text; the text between them is cleaned, ideographs are set
// apart, accents are stripped (NFD without nonspacing marks), letters are lowered; words are cut at whitespace and
// around punctuation; each word is cut by WordPiece: the longest entry that starts it, then again with "##" before
// the rest. A word that cannot be cut to the end, or has more than 100 characters, is one [UNK]. Bytes that are not
// UTF-8 are dropped.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "data/basic_tokenizer.h"
#include "data/encoding.h"

namespace sinter::data {

struct EncodeOptions {
  bool truncation = false;         ///< cut to max_length; of a pair the longer text loses first ("longest_first")
  std::int64_t max_length = 512;   ///< counts the special tokens
};

class BertTokenizer {
 public:
  /// `vocabulary`: token i has id i. ErrorCode::bad_input for an empty vocabulary, an entry that is empty or no
  /// UTF-8, an entry that is there twice, or one of [PAD] [UNK] [CLS] [SEP] missing. [MASK] may be absent.
  explicit BertTokenizer(std::vector<std::string> vocabulary, const BertTokenizerOptions& options = {});
  /// Reads vocab.txt: UTF-8, one token a line, whitespace at line ends ignored. Errors name the file; not_found if
  /// it is not there, io if it cannot be read.
  static BertTokenizer from_vocab_file(const std::string& path, const BertTokenizerOptions& options = {});

  /// [CLS] text [SEP]. ErrorCode::usage if truncation is on and max_length has no room for the special tokens (2; 3
  /// for a pair).
  Encoding encode(std::string_view text, const EncodeOptions& options = {}) const;
  /// [CLS] text [SEP] text_pair [SEP], token types 0 up to the first [SEP] and 1 behind it.
  Encoding encode(std::string_view text, std::string_view text_pair, const EncodeOptions& options = {}) const;
  /// encode() of each text, on `threads` threads (at least 1); the result does not depend on their number.
  std::vector<Encoding> encode_batch(std::span<const std::string> texts, const EncodeOptions& options = {},
                                     int threads = 1) const;
  /// The tokens of a text, without the special tokens that encode() adds.
  std::vector<std::string> tokens(std::string_view text) const;

  /// Joins tokens by spaces, glues "##" pieces, and removes the space before . , ! and ?
  /// ErrorCode::usage for an id outside the vocabulary.
  std::string decode(std::span<const std::int32_t> ids, bool skip_special_tokens = false) const;

  /// Writes vocab.txt; ErrorCode::io with the path and the reason.
  void save_vocabulary(const std::string& path) const;

  std::int64_t vocab_size() const { return static_cast<std::int64_t>(vocabulary_.size()); }
  const std::vector<std::string>& vocabulary() const { return vocabulary_; }
  const BertTokenizerOptions& options() const { return options_; }
  /// Id of a token, or unk_token_id().
  std::int32_t convert_token_to_id(std::string_view token) const;
  std::int32_t pad_token_id() const { return special_[0].id; }
  std::int32_t unk_token_id() const { return special_[1].id; }
  std::int32_t cls_token_id() const { return special_[2].id; }
  std::int32_t sep_token_id() const { return special_[3].id; }
  std::int32_t mask_token_id() const { return special_[4].id; }  ///< -1 when the vocabulary has no [MASK]

 private:
  using Ids = std::vector<std::int32_t>;
  struct SpecialToken {
    std::string_view text;
    std::int32_t id = -1;
  };

  void index_vocabulary();
  std::int32_t find(std::string_view token) const;
  Ids tokenize(std::string_view text) const;
  void tokenize_ordinary(std::string_view text, Ids& ids) const;
  void tokenize_word(std::u32string_view word, Ids& ids) const;
  Encoding build(const Ids& first, const Ids* second) const;

  // Tokens that start with "##" are in continuation_, keyed by what follows, the others in start_.
  struct Hash {
    using is_transparent = void;
    std::size_t operator()(std::string_view text) const { return std::hash<std::string_view>{}(text); }
  };
  using Index = std::unordered_map<std::string, std::int32_t, Hash, std::equal_to<>>;

  BertTokenizerOptions options_;
  std::vector<std::string> vocabulary_;
  Index start_;
  Index continuation_;
  std::size_t longest_token_ = 0;  // bytes; no longer prefix of a word needs a look-up
  SpecialToken special_[5] = {{"[PAD]"}, {"[UNK]"}, {"[CLS]"}, {"[SEP]"}, {"[MASK]"}};
};

}  // namespace sinter::data
