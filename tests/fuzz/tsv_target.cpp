// GLUE's files: the first byte chooses options, the rest is the file. Every row of an accepted file is whole.
#include "data/glue.h"
#include "tests/fuzz/fuzz.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace sinter;
  if (size == 0) return 0;
  const data::TsvOptions options = {
      .num_labels = data[0] % 4 + 1, .allow_unlabelled = (data[0] & 4) != 0, .strict_utf8 = (data[0] & 8) != 0};
  const std::string& path = fuzz::as_file({reinterpret_cast<const char*>(data + 1), size - 1});
  fuzz::expect_value_or_sentence([&] {
    const data::Examples examples = data::read_tsv(path, options);
    fuzz::require(examples.sentence.size() == examples.label.size(), "each sentence has a label");
    std::int64_t empty = 0;
    for (std::size_t i = 0; i < examples.sentence.size(); ++i) {
      const std::string& sentence = examples.sentence[i];
      fuzz::require(sentence.find_first_of("\t\n") == sentence.npos, "a sentence is a field of one line");
      fuzz::require(examples.label[i] < options.num_labels && examples.label[i] >= (options.allow_unlabelled ? -1 : 0),
                    "labels are in the set");
      empty += sentence.empty() ? 1 : 0;
    }
    fuzz::require(empty == examples.empty_sentences, "empty sentences are counted");
  });
  return 0;
}
