// BERT in mixed precision whose weights have copies and gradients in 16 bits: fewer launches, the same bits.
#include <gtest/gtest.h>

#include <memory>

#include "core/runtime/runtime.h"
#include "nn/layers.h"
#include "optim/adamw.h"
#include "optim/clip.h"
#include "tests/core/other_devices.h"
#include "tests/nn/small_bert.h"

namespace sinter {
namespace {

class LowCopiesOfBert : public ::testing::TestWithParam<Device> {
 protected:
  void SetUp() override {
    if (const std::string why = testing::why_not_on(GetParam()); !why.empty()) GTEST_SKIP() << why;
  }
};

SINTER_ON_OTHER_DEVICES(LowCopiesOfBert);

enum class Keep { nothing, copy, copy_and_gradients };

struct Outcome {
  std::vector<float> values;
  std::vector<double> norms, gradient;
  std::uint64_t launches = 0;   ///< of the last step
  std::uint64_t linears = 0;
};

Outcome train(Device device, Dtype dtype, Keep keep) {
  nn::BertConfig config = testing::small_config();
  config.hidden_size = 64;
  config.intermediate_size = 128;
  const auto model = testing::small_bert(config);
  model->to(device);
  model->set_compute_dtype(dtype);
  std::vector<std::string> names;
  for (const auto& [path, module] : model->named_modules())
    if (dynamic_cast<nn::Linear*>(module) != nullptr) names.push_back(path + ".weight");
  optim::AdamW optimizer({{model->named_parameters(), 0.01}}, {.lr = 1e-3});
  if (keep != Keep::nothing) optimizer.parameters().keep_low_copy(dtype, names, keep == Keep::copy_and_gradients);
  nn::BertInputs inputs;
  inputs.packing = Packing::packed({5, 1, 7});
  inputs.input_ids = testing::random_ids({13});
  inputs.labels = Tensor::from<std::int64_t>({1, 0, 1});
  Outcome outcome;
  outcome.linears = names.size();
  for (int step = 0; step < 3; ++step) {
    const std::uint64_t before = Runtime::instance().counters(device).launches;
    optimizer.zero_grad();
    (*model)(inputs).loss.backward();
    const optim::GradNorm norm = optim::clip_grad_norm(optimizer.parameters(), 1);
    optimizer.step(norm.coefficient);
    outcome.norms.push_back(norm.norm);
    outcome.launches = Runtime::instance().counters(device).launches - before;
  }
  for (const Parameter& p : model->named_parameters()) {
    const std::vector<double> gradient = p.tensor.grad().to(Dtype::f64).to_vector<double>();
    outcome.gradient.insert(outcome.gradient.end(), gradient.begin(), gradient.end());
  }
  outcome.values = optimizer.parameters().values().to_vector<float>();
  return outcome;
}

// Every weight is used once in a step, so its gradient is one product that was rounded: the same in each way.
TEST_P(LowCopiesOfBert, SaveLaunchesAndChangeNoBit) {
  for (const Dtype dtype : {Dtype::f16, Dtype::bf16}) {
    SCOPED_TRACE(name(dtype));
    const Outcome casts = train(GetParam(), dtype, Keep::nothing);
    EXPECT_EQ(casts.linears, 2u * 6 + 2);
    std::uint64_t launches = casts.launches;
    for (const Keep keep : {Keep::copy, Keep::copy_and_gradients}) {
      const Outcome kept = train(GetParam(), dtype, keep);
      EXPECT_EQ(kept.values, casts.values);
      EXPECT_EQ(kept.norms, casts.norms);
      EXPECT_EQ(kept.gradient, casts.gradient);
      launches -= casts.linears;   // first the cast of each weight, then that of its gradient
      EXPECT_EQ(kept.launches, launches);
    }
  }
}

}  // namespace
}  // namespace sinter
