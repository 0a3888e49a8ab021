// tokenizer.json: what is accepted makes a tokenizer or is refused by it, and survives being written.
#include "data/tokenizer_json.h"
#include "tests/fuzz/fuzz.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace sinter;
  const std::string_view bytes(reinterpret_cast<const char*>(data), size);
  fuzz::expect_value_or_sentence([&] {
    const data::TokenizerParts parts = data::read_tokenizer_json(fuzz::as_file(bytes));
    const data::BertTokenizer tokenizer(parts.vocabulary, parts.options);
    const std::string written = data::tokenizer_json(tokenizer).dump();
    const data::TokenizerParts again = data::read_tokenizer_json(fuzz::as_file(written));
    const data::BertTokenizer same(again.vocabulary, again.options);
    fuzz::require(data::tokenizer_json(same).dump() == written, "writing and reading keeps the tokenizer");
  });
  return 0;
}
