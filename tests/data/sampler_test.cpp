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

std::vector<std::int64_t> grouped(const std::vector<std::int64_t>& lengths, std::int64_t batch, std::uint64_t seed,
                                  std::int64_t epoch = 0) {
  LengthGroupedSampler sampler(lengths, batch, seed);
  sampler.set_epoch(epoch);
  return {sampler.order().begin(), sampler.order().end()};
}

std::vector<std::int64_t> drawn_lengths(std::int64_t size, std::uint32_t bound) {
  Draws draws(5, DrawPurpose::permutation, 0);
  std::vector<std::int64_t> lengths;
  for (std::int64_t i = 0; i < size; ++i) lengths.push_back(draws.below(bound));
  return lengths;
}

// hf_trainer.md, section 6, number 12: the seed alone decides the order, whatever else has drawn from it.
TEST(HfBehaviour, N12_DataSeedAloneDecidesTheOrder) {
  const std::vector<std::int64_t> lengths = drawn_lengths(200, 60);
  const auto random = order_of(200, 1, 2), by_length = grouped(lengths, 8, 1, 2);
  Draws(1, DrawPurpose::review, 2).next();
  EXPECT_EQ(order_of(200, 1, 2), random);
  EXPECT_EQ(grouped(lengths, 8, 1, 2), by_length);
  EXPECT_NE(order_of(200, 2, 2), random);
  EXPECT_NE(grouped(lengths, 8, 2, 2), by_length);
  EXPECT_NE(grouped(lengths, 8, 1, 3), by_length);
}

// Number 32, for one rank.
TEST(HfBehaviour, N32_LengthGroupedOrderStartsWithTheLongest) {
  for (const std::int64_t size : {1, 2, 7, 16, 33, 100, 1000, 5000})
    for (const std::int64_t batch : {1, 4, 16, 64, 10'000}) {
      const std::vector<std::int64_t> lengths = drawn_lengths(size, 50);
      std::vector<std::int64_t> order = grouped(lengths, batch, 3);
      EXPECT_EQ(lengths[static_cast<std::size_t>(order[0])], *std::max_element(lengths.begin(), lengths.end()));
      std::sort(order.begin(), order.end());
      std::vector<std::int64_t> expected(static_cast<std::size_t>(size));
      std::iota(expected.begin(), expected.end(), std::int64_t{0});
      EXPECT_EQ(order, expected) << size << " in batches of " << batch;
    }
}

// 4000 samples in batches of 8: groups of 50 batches, each of which spans few lengths.
TEST(Sampler, LengthGroupedBatchesHoldLikeLengthsInNoOrderOfLengths) {
  const std::vector<std::int64_t> lengths = drawn_lengths(4003, 60);
  const std::vector<std::int64_t> order = grouped(lengths, 8, 3);
  const auto length = [&](std::size_t i) { return lengths[static_cast<std::size_t>(order[i])]; };
  std::int64_t pads = 0, falls = 0;
  for (std::size_t first = 8; first < 4000; first += 8) {   // the first batch holds the longest of all beside its own
    const std::int64_t longest = length(first);
    for (std::size_t i = first; i < first + 8; ++i) {
      EXPECT_LE(length(i), longest);   // descending inside a batch
      pads += longest - length(i);
    }
    falls += first > 8 && longest < length(first - 8) ? 1 : 0;
  }
  EXPECT_LT(pads, 4000 * 1);   // a random order has 4000 * (53 - 29.5)
  // Sorted groups would fall 490 times. A random order falls in half of its 498 steps, less one in 60 ties; the
  // variance of the number of descents of n values is (n + 1) / 12, so 20 are 3 standard deviations.
  EXPECT_NEAR(falls, 245, 20);
  LengthGroupedSampler sampler(lengths, 8, 3);
  sampler.set_epoch(4);
  sampler.set_epoch(0);
  EXPECT_TRUE(std::equal(order.begin(), order.end(), sampler.order().begin()));
}

TEST(Sampler, LengthGroupedOrderIsPinned) {
  EXPECT_EQ(grouped({3, 9, 1, 7, 5, 2, 8, 6, 4, 9}, 2, 42),
            (std::vector<std::int64_t>{1, 2, 3, 7, 6, 4, 8, 0, 9, 5}));
}

TEST(Sampler, LengthsOfSamples) {
  Lists ids;
  for (const int length : {2, 0, 3}) ids.push_back(std::vector<std::int32_t>(static_cast<std::size_t>(length), 7));
  const Columns columns{{"input_ids", ids}, {"size", Column::Integers{5, 6, 7}}};
  EXPECT_EQ(sample_lengths(Dataset(columns)), (std::vector<std::int64_t>{2, 0, 3}));
  EXPECT_EQ(sample_lengths(Dataset(columns), "size"), (std::vector<std::int64_t>{5, 6, 7}));
  EXPECT_THROW(sample_lengths(Dataset(columns), "input_ids"), Error);
  EXPECT_THROW(sample_lengths(Dataset({{"size", Column::Integers{5}}})), Error);
}

TEST(Sampler, EmptyAndWrongSizes) {
  SequentialSampler empty(0);
  EXPECT_EQ(BatchSampler(empty, 4).size(), 0);
  EXPECT_THROW(SequentialSampler(-1), Error);
  EXPECT_THROW(RandomSampler(std::int64_t{1} << 32, 0), Error);
  EXPECT_THROW(BatchSampler(empty, 0), Error);
  EXPECT_THROW(LengthGroupedSampler({1}, 0, 0), Error);
  EXPECT_EQ(LengthGroupedSampler({}, 4, 0).size(), 0);
  EXPECT_THROW(empty.set_epoch(-1), Error);
}

}  // namespace
}  // namespace sinter::data
