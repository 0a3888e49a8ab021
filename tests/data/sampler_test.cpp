#include "data/sampler.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <numeric>
#include <vector>

#include "core/error.h"
#include "data/draws.h"

namespace sinter::data {
namespace {

std::vector<std::int64_t> order_of(std::int64_t size, std::uint64_t seed, std::int64_t epoch) {
  RandomSampler sampler(size, seed);
  sampler.set_epoch(epoch);
  return {sampler.order().begin(), sampler.order().end()};
}

TEST(Sampler, RandomOrderIsAPermutation) {
  for (const std::int64_t size : {0, 1, 2, 7, 100, 5000}) {
    std::vector<std::int64_t> order = order_of(size, 42, 3);
    std::sort(order.begin(), order.end());
    std::vector<std::int64_t> expected(static_cast<std::size_t>(size));
    std::iota(expected.begin(), expected.end(), std::int64_t{0});
    EXPECT_EQ(order, expected) << size;
  }
}

TEST(Sampler, OrderDependsOnSeedEpochAndSizeOnly) {
  EXPECT_EQ(order_of(100, 42, 0), order_of(100, 42, 0));
  EXPECT_NE(order_of(100, 42, 0), order_of(100, 43, 0));
  EXPECT_NE(order_of(100, 42, 0), order_of(100, 42, 1));
  RandomSampler sampler(100, 42);
  const std::vector<std::int64_t> first(sampler.order().begin(), sampler.order().end());
  sampler.set_epoch(5);
  sampler.set_epoch(0);
  EXPECT_TRUE(std::equal(first.begin(), first.end(), sampler.order().begin()));
}

// The order is part of what a resumed run relies on: a release that changes it breaks old checkpoints.
TEST(Sampler, OrderIsPinned) {
  EXPECT_EQ(order_of(10, 42, 0), (std::vector<std::int64_t>{2, 1, 0, 8, 7, 3, 5, 9, 4, 6}));
  EXPECT_EQ(order_of(10, 42, 1), (std::vector<std::int64_t>{0, 9, 3, 8, 1, 2, 5, 6, 7, 4}));
}

// Each of the 24 orders of 4 samples should come up 24000 / 24 times: chi-square with 23 degrees of freedom stays
// below 62 except once in 50,000 seeds.
TEST(Sampler, AllOrdersAreEquallyLikely) {
  std::vector<int> count(256, 0);
  for (int epoch = 0; epoch < 24000; ++epoch) {
    const auto o = order_of(4, 7, epoch);
    ++count[static_cast<std::size_t>(o[0] * 64 + o[1] * 16 + o[2] * 4 + o[3])];
  }
  double chi_square = 0;
  int seen = 0;
  for (const int c : count) {
    if (c == 0) continue;
    ++seen;
    chi_square += (c - 1000.0) * (c - 1000.0) / 1000.0;
  }
  EXPECT_EQ(seen, 24);
  EXPECT_LT(chi_square, 62.0);
}

// With bound 3 * 2^30 a draw without rejection would hit the multiples of 3 twice as often.
TEST(Draws, BoundedDrawsAreUnbiased) {
  Draws draws(1, DrawPurpose::permutation, 0);
  std::array<int, 3> count{};
  for (int i = 0; i < 30000; ++i) ++count[draws.below(3u << 30) % 3];
  for (const int c : count) EXPECT_NEAR(c, 10000, 5 * 82);  // 5 standard deviations, sqrt(30000 * 1/3 * 2/3) = 82
  EXPECT_EQ(draws.below(1), 0u);
}

TEST(Sampler, Batches) {
  SequentialSampler sampler(10);
  BatchSampler keep(sampler, 4);
  EXPECT_EQ(keep.size(), 3);
  EXPECT_EQ(keep.batch_indices(2).size(), 2u);
  EXPECT_EQ(keep.batch_indices(2)[0], 8);
  EXPECT_EQ(keep.batch_indices(1)[3], 7);
  BatchSampler drop(sampler, 4, true);
  EXPECT_EQ(drop.size(), 2);
  EXPECT_THROW(drop.batch_indices(2), Error);
  EXPECT_THROW(keep.batch_indices(3), Error);
  EXPECT_THROW(keep.batch_indices(-1), Error);
}

// Lengths of HF's loaders in its own tests: 66 and 74 samples at batch sizes 16 and 32.
TEST(Sampler, BatchCountsOfHuggingFace) {
  const struct {
    std::int64_t size, batch, keep, drop;
  } rows[] = {{66, 16, 5, 4}, {66, 32, 3, 2}, {74, 16, 5, 4}, {74, 32, 3, 2}, {64, 16, 4, 4}, {67349, 16, 4210, 4209}};
  for (const auto& row : rows) {
    SequentialSampler sampler(row.size);
    EXPECT_EQ(BatchSampler(sampler, row.batch).size(), row.keep);
    EXPECT_EQ(BatchSampler(sampler, row.batch, true).size(), row.drop);
  }
}

TEST(Sampler, EmptyAndWrongSizes) {
  SequentialSampler empty(0);
  EXPECT_EQ(BatchSampler(empty, 4).size(), 0);
  EXPECT_THROW(SequentialSampler(-1), Error);
  EXPECT_THROW(RandomSampler(std::int64_t{1} << 32, 0), Error);
  EXPECT_THROW(BatchSampler(empty, 0), Error);
  EXPECT_THROW(empty.set_epoch(-1), Error);
}

}  // namespace
}  // namespace sinter::data
