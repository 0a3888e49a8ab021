#include "data/collator.h"

#include <gtest/gtest.h>

#include "core/error.h"

namespace sinter::data {
namespace {

using I64 = std::vector<std::int64_t>;

Encoding encoding(std::vector<std::int32_t> ids) {
  Encoding e;
  e.token_type_ids.assign(ids.size(), 0);
  if (!ids.empty()) e.token_type_ids.back() = 1;
  e.attention_mask.assign(ids.size(), 1);
  e.ids = std::move(ids);
  return e;
}

const std::vector<Encoding> kSet = {encoding({2, 9, 3}), encoding({2, 3}), encoding({2, 7, 8, 9, 3}), encoding({})};
const I64 kLabels = {1, 0, 1, 0};

TEST(Collator, PaddedLayout) {
  const I64 indices = {1, 0};
  const CollatedBatch b = DataCollatorWithPadding(5)(kSet, kLabels, indices, 64);
  EXPECT_FALSE(b.packed);
  EXPECT_EQ(b.sample_count, 2);
  EXPECT_EQ(b.token_count, 5);
  EXPECT_EQ(b.sequence_length, 3);
  EXPECT_EQ(b.first_sample, 64);
  EXPECT_EQ(b.input_ids, (I64{2, 3, 5, 2, 9, 3}));
  EXPECT_EQ(b.token_type_ids, (I64{0, 1, 0, 0, 0, 1}));
  EXPECT_EQ(b.attention_mask, (I64{1, 1, 0, 1, 1, 1}));
  EXPECT_EQ(b.lengths, (I64{2, 3}));
  EXPECT_EQ(b.labels, (I64{0, 1}));
  EXPECT_TRUE(b.position_ids.empty());
  EXPECT_TRUE(b.offsets.empty());
}

TEST(Collator, PadToMultipleOf) {
  const I64 five = {2}, three = {0};
  EXPECT_EQ(DataCollatorWithPadding(0, 8)(kSet, kLabels, five).sequence_length, 8);
  EXPECT_EQ(DataCollatorWithPadding(0, 8)(kSet, kLabels, three).sequence_length, 8);
  EXPECT_EQ(DataCollatorWithPadding(0, 5)(kSet, kLabels, five).sequence_length, 5);
  EXPECT_EQ(DataCollatorWithPadding(0, 2)(kSet, kLabels, five).input_ids, (I64{2, 7, 8, 9, 3, 0}));
}

TEST(Collator, PackedLayout) {
  const I64 indices = {2, 3, 1};
  const CollatedBatch b = DataCollatorWithFlattening()(kSet, kLabels, indices, 7);
  EXPECT_TRUE(b.packed);
  EXPECT_EQ(b.sample_count, 3);
  EXPECT_EQ(b.token_count, 7);
  EXPECT_EQ(b.sequence_length, 5);
  EXPECT_EQ(b.first_sample, 7);
  EXPECT_EQ(b.input_ids, (I64{2, 7, 8, 9, 3, 2, 3}));
  EXPECT_EQ(b.token_type_ids, (I64{0, 0, 0, 0, 1, 0, 1}));
  EXPECT_EQ(b.position_ids, (I64{0, 1, 2, 3, 4, 0, 1}));
  EXPECT_EQ(b.offsets, (std::vector<std::int32_t>{0, 5, 5, 7}));
  EXPECT_EQ(b.lengths, (I64{5, 0, 2}));
  EXPECT_EQ(b.labels, (I64{1, 0, 0}));
  EXPECT_TRUE(b.attention_mask.empty());
}

TEST(Collator, EmptyBatchAndUnlabelledSet) {
  const DataCollatorWithPadding padding(0);
  const CollatedBatch none = padding(kSet, kLabels, {});
  EXPECT_EQ(none.sample_count, 0);
  EXPECT_EQ(none.sequence_length, 0);
  EXPECT_TRUE(none.input_ids.empty());
  EXPECT_EQ(DataCollatorWithFlattening()(kSet, {}, {}).offsets, (std::vector<std::int32_t>{0}));
  const I64 one = {0};
  EXPECT_TRUE(padding(kSet, {}, one).labels.empty());
}

TEST(Collator, RefusesWhatDoesNotFit) {
  const DataCollatorWithPadding padding(0);
  const I64 beyond = {4}, negative = {-1}, labels = {1}, fine = {0};
  EXPECT_THROW(padding(kSet, kLabels, beyond), Error);
  EXPECT_THROW(padding(kSet, kLabels, negative), Error);
  EXPECT_THROW(padding(kSet, labels, fine), Error);
  EXPECT_THROW(DataCollatorWithFlattening()(kSet, labels, fine), Error);
  EXPECT_THROW(DataCollatorWithPadding(-1), Error);
  EXPECT_THROW(DataCollatorWithPadding(0, 0), Error);
}

}  // namespace
}  // namespace sinter::data
