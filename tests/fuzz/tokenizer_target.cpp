// The tokenizer on any bytes: two bytes choose options, the rest is the text, and behind a TAB its pair.
#include <vector>

#include "data/tokenizer.h"
#include "data/utf8.h"
#include "tests/fuzz/fuzz.h"

namespace {

using namespace sinter;

/// Letters and digits as words and as "##" pieces, some whole words, punctuation, an ideograph, an added token.
data::BertTokenizer make_tokenizer(bool lower, bool chinese) {
  std::vector<std::string> vocabulary = {"[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "the", "film", "##ing", "##s",
                                         "un",    "##un",  "i",     "##\xCC\x81", "\xE4\xB8\xAD", "\xCF\x83"};
  for (char c = 'a'; c <= 'y'; ++c)  // no z: some words are unknown
    for (const char* prefix : {"", "##"})
      if (const std::string token = std::string(prefix) + c; token != "i" && token != "##s")
        vocabulary.push_back(token);
  for (const char* sign : {".", ",", "!", "?", "'", "\"", "-", "(", ")", "0", "1", "##0", "##1"})
    vocabulary.push_back(sign);
  const auto next_id = static_cast<std::int32_t>(vocabulary.size());
  return data::BertTokenizer(vocabulary, {.do_lower_case = lower, .tokenize_chinese_chars = chinese,
                                          .added_tokens = {{.content = "<x>", .id = next_id}}});
}

std::int64_t characters(std::string_view text) {
  std::int64_t count = 0;
  for (; !text.empty(); ++count) text.remove_prefix(data::decode_utf8(text).length);
  return count;
}

void check_row(const data::BertTokenizer& tokenizer, const data::BatchEncoding& batch, std::int64_t longest_text) {
  const auto ids = batch.input_ids[0];
  const auto types = (*batch.token_type_ids)[0], mask = (*batch.attention_mask)[0];
  const auto offsets = (*batch.offset_mapping)[0];
  fuzz::require(types.size() == ids.size() && mask.size() == ids.size() && offsets.size() == 2 * ids.size(),
                "all lists of a row have the same length");
  for (std::size_t i = 0; i < ids.size(); ++i) {
    fuzz::require(ids[i] >= 0 && ids[i] < tokenizer.size(), "ids are of the vocabulary");
    fuzz::require((types[i] == 0 || types[i] == 1) && (mask[i] == 0 || mask[i] == 1), "types and mask are 0 or 1");
    fuzz::require(offsets[2 * i] >= 0 && offsets[2 * i] <= offsets[2 * i + 1] && offsets[2 * i + 1] <= longest_text,
                  "offsets lie in the text");
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  static const data::BertTokenizer tokenizers[] = {make_tokenizer(false, false), make_tokenizer(true, false),
                                                   make_tokenizer(false, true), make_tokenizer(true, true)};
  if (size < 2) return 0;
  const data::BertTokenizer& tokenizer = tokenizers[data[0] % 4];
  const std::string_view all(reinterpret_cast<const char*>(data + 2), size - 2);
  const std::size_t tab = (data[0] & 4) != 0 ? all.find('\t') : all.npos;
  const std::vector<std::string> texts = {std::string(all.substr(0, tab))};
  const std::vector<std::string> pairs = {tab == all.npos ? "" : std::string(all.substr(tab + 1))};
  data::TokenizeOptions options = {.return_offsets_mapping = true, .num_threads = 1};
  options.add_special_tokens = (data[0] & 8) == 0;
  if ((data[0] & 16) != 0) {
    options.truncation = true;
    options.max_length = data[1] % 32 + 3;
  }
  if ((data[0] & 32) != 0) options.padding_side = data::Side::left;
  if ((data[0] & 64) != 0 && options.max_length) options.padding = "max_length";
  fuzz::expect_value_or_sentence([&] {
    const data::BatchEncoding batch =
        tab == all.npos ? tokenizer(texts, options) : tokenizer(texts, pairs, options);
    check_row(tokenizer, batch, std::max(characters(texts[0]), characters(pairs[0])));
    const auto ids = batch.input_ids[0];
    if (options.max_length)
      fuzz::require(static_cast<std::int64_t>(ids.size()) <= *options.max_length, "truncation keeps max_length");
    const std::string decoded = tokenizer.decode(std::vector<std::int32_t>(ids.begin(), ids.end()));
    fuzz::require(data::first_invalid_utf8(decoded) == decoded.size(), "what is decoded is UTF-8");
  });
  return 0;
}
