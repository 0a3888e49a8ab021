// The model of steps of several ranks, by cases that were computed by hand.
#include "bench/scale_model.h"

#include <gtest/gtest.h>

namespace sinter::bench {
namespace {

/// An all_reduce of 2 ranks: 2 * 1 * 0.5 s and 2 * 1/2 * 0.01 s a byte, so 1 s and a second for every 100 bytes.
constexpr Network kTwo = {.inside = {.hop = 0.5, .per_byte = 0.01}, .between = {}, .ranks_per_node = 8};

StepParts parts(std::vector<Bucket> buckets) {
  return {.forward = 10, .backward = 20, .update = 5, .buckets = std::move(buckets)};
}

TEST(ScaleModel, BusFactorsAreThoseOfNcclTests) {
  struct Case {
    const char* operation;
    int ranks;
    double factor;
  };
  for (const Case& c : {Case{"all_reduce", 2, 1}, {"all_reduce", 8, 1.75}, {"reduce_scatter", 2, 0.5},
                        {"reduce_scatter", 4, 0.75}, {"all_gather", 8, 0.875}, {"broadcast", 8, 1}})
    EXPECT_DOUBLE_EQ(bus_factor(c.operation, c.ranks), c.factor) << c.operation << " of " << c.ranks;
}

TEST(ScaleModel, AStepIsWhatItComputesAndWhatIsExposed) {
  struct Case {
    const char* what;
    std::vector<Bucket> buckets;
    int ranks;
    double step, communication, exposed;
  };
  const Case cases[] = {
      {"one rank has nothing to send", {{5, 400}, {20, 400}}, 1, 35, 0, 0},
      {"no bucket", {}, 2, 35, 0, 0},
      {"one bucket behind backward: 5 s of it", {{20, 400}}, 2, 40, 5, 5},
      {"one bucket inside of backward: it ends at 15", {{10, 400}}, 2, 35, 5, 0},
      {"one bucket that ends with backward", {{15, 400}}, 2, 35, 5, 0},
      {"full overlap: 4 to 7, 8 to 11, 12 to 15", {{4, 200}, {8, 200}, {12, 200}}, 2, 35, 9, 0},
      {"the second waits for the first: 2 to 13, 13 to 24", {{2, 1000}, {4, 1000}}, 2, 39, 22, 4},
      {"the last is ready at the end: 2 to 4, 20 to 26", {{2, 100}, {20, 500}}, 2, 41, 8, 6},
      {"no overlap: 20 to 22, 22 to 28", {{20, 100}, {20, 500}}, 2, 43, 8, 8},
  };
  for (const Case& c : cases) {
    const Prediction said = predict(parts(c.buckets), kTwo, c.ranks);
    EXPECT_NEAR(said.step, c.step, 1e-12) << c.what;
    EXPECT_NEAR(said.communication, c.communication, 1e-12) << c.what;
    EXPECT_NEAR(said.exposed, c.exposed, 1e-12) << c.what;
    EXPECT_NEAR(said.hidden(), c.communication > 0 ? 1 - c.exposed / c.communication : 0, 1e-12) << c.what;
  }
}

TEST(ScaleModel, SmallOperationsAreNeverHidden) {
  StepParts step = parts({{10, 400}});   // ends at 15
  step.small = {100, 0};                 // 2 s and 1 s
  const Prediction said = predict(step, kTwo, 2);
  EXPECT_NEAR(said.step, 38, 1e-12);
  EXPECT_NEAR(said.communication, 8, 1e-12);
  EXPECT_NEAR(said.hidden(), 5.0 / 8, 1e-12);
}

TEST(ScaleModel, AfterBackwardIsOneBucketOfAll) {
  const StepParts step = after_backward(parts({{2, 100}, {4, 300}}));
  ASSERT_EQ(step.buckets.size(), 1u);
  EXPECT_EQ(step.buckets[0].ready, 20);
  EXPECT_EQ(step.buckets[0].bytes, 400);
  EXPECT_NEAR(predict(step, kTwo, 2).step, 40, 1e-12);
}

TEST(ScaleModel, AnAllReduceOverTwoLevels) {
  Network network{.inside = {.hop = 1, .per_byte = 0.25}, .between = {.hop = 10, .per_byte = 2}, .ranks_per_node = 2};
  struct Case {
    const char* what;
    int ranks;
    bool direct;
    double seconds;   // of 8 bytes
  };
  const Case cases[] = {
      {"one rank", 1, false, 0},
      {"one node: 2 hops and 8 bytes", 2, false, 2 * 1 + 8 * 0.25},
      {"the same one by one", 2, true, 2 * 1 + 8 * 0.25},
      {"4 nodes: 2 hops and 8 bytes inside, 6 hops and 12 bytes between", 8, false, 2 + 8 * 0.25 + 60 + 12 * 2},
      {"one by one: to 1 rank 2 bytes; to 6 others 12 bytes, twice over the link", 8, true,
       2 + 2 * 0.25 + 120 + 2 * 12 * 2},
      {"3 ranks are no nodes of 2: 4 hops and 32 / 3 bytes", 3, false, 4 + 32.0 / 3 * 0.25},
  };
  for (const Case& c : cases) {
    network.direct = c.direct;
    EXPECT_NEAR(all_reduce_seconds(network, c.ranks, 8), c.seconds, 1e-12) << c.what;
  }
}

TEST(ScaleModel, TheLinkGivesTheMeasuredLineAgain) {
  const Line measured{.latency = 3, .per_byte = 0.5};
  for (const int ranks : {2, 3, 8}) {
    const Network network{.inside = link_of(measured, ranks), .between = {}, .ranks_per_node = 8};
    for (const double bytes : {0.0, 1000.0})
      EXPECT_NEAR(all_reduce_seconds(network, ranks, bytes), 3 + 0.5 * bytes, 1e-9) << ranks;
  }
}

TEST(ScaleModel, ALineIsFittedToRelativeErrors) {
  const Line exact = fit_line({{0, 2}, {100, 3}, {10000, 102}});
  EXPECT_NEAR(exact.latency, 2, 1e-9);
  EXPECT_NEAR(exact.per_byte, 0.01, 1e-12);
  // Of two sizes, each measured once 20 % too long and once too short, the relative errors weigh the same: the fit of
  // 1 and of 1000 seconds is then 24 / 26 of them each.
  const Line noisy = fit_line({{0, 0.8}, {0, 1.2}, {1000, 800}, {1000, 1200}});
  EXPECT_NEAR(noisy.latency, 24.0 / 26, 1e-9);
  EXPECT_NEAR(noisy.latency + 1000 * noisy.per_byte, 24000.0 / 26, 1e-6);
  // Longer operations that are faster leave a latency alone, and short ones that take no time a bandwidth alone.
  EXPECT_EQ(fit_line({{10, 3}, {1000, 1}}).per_byte, 0);
  EXPECT_EQ(fit_line({{10, 1}, {1000, 500}}).latency, 0);
  EXPECT_NEAR(fit_line({{100, 4}}).latency, 4, 1e-12);
}

TEST(ScaleModel, WhatIsHiddenFollowsFromStepTimes) {
  EXPECT_NEAR(hidden_by_times(10, 20, 12), 0.8, 1e-12);
  EXPECT_NEAR(hidden_by_times(10, 20, 20), 0, 1e-12);
  EXPECT_NEAR(hidden_by_times(10, 20, 22), -0.2, 1e-12);   // overlapping was slower
  EXPECT_EQ(hidden_by_times(10, 9, 9), 0);                  // nothing to hide
}

}  // namespace
}  // namespace sinter::bench
