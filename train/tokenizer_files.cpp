#include "train/tokenizer_files.h"

#include "core/io/json.h"

namespace sinter::train {

std::vector<std::pair<std::string, std::string>> tokenizer_files(const data::BertTokenizer& tokenizer,
                                                                 std::int64_t max_length) {
  std::string vocabulary;
  for (const std::string& token : tokenizer.vocabulary()) vocabulary += token + "\n";
  const data::BertTokenizerOptions& options = tokenizer.options();
  const Json config = Json::object({
      {"cls_token", "[CLS]"},
      {"do_lower_case", options.do_lower_case},
      {"mask_token", "[MASK]"},
      {"model_max_length", max_length},
      {"pad_token", "[PAD]"},
      {"sep_token", "[SEP]"},
      {"strip_accents", options.strip_accents ? Json(*options.strip_accents) : Json()},
      {"tokenize_chinese_chars", options.tokenize_chinese_chars},
      {"tokenizer_class", "BertTokenizer"},
      {"unk_token", "[UNK]"},
  });
  return {{"vocab.txt", std::move(vocabulary)}, {"tokenizer_config.json", config.dump({.sort_keys = true}) + "\n"}};
}

}  // namespace sinter::train
