// Optimizers whose parameters are on another device, against the CPU.
#include <gtest/gtest.h>

#include <cmath>
#include <functional>
#include <memory>

#include "core/ops/elementwise.h"
#include "core/ops/reduce.h"
#include "core/random.h"
#include "optim/adamw.h"
#include "optim/clip.h"
#include "optim/sgd.h"
#include "tests/core/other_devices.h"

namespace sinter {
namespace {

class DeviceOptimizer : public ::testing::TestWithParam<Device> {
 protected:
  void SetUp() override {
    if (const std::string why = testing::why_not_on(GetParam()); !why.empty()) GTEST_SKIP() << why;
  }
};

SINTER_ON_OTHER_DEVICES(DeviceOptimizer);

struct Outcome {
  std::vector<double> values, norms;
};

using MakeOptimizer = std::function<std::unique_ptr<optim::Optimizer>(std::vector<optim::ParameterGroup>)>;

/// Three clipped steps on two groups of f64 parameters, of which one gets no gradient.
Outcome train_on(Device device, const MakeOptimizer& make) {
  std::vector<Parameter> parameters;
  for (const auto& [name, shape] : {std::pair{"large", Shape{301, 17}}, {"unused", Shape{5}}, {"small", Shape{7}}}) {
    Tensor x = Tensor::empty(shape, {Dtype::f64, device});
    normal_(x, 0, 1, 3, site_id(name));
    parameters.push_back({name, x.set_requires_grad()});
  }
  const auto optimizer = make({{{parameters[0], parameters[1]}, 0.01}, {{parameters[2]}, 0}});
  Outcome outcome;
  for (int step = 0; step < 3; ++step) {
    optimizer->zero_grad();
    const Tensor loss = sum(parameters[0].tensor * parameters[0].tensor) + sum(sin(parameters[2].tensor));
    loss.backward();
    const optim::GradNorm norm = optim::clip_grad_norm(optimizer->parameters(), 1);
    EXPECT_FALSE(norm.nonfinite);
    outcome.norms.push_back(norm.norm);
    optimizer->step(norm.coefficient);
  }
  outcome.values = optimizer->parameters().values().to_vector<double>();
  EXPECT_EQ(parameters[0].tensor.device(), device);
  return outcome;
}

void expect_follows_the_cpu(Device device, const MakeOptimizer& make) {
  const Outcome here = train_on(Device::cpu(), make), there = train_on(device, make);
  ASSERT_EQ(there.values.size(), here.values.size());
  // Three steps of some ten roundings each, and a norm over 5,000 squares whose sum is taken in another order.
  constexpr double kUnit = 0x1p-53;
  for (std::size_t i = 0; i < here.values.size(); ++i) ASSERT_NEAR(there.values[i], here.values[i], 100 * kUnit) << i;
  for (std::size_t i = 0; i < 3; ++i) EXPECT_NEAR(there.norms[i] / here.norms[i], 1, 5000 * kUnit);
  EXPECT_EQ(train_on(device, make).values, there.values);
}

TEST_P(DeviceOptimizer, AdamWFollowsTheCpu) {
  expect_follows_the_cpu(GetParam(), [](std::vector<optim::ParameterGroup> groups) {
    return std::make_unique<optim::AdamW>(std::move(groups), optim::AdamWOptions{.lr = 0.01});
  });
}

TEST_P(DeviceOptimizer, SgdFollowsTheCpu) {
  expect_follows_the_cpu(GetParam(), [](std::vector<optim::ParameterGroup> groups) {
    return std::make_unique<optim::Sgd>(std::move(groups), optim::SgdOptions{.lr = 0.01, .momentum = 0.9});
  });
}

TEST_P(DeviceOptimizer, ANormThatIsNotFiniteIsSeen) {
  Tensor x = Tensor::ones({5000}, {Dtype::f32, GetParam()});
  FlatParameters flat = FlatParameters::adopt({{{"x", x.set_requires_grad()}}});
  flat.zero_grad();
  x.backward(Tensor::full({5000}, HUGE_VAL, {Dtype::f32, GetParam()}));
  EXPECT_TRUE(optim::clip_grad_norm(flat, 1).nonfinite);
}

}  // namespace
}  // namespace sinter
