// Optimizers whose parameters are on another device, against the CPU.
#include <gtest/gtest.h>

#include <cmath>
#include <functional>
#include <memory>

#include "core/ops/elementwise.h"
#include "core/ops/reduce.h"
#include "core/random.h"
#include "core/runtime/step_arena.h"
#include "optim/adamw.h"
#include "optim/clip.h"
#include "optim/sgd.h"
#include "tests/core/other_devices.h"
#include "tests/optim/queued_update_runs.h"

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

// The emulated device computes powers with the host's own function, so to the bit. A GPU's may be off by 2 units in
// the last place, which is 4 roundings. That moves the root of 1 - beta2^t by up to 2,000 / t roundings, and the step
// size by some 40: in 40 updates 2,000 * (1 + 1 / 2 + ... + 1 / 40) + 40 * 40 roundings, of steps that are about 0.02.
TEST_P(DeviceOptimizer, QueuedUpdatesFollowTheHost) {
  for (const testing::RunPlan& plan : testing::run_plans(GetParam(), 40)) {
    SCOPED_TRACE(std::string(name(plan.dtype)) + ", max_grad_norm " + std::to_string(plan.options.max_grad_norm) +
                 (plan.options.loss_scaler ? ", scaled" : ""));
    const double unit = plan.dtype == Dtype::f32 ? 0x1p-24 : 0x1p-53;
    const double tolerance = GetParam().type() == DeviceType::cuda ? 1500 * unit : 0;
    testing::expect_same_run(testing::run_queued(plan), testing::run_on_host(plan), tolerance);
  }
}

/// Forty updates with gradients and losses that change, some of them not finite; each put into the stream by the host's
/// code, or all but the first by launching a graph. The host waits for none of them.
testing::RunEnd forty_updates(Device device, bool replayed) {
  testing::RunPlan plan{.device = device};
  plan.options = {.max_grad_norm = 1, .loss_scaler = optim::LossScalerOptions{.growth_interval = 3},
                  .lr = {0, 0.01, 0.02, 0.015}};
  testing::TrainingRun run(plan);
  optim::QueuedUpdate update(run.optimizer(), plan.options);
  testing::MicroBatch batch;
  batch.gradients = {{0, Tensor::zeros({61, 83}, {Dtype::f32, device})}, {2, Tensor::zeros({7}, {Dtype::f32, device})}};
  batch.loss = Tensor::zeros({}, {Dtype::f32, device});
  const auto step = [&] {
    run.optimizer().zero_grad();
    run.loss_of(batch).backward(update.loss_gradient());
    update.add_loss(batch.loss);
    update.run();
  };
  StepGraph graph;
  StepArena arena(device);
  for (int i = 0; i < 40; ++i) {
    for (auto& [parameter, gradient] : batch.gradients) {
      normal_(gradient, 0, i % 2 == 0 ? 1 : 1e-3, 5, site_id("gradient") + static_cast<unsigned>(i));
      if (i % 8 == 5) gradient.flatten().narrow(0, 3, 1).fill_(HUGE_VAL);
    }
    batch.loss.fill_(i % 11 == 8 ? NAN : 0.5 + i);
    const std::uint64_t waits = Runtime::instance().counters(device).waits;
    if (i == 0 && replayed) {
      const StepPlan temporaries = arena.observe(step);
      graph = arena.capture(temporaries, step);
      continue;
    }
    if (!graph) step();
    if (graph) {
      graph.launch();
      update.count_replay();
    }
    EXPECT_EQ(Runtime::instance().counters(device).waits, waits);
  }
  std::vector<kernels::UpdateRecord> records = update.drain();
  return run.end(std::move(records), update.read_state());
}

TEST_P(DeviceOptimizer, AReplayedUpdateEqualsOneThatTheHostLaunches) {
  const testing::RunEnd launched = forty_updates(GetParam(), false), replayed = forty_updates(GetParam(), true);
  EXPECT_EQ(launched.records.size(), 40u);
  EXPECT_EQ(launched.state.adam_t, 40 - 5 - 3);   // infinite gradients, and losses that are NaN
  testing::expect_same_run(replayed, launched);
}

TEST_P(DeviceOptimizer, AHaltedRunLeavesTheWeightsAlone) {
  testing::RunPlan plan{.device = GetParam(), .hazard = 0};
  plan.options = {.loss_scaler = optim::LossScalerOptions{.init_scale = 1}, .lr = {0.1}};
  testing::TrainingRun run(plan);
  optim::QueuedUpdate update(run.optimizer(), plan.options);
  testing::queue_update(run, update);
  const std::vector<double> before = run.end({}, {}).values;
  update.add_loss(Tensor::full({}, HUGE_VAL, {Dtype::f32, GetParam()}));
  update.run();
  for (int i = 0; i < 3; ++i) testing::queue_update(run, update);
  EXPECT_EQ(run.end({}, {}).values, before);
  EXPECT_EQ(update.drain().back().halted, 1);
  EXPECT_EQ(run.optimizer().steps(), 1);
}

TEST_P(DeviceOptimizer, QueuedUpdatesAllocateNothing) {
  testing::RunPlan plan{.device = GetParam(), .hazard = 0};
  plan.options = {.max_grad_norm = 1, .loss_scaler = optim::LossScalerOptions{}, .lr = {0.1}};
  testing::TrainingRun run(plan);
  optim::QueuedUpdate update(run.optimizer(), plan.options);
  const Tensor loss = Tensor::full({}, 1, {Dtype::f32, GetParam()});
  const CachingAllocator& allocator = Runtime::instance().allocator(GetParam());
  const std::size_t before = allocator.stats().allocations;
  for (int i = 0; i < 3; ++i) {
    run.optimizer().zero_grad();
    update.add_loss(loss);
    update.run();
  }
  EXPECT_EQ(allocator.stats().allocations, before);
  EXPECT_EQ(update.drain().size(), 3u);
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
