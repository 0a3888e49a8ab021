// Gradients of several ranks, added up while backward goes on.
#include "train/ranks/gradient_reducer.h"

#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <optional>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "core/autograd/checkpoint.h"
#include "core/autograd/mode.h"
#include "core/ops/elementwise.h"
#include "core/ops/matmul.h"
#include "core/ops/reduce.h"
#include "core/random.h"
#include "tests/core/expect_error.h"
#include "tests/core/other_devices.h"

namespace sinter::train {
namespace {

/// A chain of layers without a bias; in a second group their gains, and one that nobody uses.
struct Chain {
  static constexpr int kLayers = 4;
  static constexpr std::int64_t kWidth = 48;   // a layer is 9 KiB

  explicit Chain(Device device = Device::cpu()) {
    const auto parameter = [&](const std::string& name, Shape shape, std::uint32_t site) {
      Tensor host = Tensor::empty(shape);
      normal_(host, 0, 0.2, 3, site);
      Tensor made = host.to(device);
      made.set_requires_grad(true);
      parameters.push_back({name, made});
      return made;
    };
    parameter("unused", {kWidth}, 99);
    for (int i = 0; i < kLayers; ++i) {
      layers.push_back(parameter("layer." + std::to_string(i), {kWidth, kWidth}, static_cast<std::uint32_t>(i)));
      if (i + 1 < kLayers)
        gains.push_back(parameter("gain." + std::to_string(i), {kWidth}, static_cast<std::uint32_t>(100 + i)));
    }
    ParameterList first, second;
    for (const Parameter& p : parameters) (p.name.starts_with("layer") ? first : second).push_back(p);
    flat = FlatParameters::adopt({first, second});
  }

  Tensor loss(int step, int part) {
    Tensor x = Tensor::empty({5, kWidth});
    normal_(x, 0, 1, 11, static_cast<std::uint32_t>(100 * step + part));
    x = x.to(layers[0].device());
    for (int i = 0; i < kLayers; ++i) {
      x = matmul(x, layers[static_cast<std::size_t>(i)]);
      if (i + 1 < kLayers) x = x * gains[static_cast<std::size_t>(i)];
    }
    return sum(x * x);
  }

  std::vector<float> gradients() { return flat.gradients().to(Device::cpu()).to_vector<float>(); }

  ParameterList parameters;
  std::vector<Tensor> layers, gains;
  FlatParameters flat;
};

/// Micro-batches of a rank in a step: the last one runs out of them.
int batches_of(int rank, int ranks, int step) { return rank + 1 == ranks ? 2 - step : 2; }

// Whatever the buckets are: what each rank accumulated, added in their order. A rank without a batch adds nothing.
TEST(GradientReducer, AddsUpWhatEachRankAccumulated) {
  for (const int ranks : {2, 3}) {
    constexpr int kSteps = 3;
    std::vector<std::vector<float>> expected;
    Chain alone;
    for (int step = 0; step < kSteps; ++step) {
      Tensor total;
      for (int rank = 0; rank < ranks; ++rank) {
        alone.flat.zero_grad();
        const int batches = batches_of(rank, ranks, step);
        for (int i = 0; i < batches; ++i) alone.loss(step, 2 * rank + i).backward();
        alone.flat.settle_gradients();
        if (batches > 0) total = total.defined() ? total + alone.flat.gradients() : alone.flat.gradients().clone();
      }
      expected.push_back(total.to_vector<float>());
    }
    for (const auto& [bucket_bytes, buckets] : {std::pair{0, 1}, {1, 8}, {20'000, 3}, {1'000'000, 2}}) {
      LocalSim::run(ranks, [&](ProcessGroup& group) {
        Chain mine;
        GradientReducer reducer(mine.flat, mine.parameters, group, bucket_bytes);
        EXPECT_EQ(reducer.bucket_count(), buckets);
        for (int step = 0; step < kSteps; ++step) {
          mine.flat.zero_grad();
          const int batches = batches_of(group.rank(), ranks, step);
          for (int i = 0; i < batches; ++i) {
            std::optional<GradientReducer::Overlap> overlap;
            if (i == 1) overlap.emplace(reducer);
            mine.loss(step, 2 * group.rank() + i).backward();
          }
          if (batches == 0) mine.flat.add_nothing();
          reducer.finish();
          ASSERT_EQ(mine.gradients(), expected[static_cast<std::size_t>(step)]) << bucket_bytes;
        }
      });
    }
  }
}

/// Holds backward of the first layer until the gradient of the last one has been summed.
void overlap_on(Device (*device_of)(int rank)) {
  std::atomic<int> summed{0};
  LocalSim::run(2, [&](ProcessGroup& group) {
    Chain mine(device_of(group.rank()));
    GradientReducer reducer(mine.flat, mine.parameters, group, 1);
    const CollectiveTrace trace;
    std::size_t held = 0;
    mine.layers[0].register_hook([&](const Tensor&) {
      const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(30);
      while (std::chrono::steady_clock::now() < deadline) {
        const std::vector<TracedCollective> operations = trace.operations();
        if (!operations.empty() && operations[0].ended >= 0) {
          summed.fetch_add(1);
          break;
        }
        std::this_thread::sleep_for(std::chrono::milliseconds(1));
      }
      held = trace.operations().size();
      return Tensor();
    });
    {
      const GradientReducer::Overlap overlap(reducer);
      mine.loss(0, group.rank()).backward();
    }
    EXPECT_EQ(held, 6);   // all but this layer and the gain that nobody uses
    reducer.finish();
    const std::vector<TracedCollective> operations = trace.operations();
    ASSERT_EQ(operations.size(), 8u);
    EXPECT_LT(operations[0].ended, operations[7].called);
    EXPECT_GT(seconds_of(operations).hidden, 0);
  });
  EXPECT_EQ(summed.load(), 2);
}

TEST(GradientReducer, SumsWhileBackwardGoesOn) {
  overlap_on([](int) { return Device::cpu(); });
}

TEST(GradientReducer, SumsWhileBackwardGoesOnOnEmulatedDevices) {
  if (const std::string why = testing::why_not_on(Device::simt(1)); !why.empty()) GTEST_SKIP() << why;
  overlap_on([](int rank) { return Device::simt(rank); });
}

TEST(GradientReducer, NothingIsSentBeforeTheLastBackward) {
  LocalSim::run(2, [&](ProcessGroup& group) {
    Chain mine;
    GradientReducer reducer(mine.flat, mine.parameters, group, 1);
    const CollectiveTrace trace;
    mine.loss(0, group.rank()).backward();
    EXPECT_TRUE(trace.operations().empty());
    reducer.finish();
    EXPECT_EQ(trace.operations().size(), 8u);
  });
}

/// Sums over two ranks of the gradients of a chain whose last layer is used in a checkpoint, and then again.
std::vector<float> sums_with_checkpoint(std::int64_t bucket_bytes, bool again_in_a_checkpoint) {
  std::vector<float> sums;
  LocalSim::run(2, [&](ProcessGroup& group) {
    Chain mine;
    GradientReducer reducer(mine.flat, mine.parameters, group, bucket_bytes);
    const auto layer = [&](Inputs in) { return matmul(in[0], mine.layers[3]); };
    Tensor x = Tensor::full({2, Chain::kWidth}, 1.0 + group.rank());
    x.set_requires_grad(true);
    const Tensor once = autograd::checkpoint(layer, {x});
    const Tensor twice = again_in_a_checkpoint ? autograd::checkpoint(layer, {once}) : layer(Inputs(&once, 1));
    {
      const GradientReducer::Overlap overlap(reducer);
      sum(twice).backward();
    }
    reducer.finish();
    if (group.rank() == 0) sums = mine.gradients();
  });
  return sums;
}

// Two checkpoints complete a parameter twice: it is sent behind both.
TEST(GradientReducer, GradientsOfCheckpointsAreSentInTheEnd) {
  EXPECT_EQ(sums_with_checkpoint(1, true), sums_with_checkpoint(0, true));
}

TEST(GradientReducer, AGradientThatWasSentTooEarlyIsAnError) {
#ifdef __SANITIZE_THREAD__
  GTEST_SKIP() << "the program under test adds to what is summed at the same time";
#endif
  testing::expect_usage_error(
      [] { sums_with_checkpoint(1, false); },
      "the gradient of layer.3 was sent to the other ranks, and backward adds to it: it is used in a checkpoint and "
      "outside; set ddp_bucket_cap_mb to 0");
  EXPECT_FALSE(sums_with_checkpoint(0, false).empty());
}

}  // namespace
}  // namespace sinter::train
