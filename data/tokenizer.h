// BERT's tokenizer, with the behaviour of Hugging Face's fast one (package `tokenizers`).
//
// In this order: added tokens such as [MASK] are found in the raw text; the text between them is cleaned, ideographs
// are set apart, accents are stripped (NFD without nonspacing marks), letters are lowered; words are cut at whitespace
// and around punctuation; each word is cut by WordPiece: the longest entry that starts it, then again with "##" before
// the rest. A word that cannot be cut to the end, or has more than 100 characters, is one [UNK]. Bytes that are not
// UTF-8 are dropped.
#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "data/added_tokens.h"
#include "data/batch_encoding.h"
#include "data/encoding.h"
#include "data/tokenize_options.h"

namespace sinter::data {

struct BertTokenizerOptions {
  bool do_lower_case = true;
  std::optional<bool> strip_accents = std::nullopt;  ///< unset: as do_lower_case
  bool tokenize_chinese_chars = true;
  std::string unk_token = "[UNK]";
  std::string sep_token = "[SEP]";
  std::string pad_token = "[PAD]";
  std::string cls_token = "[CLS]";
  std::string mask_token = "[MASK]";
  std::optional<std::int64_t> model_max_length = std::nullopt;   ///< tokens that the model takes; unset: not known
  Side padding_side = Side::right;
  Side truncation_side = Side::right;
  /// The five tokens above belong to these without being listed.
  std::vector<AddedToken> added_tokens = {};
};

/// The lines of a vocab.txt: UTF-8, one token a line, whitespace at line ends ignored. Error not_found if it is not
/// there, io if it cannot be read.
std::vector<std::string> read_vocabulary_file(const std::string& path);

/// Cheap to copy: copies share the vocabulary, which never changes.
class BertTokenizer {
 public:
  /// `vocabulary`: token i has id i. Error bad_input for a vocabulary that WordPiece refuses, for one without
  /// unk_token, sep_token, pad_token or cls_token (mask_token may be absent, and is then ordinary text), and for added
  /// tokens that contradict it or leave ids free.
  explicit BertTokenizer(std::vector<std::string> vocabulary, const BertTokenizerOptions& options = {});
  /// The tokenizer of a vocab.txt; errors name the file.
  static BertTokenizer from_vocab_file(const std::string& path, const BertTokenizerOptions& options = {});

  /// One row for each text. Error usage for options that contradict each other, a max_length without room for the
  /// special tokens, and a row that its truncation strategy cannot make short enough.
  BatchEncoding operator()(std::span<const std::string> texts, const TokenizeOptions& options = {}) const;
  /// Pairs: [CLS] text [SEP] text_pair [SEP]. Error usage also where there are more of one than of the other.
  BatchEncoding operator()(std::span<const std::string> texts, std::span<const std::string> text_pairs,
                           const TokenizeOptions& options = {}) const;

  /// The same for one text or pair; the row's ids, types and mask.
  Encoding encode(std::string_view text, const TokenizeOptions& options = {}) const;
  Encoding encode(std::string_view text, std::string_view text_pair, const TokenizeOptions& options = {}) const;
  /// The tokens of a text, without the special tokens that encode() adds.
  std::vector<std::string> tokens(std::string_view text) const;

  /// Joins tokens by spaces, glues "##" pieces, and removes the space before . , ! ? and English contractions such as
  /// "n't", where the vocabulary has them as tokens. Error usage for an id that no token has.
  std::string decode(std::span<const std::int32_t> ids, bool skip_special_tokens = false) const;

  /// Writes vocab.txt, without tokens that were added behind it; Error io with the path and the reason.
  void save_vocabulary(const std::string& path) const;
  /// Writes tokenizer.json, tokenizer_config.json, special_tokens_map.json and vocab.txt, each whole or not at all,
  /// into a folder that is created if need be. AutoTokenizer here and in transformers reads them as this tokenizer.
  void save_pretrained(const std::filesystem::path& folder) const;
  /// Name and content of the files that save_pretrained writes, for a caller that stages a folder itself.
  std::vector<std::pair<std::string, std::string>> pretrained_files() const;

  /// Tokens of the vocabulary, as HF's vocab_size: without tokens that were added behind it.
  std::int64_t vocab_size() const { return static_cast<std::int64_t>(vocabulary().size()); }
  /// All tokens, HF's len(tokenizer): a model needs as many rows of embeddings.
  std::int64_t size() const;
  const std::vector<std::string>& vocabulary() const;
  const BertTokenizerOptions& options() const;
  /// The added tokens in the order of their ids, the special ones included.
  const std::vector<AddedToken>& added_tokens() const;
  /// Text of a token. Error usage for an id that no token has.
  const std::string& convert_id_to_token(std::int32_t id) const;
  /// Id of a token, or unk_token_id().
  std::int32_t convert_token_to_id(std::string_view token) const;
  std::int32_t pad_token_id() const;
  std::int32_t unk_token_id() const;
  std::int32_t cls_token_id() const;
  std::int32_t sep_token_id() const;
  std::int32_t mask_token_id() const;   ///< -1 when there is none

 private:
  struct Tables;

  std::string vocabulary_text() const;   // of vocab.txt
  BatchEncoding encode_rows(std::span<const std::string_view> texts,
                            std::optional<std::span<const std::string_view>> text_pairs,
                            const TokenizeOptions& options) const;

  std::shared_ptr<const Tables> tables_;
};

}  // namespace sinter::data
