#include "core/runtime/launch_trace.h"

#include <gtest/gtest.h>

#include "core/ops/elementwise.h"
#include "core/ops/matmul.h"
#include "core/ops/reduce.h"
#include "core/runtime/runtime.h"
#include "core/runtime/step_arena.h"
#include "core/tensor.h"
#include "nn/layers.h"
#include "tests/core/expect_error.h"
#include "tests/core/other_devices.h"

namespace sinter {
namespace {

using kernels::KernelId;

class LaunchTraceOn : public ::testing::TestWithParam<Device> {
 protected:
  void SetUp() override {
    if (const std::string why = testing::why_not_on(GetParam()); !why.empty()) GTEST_SKIP() << why;
  }
};

std::vector<KernelId> kernels_of(const std::vector<TracedLaunch>& launches) {
  std::vector<KernelId> ids;
  for (const TracedLaunch& launch : launches) ids.push_back(launch.kernel);
  return ids;
}

TEST_P(LaunchTraceOn, NamesWhatRunsAndWhatItCosts) {
  const TensorOptions options{Dtype::f32, GetParam()};
  const Tensor a = Tensor::ones({32, 16}, options), b = Tensor::ones({16, 8}, options);
  LaunchTrace trace(GetParam());
  const Tensor c = matmul(a, b) + 1.0;
  trace.stop();
  const Tensor untraced = c + 1.0;
  const std::vector<TracedLaunch> launches = trace.launches();
  ASSERT_EQ(kernels_of(launches), (std::vector{KernelId::gemm, KernelId::unary}));
  EXPECT_EQ(launches[0].op, "matmul");
  EXPECT_EQ(launches[0].cost.flops, 2.0 * 32 * 16 * 8);
  EXPECT_EQ(launches[0].cost.bytes_read, 4.0 * (32 * 16 + 16 * 8));
  EXPECT_EQ(launches[1].cost.bytes_written, 4.0 * 32 * 8);
  EXPECT_STRNE(launches[0].variant, "");
  EXPECT_GT(launches[0].microseconds + launches[1].microseconds, 0);   // a GPU's clock is coarse
}

TEST_P(LaunchTraceOn, TellsPhasesAndModules) {
  nn::Linear linear(8, 4);
  nn::init_weights(linear, 0.1, 1);
  linear.to(GetParam());
  const Tensor x = Tensor::ones({2, 8}, {Dtype::f32, GetParam()});
  LaunchTrace trace(GetParam());
  const Tensor loss = sum(linear(x));
  loss.backward();
  {
    const NoGradGuard no_grad;
    linear.weight.zero_();   // no op of a model
  }
  trace.stop();
  const std::vector<TracedLaunch> launches = trace.launches();
  ASSERT_GE(launches.size(), 4u);
  EXPECT_EQ(launches.front().phase, StepPhase::forward);
  EXPECT_EQ(launches.front().kernel, KernelId::gemm);
  EXPECT_EQ(launches.back().phase, StepPhase::update);
  std::int64_t backward_products = 0;
  for (const TracedLaunch& launch : launches)
    if (launch.phase == StepPhase::backward && launch.kernel == KernelId::gemm) ++backward_products;
  EXPECT_EQ(backward_products, 1);   // of the weight; x wants none
}

TEST_P(LaunchTraceOn, TheInnerTraceNotes) {
  const Tensor a = Tensor::ones({4}, {Dtype::f32, GetParam()});
  LaunchTrace outer(GetParam());
  const Tensor b = a + 1.0;
  {
    LaunchTrace inner(GetParam());
    const Tensor c = a * 2.0;
    inner.stop();
    EXPECT_EQ(inner.launches().size(), 1u);
  }
  const Tensor d = a + 3.0;
  testing::expect_error([&] { outer.launches(); }, ErrorCode::usage, "when it has been stopped");
  outer.stop();
  EXPECT_EQ(outer.launches().size(), 2u);
}

TEST_P(LaunchTraceOn, OtherDevicesAreNotTraced) {
  const Device other = GetParam().is_cpu() ? Device::simt() : Device::cpu();
  if (const std::string why = testing::why_not_on(other); !why.empty()) GTEST_SKIP() << why;
  const Tensor a = Tensor::ones({4}, {Dtype::f32, other});
  LaunchTrace trace(GetParam());
  const Tensor b = a + 1.0;
  trace.stop();
  EXPECT_TRUE(trace.launches().empty());
}

INSTANTIATE_TEST_SUITE_P(Devices, LaunchTraceOn, ::testing::Values(Device::cpu(), Device::simt(), Device::cuda()),
                         testing::name_of);

class CapturedTraceOn : public LaunchTraceOn {};

TEST_P(CapturedTraceOn, EveryReplayIsTimedAnew) {
  Tensor x = Tensor::zeros({64}, {Dtype::f32, GetParam()});
  StepArena arena(GetParam());
  const auto step = [&] { x.copy_((x + 1.0) * 2.0); };
  const StepPlan plan = arena.observe(step);
  LaunchTrace trace(GetParam());
  const StepGraph graph = arena.capture(plan, step);
  trace.stop();
  // On a GPU as in the emulation: a time that no run has written is an error, and not a figure.
  EXPECT_THROW(trace.launches(), Error);
  graph.launch();
  const std::vector<TracedLaunch> once = trace.launches();
  ASSERT_EQ(kernels_of(once), (std::vector{KernelId::unary, KernelId::unary, KernelId::copy}));
  bool changed = false;
  for (int replay = 0; replay < 20 && !changed; ++replay) {
    graph.launch();
    const std::vector<TracedLaunch> again = trace.launches();
    for (std::size_t i = 0; i < again.size(); ++i) changed = changed || again[i].microseconds != once[i].microseconds;
  }
  EXPECT_TRUE(changed);
}

SINTER_ON_OTHER_DEVICES(CapturedTraceOn);

}  // namespace
}  // namespace sinter
