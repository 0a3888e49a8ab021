// Tokenizers as Hugging Face stores them.
#pragma once

#include <string>

#include "data/tokenizer.h"

namespace sinter::data {

/// Every file of a folder that from_pretrained may take a part of the tokenizer from.
inline constexpr const char* kTokenizerFiles[] = {"tokenizer.json", "vocab.txt", "tokenizer_config.json",
                                                  "special_tokens_map.json", "added_tokens.json"};

class AutoTokenizer {
 public:
  /// The tokenizer of a folder, or of a name in HF's cache (core/io/hub_cache.h says where that is, and gives the
  /// command that fetches a name which is not there). Reads tokenizer.json, or else vocab.txt, and, where they exist,
  /// tokenizer_config.json, special_tokens_map.json, added_tokens.json and config.json. As in transformers:
  ///
  ///   - tokenizer_class BertTokenizer(Fast), or none beside a config.json of model_type "bert": do_lower_case,
  ///     strip_accents and tokenize_chinese_chars come from tokenizer_config.json, by default true, unset and true,
  ///     even where tokenizer.json says otherwise;
  ///   - tokenizer_class PreTrainedTokenizerFast or TokenizersBackend, or none: they come from tokenizer.json;
  ///   - model_max_length, padding_side, truncation_side and the names of the special tokens come from
  ///     tokenizer_config.json. A model_max_length above 10^20 means that it is not known.
  ///
  /// Errors as read_tokenizer_json's and BertTokenizer's, with the file; unsupported for another tokenizer_class.
  static BertTokenizer from_pretrained(const std::string& name_or_path);
};

}  // namespace sinter::data
