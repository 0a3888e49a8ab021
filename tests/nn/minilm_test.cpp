// A real pretrained BERT: all-MiniLM-L6-v2 against the logits that transformers computes.
#include <gtest/gtest.h>

#include "core/autograd/mode.h"
#include "nn/pretrained.h"
#include "tests/nn/golden.h"

namespace sinter {
namespace {

using testing::read_tensor;
using testing::values;

// transformers' own f32 logits are 1e-6 away from its f64 ones; 1e-4 is the promise of the project for a real model.
TEST(MiniLM, LogitsEqualHuggingFaces) {
  const std::filesystem::path folder = std::filesystem::path(SINTER_SOURCE_DIR) / "out/minilm";
  if (!std::filesystem::exists(folder / "logits.safetensors"))
    GTEST_SKIP() << "no out/minilm; python3 tests/golden/make_minilm.py out/minilm SST-2/dev.tsv makes it";
  const SafetensorsFile facts(folder / "logits.safetensors");
  const auto model = nn::AutoModelForSequenceClassification::from_pretrained(folder / "classifier");
  model->eval();
  const NoGradGuard guard;
  nn::BertInputs inputs;
  inputs.input_ids = read_tensor(facts, "input_ids");
  inputs.attention_mask = read_tensor(facts, "attention_mask");
  inputs.token_type_ids = read_tensor(facts, "token_type_ids");
  for (const char* name : {"logits", "logits_f64"}) {
    const std::vector<double> expected = values(read_tensor(facts, name)), actual = values((*model)(inputs).logits);
    ASSERT_EQ(actual.size(), expected.size());
    for (std::size_t i = 0; i < expected.size(); ++i) EXPECT_NEAR(actual[i], expected[i], 1e-4) << name << " " << i;
  }
}

}  // namespace
}  // namespace sinter
