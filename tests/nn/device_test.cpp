// A BERT on another device than the CPU: the same logits and gradients, padded and packed; files that do not tell.
#include <gtest/gtest.h>

#include <cmath>
#include <fstream>
#include <sstream>

#include "nn/pretrained.h"
#include "tests/core/io/scratch_folder.h"
#include "tests/core/other_devices.h"
#include "tests/nn/small_bert.h"

namespace sinter {
namespace {

class DeviceBert : public ::testing::TestWithParam<Device> {
 protected:
  void SetUp() override {
    if (const std::string why = testing::why_not_on(there_); !why.empty()) GTEST_SKIP() << why;
  }
  const Device there_ = GetParam();
};

SINTER_ON_OTHER_DEVICES(DeviceBert);

/// Loss, logits and the gradients of all parameters, in f64.
std::vector<double> forward_and_backward(const nn::BertForSequenceClassification& model, const nn::BertInputs& inputs) {
  const nn::BertOutput output = model(inputs);
  output.loss.backward();
  std::vector<double> all = output.logits.detach().to_vector<double>();
  all.push_back(output.loss.item());
  for (Parameter& p : model.named_parameters()) {
    EXPECT_EQ(p.tensor.grad().device(), p.tensor.device());
    const std::vector<double> gradient = p.tensor.grad().to_vector<double>();
    all.insert(all.end(), gradient.begin(), gradient.end());
    p.tensor.zero_grad();
  }
  return all;
}

TEST_P(DeviceBert, ComputesWhatTheCpuComputes) {
  nn::BertConfig config = testing::small_config();
  config.hidden_dropout_prob = config.attention_probs_dropout_prob = 0.2;
  const auto here = testing::small_bert(config, Dtype::f64), there = testing::small_bert(config, Dtype::f64);
  there->to(there_);
  nn::BertInputs packed;
  packed.packing = Packing::packed({5, 1, 7});
  packed.input_ids = testing::random_ids({13});
  packed.labels = Tensor::from<std::int64_t>({1, 0, 1});
  nn::BertInputs padded;
  padded.input_ids = testing::random_ids({2, 6});
  padded.attention_mask = testing::grid({1, 1, 1, 1, 0, 0, 1, 1, 1, 1, 1, 1}, 2);
  padded.labels = Tensor::from<std::int64_t>({0, 1});
  nn::BertInputs holes = padded;
  holes.attention_mask = testing::grid({1, 0, 1, 1, 0, 1, 1, 1, 1, 1, 1, 1}, 2);
  for (const nn::BertInputs& inputs : {packed, padded, holes})
    for (const bool inputs_move : {false, true}) {
      nn::BertInputs moved = inputs;
      if (inputs_move)
        for (Tensor* x : {&moved.input_ids, &moved.attention_mask, &moved.labels})
          if (x->defined()) *x = x->to(there_);
      const StepScope step(3, 9, 4);
      const std::vector<double> expected = forward_and_backward(*here, inputs);
      const std::vector<double> found = forward_and_backward(*there, moved);
      ASSERT_EQ(found.size(), expected.size());
      // Sums of up to some hundred terms, through two layers and back.
      for (std::size_t i = 0; i < found.size(); ++i)
        ASSERT_NEAR(found[i], expected[i], 1000 * 0x1p-53 * std::max(1.0, std::abs(expected[i]))) << i;
    }
}

TEST_P(DeviceBert, FilesDoNotTellWhereItWas) {
  const testing::ScratchFolder folder;
  const auto contents = [&](const char* name) {
    std::ostringstream text;
    text << std::ifstream(folder / name / "model.safetensors", std::ios::binary).rdbuf();
    return text.str();
  };
  const auto model = testing::small_bert();
  nn::save_pretrained(*model, folder / "here");
  model->to(there_);
  nn::save_pretrained(*model, folder / "there");
  EXPECT_EQ(contents("there"), contents("here"));
  {
    const NoGradGuard guard;
    for (Parameter& p : model->named_parameters()) p.tensor.zero_();
  }
  nn::load_weights(*model, folder / "here" / "model.safetensors", true);
  EXPECT_EQ(model->named_parameters()[0].tensor.device(), there_);
  nn::save_pretrained(*model, folder / "again");
  EXPECT_EQ(contents("again"), contents("here"));
}

}  // namespace
}  // namespace sinter
