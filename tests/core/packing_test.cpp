#include "core/ops/packing.h"

#include <gtest/gtest.h>

#include "tests/core/expect_error.h"

namespace sinter {
namespace {

using testing::expect_usage_error;
using Ints = std::vector<std::int32_t>;

TEST(Packing, OfLengths) {
  const auto packing = Packing::packed({2, 0, 3});
  EXPECT_EQ(packing->sequences, 3);
  EXPECT_EQ(packing->tokens, 5);
  EXPECT_EQ(packing->max_length, 3);
  EXPECT_EQ(packing->offsets.to_vector<std::int32_t>(), (Ints{0, 2, 2, 5}));
  EXPECT_EQ(packing->sample.to_vector<std::int32_t>(), (Ints{0, 0, 2, 2, 2}));
  EXPECT_EQ(packing->position.to_vector<std::int32_t>(), (Ints{0, 1, 0, 1, 2}));
  EXPECT_FALSE(packing->key_mask.defined());
}

TEST(Packing, FillersAreOfNoSample) {
  const auto packing = Packing::packed({2, 3, 4, 0}, 2);
  EXPECT_EQ(packing->sequences, 4);
  EXPECT_EQ(packing->fillers, 2);
  EXPECT_EQ(packing->tokens, 9);
  EXPECT_EQ(packing->first.to_vector<std::int64_t>(), (std::vector<std::int64_t>{0, 2}));
  EXPECT_EQ(Packing::packed({2, 0, 3})->first.to_vector<std::int64_t>(), (std::vector<std::int64_t>{0, 2, 2}));
  expect_usage_error([] { Packing::packed({1, 2}, 3); }, "a batch of 2 sequences cannot have 3 fillers");
}

TEST(Packing, PlacedTensorsAreReadWhereTheyStand) {
  const auto like = Packing::packed({2, 3});
  const Tensor offsets = like->offsets.clone(), sample = like->sample.clone(), position = like->position.clone();
  const Tensor first = like->first.clone();
  const auto packing = Packing::placed(*like, offsets, sample, position, first, 8);
  EXPECT_EQ(packing->max_length, 8);
  EXPECT_EQ(packing->tokens, 5);
  expect_usage_error([&] { Packing::placed(*like, sample, sample, position, first, 8); },
                     "Packing::placed: offsets is [5], it must be [3]");
  expect_usage_error([&] { Packing::placed(*like, offsets, sample, position, first, 2); },
                     "a sequence has 3 tokens, more than 2");
}

TEST(Packing, OfNothing) {
  const auto packing = Packing::packed({});
  EXPECT_EQ(packing->tokens, 0);
  EXPECT_EQ(packing->max_length, 0);
  EXPECT_EQ(packing->offsets.to_vector<std::int32_t>(), (Ints{0}));
}

TEST(Packing, OfAPaddedGrid) {
  const auto packing = Packing::padded(Tensor::from(std::vector<std::int64_t>{1, 1, 0, 0, 7, 1}, {2, 3}));
  EXPECT_EQ(packing->sequences, 2);
  EXPECT_EQ(packing->tokens, 6);
  EXPECT_EQ(packing->max_length, 3);
  EXPECT_EQ(packing->position.to_vector<std::int32_t>(), (Ints{0, 1, 2, 0, 1, 2}));
  EXPECT_EQ(packing->key_mask.to_vector<std::uint8_t>(), (std::vector<std::uint8_t>{1, 1, 0, 0, 1, 1}));
}

TEST(Packing, Errors) {
  expect_usage_error([] { Packing::packed({3, -1}); }, "sequence 1 has length -1");
  expect_usage_error([] { Packing::padded(Tensor::ones({2, 3})); }, "the mask is f32, it must be i64");
  expect_usage_error([] { Packing::padded(Tensor::ones({2}, {Dtype::i64})); },
                     "an attention mask is [B, S], this one is [2]");
}

}  // namespace
}  // namespace sinter
