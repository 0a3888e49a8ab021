// vocab.txt: a tokenizer from an accepted vocabulary tokenizes, and decodes every id.
#include <numeric>
#include <vector>

#include "data/tokenizer.h"
#include "tests/fuzz/fuzz.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace sinter;
  const std::string& path = fuzz::as_file({reinterpret_cast<const char*>(data), size});
  fuzz::expect_value_or_sentence([&] {
    const data::BertTokenizer tokenizer = data::BertTokenizer::from_vocab_file(path);
    std::vector<std::int32_t> ids(static_cast<std::size_t>(tokenizer.size()));
    std::iota(ids.begin(), ids.end(), 0);
    const std::string text = tokenizer.decode(ids);
    for (const std::int32_t id : tokenizer.encode(text).ids)
      fuzz::require(id >= 0 && id < tokenizer.size(), "ids are of the vocabulary");
  });
  return 0;
}
