// tokenizer.json, the file format of Hugging Face's `tokenizers`, as far as a BERT tokenizer needs it.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "core/io/json.h"
#include "data/tokenizer.h"

namespace sinter::data {

struct TokenizerParts {
  std::vector<std::string> vocabulary;
  BertTokenizerOptions options;
};

/// What a tokenizer.json says: the vocabulary, the normalizer's options, the added tokens, the names of unk_token,
/// cls_token and sep_token. `truncation` and `padding` are not read: a published file carries those of whoever saved it
/// last, and HF overrides them in each call.
///
/// Error bad_input where a field is missing or wrong, an id is given twice, or ids have a hole. Error unsupported, with
/// the field, for a model that is not WordPiece with "##" and 100 characters a word, another normalizer, pre_tokenizer,
/// decoder or template than BERT's, and added tokens with single_word, lstrip or rstrip.
TokenizerParts read_tokenizer_json(const std::filesystem::path& path);
/// The file that read_tokenizer_json and HF's library read as this tokenizer.
Json tokenizer_json(const BertTokenizer& tokenizer);

/// One entry of added_tokens or added_tokens_decoder. `normalized` and `special` may be missing: not, and special.
/// `source` is the file, for messages.
AddedToken read_added_token(const Json& entry, std::int64_t id, const std::string& source);

}  // namespace sinter::data
