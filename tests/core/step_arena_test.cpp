#include "core/runtime/step_arena.h"

#include <gtest/gtest.h>

#include <random>
#include <vector>

#include "core/ops/elementwise.h"
#include "core/ops/gather.h"
#include "core/ops/matmul.h"
#include "core/ops/reduce.h"
#include "core/runtime/runtime.h"
#include "core/tensor.h"
#include "tests/core/expect_error.h"
#include "tests/core/other_devices.h"

namespace sinter {
namespace {

// --- The plan ---

bool overlap(const StepPiece& a, const StepPiece& b) {
  return a.offset < b.offset + b.bytes && b.offset < a.offset + a.bytes;
}

TEST(StepPlanTest, PiecesThatAreAliveTogetherDoNotOverlap) {
  std::mt19937 random(5);
  for (int round = 0; round < 200; ++round) {
    StepPlan plan;
    std::size_t most = 0;
    for (int i = 0; i < 40; ++i) {
      const std::size_t begin = random() % 100, end = begin + 1 + random() % 20, bytes = 256 * (1 + random() % 9);
      plan.pieces.push_back({.bytes = bytes, .begin = begin, .end = end});
    }
    place(plan);
    for (std::size_t i = 0; i < plan.pieces.size(); ++i) {
      const StepPiece& a = plan.pieces[i];
      EXPECT_LE(a.offset + a.bytes, plan.bytes);
      for (std::size_t j = 0; j < i; ++j) {
        const StepPiece& b = plan.pieces[j];
        const bool together = a.begin < b.end && b.begin < a.end;
        EXPECT_FALSE(together && overlap(a, b)) << i << " and " << j;
      }
    }
    for (std::size_t time = 0; time < 120; ++time) {
      std::size_t alive = 0;
      for (const StepPiece& piece : plan.pieces)
        if (piece.begin <= time && time < piece.end) alive += piece.bytes;
      most = std::max(most, alive);
    }
    EXPECT_GE(plan.bytes, most);
    EXPECT_LE(plan.bytes, 2 * most);   // greedy is seldom more than a few percent above
  }
}

TEST(StepPlanTest, MemoryIsUsedAgain) {
  StepPlan plan;
  plan.pieces = {{.bytes = 1024, .begin = 0, .end = 2}, {.bytes = 512, .begin = 2, .end = 5},
                 {.bytes = 512, .begin = 3, .end = 5}, {.bytes = 256, .begin = 1, .end = 5}};
  place(plan);
  EXPECT_EQ(plan.bytes, 1024u + 256u);
  EXPECT_EQ(plan.pieces[0].offset, 0u);
  EXPECT_EQ(plan.pieces[1].offset, 0u);
  EXPECT_EQ(plan.pieces[2].offset, 512u);
  EXPECT_EQ(plan.pieces[3].offset, 1024u);
}

TEST(StepPlanTest, TheCpuHasNoGraphs) {
  testing::expect_error([] { StepArena arena(Device::cpu()); }, ErrorCode::unsupported, "the CPU has no graphs");
}

// --- On devices ---

class StepArenaTest : public ::testing::TestWithParam<Device> {
 protected:
  void SetUp() override {
    if (const std::string why = testing::why_not_on(GetParam()); !why.empty()) GTEST_SKIP() << why;
    there_ = GetParam();
  }
  Tensor there(const std::vector<float>& values, const Shape& shape) { return Tensor::from(values, shape).to(there_); }

  Device there_;
};

TEST_P(StepArenaTest, AReplayReadsItsInputsAnew) {
  Tensor x = there({1, 2, 3, 4, 5, 6}, {2, 3}), w = there({1, 0, 0, 1, 1, 1}, {3, 2}), y = there({0, 0, 0, 0}, {2, 2});
  const auto step = [&] {
    Tensor product = matmul(x, w);
    Tensor scaled = product * 2.0 + 1.0;
    y.copy_(scaled + product);
  };
  StepArena arena(there_);
  const StepPlan plan = arena.observe(step);
  const std::vector<float> eager = y.to_vector<float>();
  EXPECT_EQ(eager, (std::vector<float>{13, 16, 31, 34}));
  EXPECT_TRUE(plan.kept.empty());
  EXPECT_GE(plan.pieces.size(), 3u);
  y.fill_(-1);
  const StepGraph graph = arena.capture(plan, step);
  EXPECT_EQ(y.to_vector<float>(), std::vector<float>(4, -1)) << "capturing computes nothing";
  for (int round = 0; round < 3; ++round) {
    arena.poison();
    graph.launch();
    EXPECT_EQ(y.to_vector<float>(), eager);
  }
  x.copy_(Tensor::from(std::vector<float>{0, 1, 0, 2, 0, 0}, {2, 3}));
  graph.launch();
  EXPECT_EQ(y.to_vector<float>(), (std::vector<float>{1, 4, 7, 1}));
}

TEST_P(StepArenaTest, TwoStepsShareTheArena) {
  Tensor small = there(std::vector<float>(10, 2), {10}), large = there(std::vector<float>(5000, 3), {5000});
  Tensor of_small = Tensor::zeros({}, {Dtype::f32, there_}), of_large = Tensor::zeros({}, {Dtype::f32, there_});
  const auto first = [&] { of_small.copy_(sum(small * small)); };
  const auto second = [&] { of_large.copy_(sum(large * large + large)); };
  StepArena arena(there_);
  const StepPlan first_plan = arena.observe(first), second_plan = arena.observe(second);
  const StepGraph before = arena.capture(first_plan, first);
  EXPECT_TRUE(arena.holds(before));
  const StepGraph other = arena.capture(second_plan, second);
  EXPECT_FALSE(arena.holds(before)) << "the arena has grown";
  EXPECT_TRUE(arena.holds(other));
  EXPECT_EQ(arena.bytes(), second_plan.bytes);
  const StepGraph again = arena.capture(first_plan, first);
  EXPECT_TRUE(arena.holds(again));
  const std::size_t taken = Runtime::instance().allocator(there_).stats().allocations;
  of_small.fill_(0);
  of_large.fill_(0);
  for (const StepGraph* graph : {&before, &other, &again, &other, &before}) {
    arena.poison();
    graph->launch();
  }
  EXPECT_EQ(Runtime::instance().allocator(there_).stats().allocations, taken) << "a replay takes no memory";
  EXPECT_EQ(of_small.item(), 40);
  EXPECT_EQ(of_large.item(), 60000);
}

TEST_P(StepArenaTest, CountsLaunchesAndWaits) {
  const Tensor x = there({1, 2, 3, 4}, {4});
  Tensor y = there({0, 0, 0, 0}, {4});
  const auto step = [&] { y.copy_(x * 3.0); };
  StepArena arena(there_);
  const StepGraph graph = arena.capture(arena.observe(step), step);
  const RuntimeCounters before = Runtime::instance().counters(there_);
  for (int i = 0; i < 5; ++i) graph.launch();
  RuntimeCounters after = Runtime::instance().counters(there_);
  EXPECT_EQ(after.graph_launches - before.graph_launches, 5u);
  EXPECT_EQ(after.launches, before.launches);
  EXPECT_EQ(after.waits, before.waits);
  EXPECT_EQ(y.to_vector<float>(), (std::vector<float>{3, 6, 9, 12}));
  after = Runtime::instance().counters(there_);
  EXPECT_EQ(after.waits - before.waits, 1u);
}

// What a capture took of the arena and left behind dies later, and frees nothing.
TEST_P(StepArenaTest, TensorsThatOutliveACaptureFreeNothing) {
  const Tensor x = there({1, 2, 3, 4}, {4});
  Tensor y = there({0, 0, 0, 0}, {4}), first, second;
  StepArena arena(there_);
  bool keeps = false;
  const auto step = [&] {
    const Tensor a = x * 2.0, b = a + 1.0;
    y.copy_(b);
    if (keeps) first = a, second = b;
  };
  const StepPlan plan = arena.observe(step);
  keeps = true;
  testing::expect_error([&] { (void)arena.capture(plan, step); }, ErrorCode::unsupported, "leaves a tensor alive");
  keeps = false;
  const StepGraph graph = arena.capture(plan, [&] {   // at the same places, while the others are still there
    first = {};
    step();
  });
  const std::size_t taken = Runtime::instance().allocator(there_).stats().in_use;
  second = {};
  EXPECT_EQ(Runtime::instance().allocator(there_).stats().in_use, taken);
  arena.poison();
  graph.launch();
  EXPECT_EQ(y.to_vector<float>(), (std::vector<float>{3, 5, 7, 9}));
}

TEST_P(StepArenaTest, RefusalsNameTheCulpritAndLeaveTheDeviceUsable) {
  const Tensor x = there({1, 2, 3, 4}, {4});
  Tensor y = there({0, 0, 0, 0}, {4}), kept;
  StepArena arena(there_);
  const auto refused = [&](std::string_view says, const std::function<void()>& step) {
    testing::expect_error([&] { (void)arena.capture(arena.observe(step), step); }, ErrorCode::unsupported, says);
  };
  refused("cannot give memory elsewhere", [&] { (void)sum(x * 2.0).item(); });
  refused("cannot take memory from the host: index_select does",
          [&] { y.copy_(index_select(x, 0, Tensor::arange(4))); });
  refused("cannot wait for the device", [&] { Runtime::instance().synchronize(there_); });
  refused("cannot leave a tensor alive, as that of mul", [&] { kept = x * 2.0; });
  kept = {};
  bool other = false;
  const auto changing = [&] {
    y.copy_(other ? x * 2.0 + x : x * 2.0);
    other = true;
  };
  testing::expect_error([&] { (void)arena.capture(arena.observe(changing), changing); }, ErrorCode::internal,
                        "it is not the same step");
  const StepPlan plan = arena.observe([&] { y.copy_(x * 2.0); });
  Tensor outer = x * 5.0;
  testing::expect_error(
      [&] {
        (void)arena.capture(plan, [&] {
          y.copy_(x * 2.0);
          outer = {};
        });
      },
      ErrorCode::unsupported, "cannot give back memory that it did not take");
  const auto step = [&] { y.copy_(x * 2.0); };
  const StepGraph graph = arena.capture(arena.observe(step), step);
  y.fill_(0);
  graph.launch();
  EXPECT_EQ(y.to_vector<float>(), (std::vector<float>{2, 4, 6, 8}));
}

SINTER_ON_OTHER_DEVICES(StepArenaTest);

}  // namespace
}  // namespace sinter
