#include "train/step_inputs.h"

#include <gtest/gtest.h>

#include "core/runtime/runtime.h"
#include "tests/core/expect_error.h"
#include "tests/core/other_devices.h"
#include "tests/nn/small_bert.h"

namespace sinter::train {
namespace {

TEST(StepBucketTest, SizesComeAgain) {
  struct Row {
    std::int64_t tokens, longest, bucket_tokens, bucket_longest, fillers;
  };
  constexpr std::int64_t kPositions = 512;
  for (const Row& row : {Row{1, 1, 32, 64, 1}, {32, 32, 32, 64, 1}, {33, 64, 64, 64, 1}, {213, 65, 224, 128, 1},
                         {512, 129, 512, 256, 1}, {513, 60, 576, 64, 1}, {1025, 64, 1152, 64, 2},
                         {4096, 128, 4096, 128, 2}, {4097, 512, 4608, 512, 1}, {16384, 512, 16384, 512, 2},
                         {30000, 511, 30720, 512, 4}}) {
    const StepBucket bucket = bucket_of(row.tokens, row.longest, 16, kPositions);
    EXPECT_EQ(bucket.tokens, row.bucket_tokens) << row.tokens;
    EXPECT_EQ(bucket.max_length, row.bucket_longest) << row.tokens;
    EXPECT_EQ(bucket.fillers(), row.fillers) << row.tokens;
    EXPECT_EQ(bucket.samples, 16);
  }
  EXPECT_EQ(bucket_of(50, 10, 4, 12).max_length, 12) << "no class beyond the model's positions";
  EXPECT_EQ(bucket_of(50, 10, 4, 12).fillers(), 3);
}

TEST(StepBucketTest, FillersAlwaysReachTheBound) {
  for (const std::int64_t positions : {12, 100, 512})
    for (std::int64_t tokens = 1; tokens < 5000; ++tokens) {
      const StepBucket bucket = bucket_of(tokens, std::min<std::int64_t>(tokens, positions), 1, positions);
      ASSERT_GE(bucket.tokens, tokens);
      ASSERT_LE(bucket.tokens - tokens, bucket.fillers() * bucket.max_length) << tokens;
      ASSERT_LE(bucket.tokens, std::max<std::int64_t>(tokens + 31, tokens + tokens / 8));
      const StepBucket again = bucket_of(bucket.tokens, bucket.max_length, 1, positions);
      ASSERT_EQ(again, bucket);
    }
}

TEST(StepBucketTest, OfRanksTakesTheLargestBatch) {
  const auto batch = [](std::vector<std::int64_t> lengths) {
    data::CollatedBatch made;
    made.packed = true;
    made.sample_count = std::ssize(lengths);
    for (const std::int64_t length : lengths) made.token_count += length;
    const std::vector<std::int64_t> tokens(static_cast<std::size_t>(made.token_count), 1);
    made.input_ids = made.token_type_ids = made.position_ids = tokens;
    made.labels.assign(lengths.size(), 0);
    made.lengths = std::move(lengths);
    return made;
  };
  const auto bucket = bucket_of_ranks(std::vector{batch({3, 70}), batch({60, 60}), batch({1, 1})}, 512);
  ASSERT_TRUE(bucket.has_value());
  EXPECT_EQ(bucket->tokens, 128);
  EXPECT_EQ(bucket->max_length, 128);
  EXPECT_EQ(bucket->samples, 2);
  EXPECT_TRUE(bucket->of_ranks);
  EXPECT_EQ(bucket->str(), "T 128, longest 128, B 2, update, of all ranks");
  EXPECT_GE(bucket->fillers() * bucket->max_length, 128 - 2);   // also of the shortest batch
  EXPECT_FALSE(bucket_of_ranks(std::vector{batch({3, 70}), batch({60})}, 512));
  EXPECT_FALSE(bucket_of_ranks(std::vector{batch({3}), batch({})}, 512));
  data::CollatedBatch on_the_left;
  on_the_left.sample_count = 1;
  on_the_left.sequence_length = on_the_left.token_count = 2;
  on_the_left.input_ids = on_the_left.token_type_ids = {1, 1};
  on_the_left.attention_mask = {0, 1};
  on_the_left.lengths = {1};
  on_the_left.labels = {0};
  EXPECT_FALSE(bucket_of_ranks(std::vector{batch({3}), on_the_left}, 512));
}

TEST(StepInputsTest, PackingDropsPads) {
  data::CollatedBatch batch;
  batch.sample_count = 2;
  batch.sequence_length = 3;
  batch.input_ids = {5, 6, 0, 7, 0, 0};
  batch.token_type_ids = {0, 1, 0, 1, 0, 0};
  batch.attention_mask = {1, 1, 0, 1, 0, 0};
  batch.lengths = {2, 1};
  batch.labels = {1, 0};
  PackedBatch packed;
  ASSERT_TRUE(pack(batch, packed));
  EXPECT_EQ(packed.ids, (std::vector<std::int64_t>{5, 6, 7}));
  EXPECT_EQ(packed.types, (std::vector<std::int64_t>{0, 1, 1}));
  EXPECT_EQ(packed.positions, (std::vector<std::int64_t>{0, 1, 0}));
  EXPECT_EQ(packed.labels, batch.labels);
  batch.attention_mask = {0, 1, 1, 1, 0, 0};   // padded on the left
  PackedBatch refused;
  EXPECT_FALSE(pack(batch, refused));
}

TEST(StepInputsTest, ArraysOfOtherSizesAreRefused) {
  const auto refused = [](std::string_view says, auto&& spoil) {
    data::CollatedBatch batch;
    batch.sample_count = 2;
    batch.sequence_length = 2;
    batch.input_ids = {5, 6, 7, 0};
    batch.token_type_ids = {0, 0, 0, 0};
    batch.attention_mask = {1, 1, 1, 0};
    batch.lengths = {2, 1};
    batch.labels = {1, 0};
    spoil(batch);
    PackedBatch packed;
    testing::expect_usage_error([&] { pack(batch, packed); }, says);
  };
  refused("has 0 labels, it must have 2", [](auto& b) { b.labels.clear(); });
  refused("has 3 labels", [](auto& b) { b.labels.push_back(0); });
  refused("has 1 lengths", [](auto& b) { b.lengths.pop_back(); });
  refused("has 3 input_ids, it must have 4", [](auto& b) { b.input_ids.pop_back(); });
  refused("has 5 values in attention_mask", [](auto& b) { b.attention_mask.push_back(0); });
  refused("a length of 3", [](auto& b) { b.lengths[0] = 3; });
  refused("has 0 position_ids", [](auto& b) { b.packed = true, b.token_count = 4; });
}

class StepInputsOnDevice : public ::testing::TestWithParam<Device> {
 protected:
  void SetUp() override {
    if (const std::string why = testing::why_not_on(GetParam()); !why.empty()) GTEST_SKIP() << why;
    model_ = testing::small_bert();
    model_->to(GetParam());
  }
  static PackedBatch batch() {
    return {.lengths = {3, 2}, .ids = {1, 2, 3, 4, 5}, .types = {0, 0, 1, 0, 1}, .positions = {0, 1, 2, 0, 1},
            .labels = {1, 0}};
  }

  std::unique_ptr<nn::BertForSequenceClassification> model_;
};

TEST_P(StepInputsOnDevice, HoldTheBatchAndFillers) {
  const StepBucket bucket = bucket_of(5, 3, 2, model_->config.max_position_embeddings);
  StepInputs inputs(GetParam(), bucket, 0, Dtype::f32);
  inputs.fill(batch(), {.global_step = 7, .first_sample = 4, .item_factor = 0.25}, *model_);
  const nn::BertInputs arrays = inputs.arrays();
  std::vector<std::int64_t> ids = arrays.input_ids.to_vector<std::int64_t>();
  EXPECT_EQ(ids.size(), 32u);
  EXPECT_EQ(std::vector<std::int64_t>(ids.begin(), ids.begin() + 6), (std::vector<std::int64_t>{1, 2, 3, 4, 5, 0}));
  EXPECT_EQ(arrays.item_factor.item(), 0.25);
  EXPECT_EQ(arrays.labels.to_vector<std::int64_t>(), (std::vector<std::int64_t>{1, 0}));
  const Packing& there = arrays.packing->on(GetParam());
  EXPECT_EQ(there.offsets.to_vector<std::int32_t>(), (std::vector<std::int32_t>{0, 3, 5, 17, 29, 32}));
  EXPECT_EQ(there.first.to_vector<std::int64_t>(), (std::vector<std::int64_t>{0, 3}));
  EXPECT_EQ(there.sample.to_vector<std::int32_t>()[4], 1);
  std::int32_t counters[2];
  Runtime::instance().copy(Device::cpu(), counters, GetParam(), inputs.counters()->on(GetParam()), sizeof counters);
  EXPECT_EQ(counters[0], 7);
  EXPECT_EQ(counters[1], 4);
  PackedBatch other = batch();
  other.lengths = {1, 4};
  inputs.fill(other, {}, *model_);
  EXPECT_EQ(there.offsets.to_vector<std::int32_t>()[1], 1) << "the same tensors, other contents";
}

TEST_P(StepInputsOnDevice, FillersChangeNothing) {
  const NoGradGuard guard;
  const PackedBatch rows = batch();
  const StepBucket bucket = bucket_of(5, 3, 2, model_->config.max_position_embeddings);
  StepInputs inputs(GetParam(), bucket, 0, Dtype::f32);
  inputs.fill(rows, {.item_factor = 0.5}, *model_);
  const nn::BertOutput filled = (*model_)(inputs.arrays());
  nn::BertInputs plain{.input_ids = Tensor::from(rows.ids, {5}), .packing = Packing::packed(rows.lengths),
                       .labels = Tensor::from(rows.labels, {2}), .num_items_in_batch = 2};
  plain.token_type_ids = Tensor::from(rows.types, {5});
  const nn::BertOutput expected = (*model_)(plain);
  EXPECT_EQ(filled.logits.to_vector<float>(), expected.logits.to_vector<float>()) << "rows know only their sequence";
  EXPECT_EQ(filled.loss.item(), expected.loss.item());
}

TEST_P(StepInputsOnDevice, RefuseWhatTheModelCannotTake) {
  const StepBucket bucket = bucket_of(5, 3, 2, model_->config.max_position_embeddings);
  StepInputs inputs(GetParam(), bucket, 0, Dtype::f32);
  const auto refused = [&](std::string_view says, auto&& spoil) {
    PackedBatch bad = batch();
    spoil(bad);
    testing::expect_usage_error([&] { inputs.fill(bad, {}, *model_); }, says);
  };
  refused("token id 2 is 40, it must lie between 0 and 39", [](PackedBatch& b) { b.ids[2] = 40; });
  refused("token type 1 is -1", [](PackedBatch& b) { b.types[1] = -1; });
  refused("position 4 is 12", [](PackedBatch& b) { b.positions[4] = 12; });
  refused("label 1 is 2, it must lie between 0 and 1", [](PackedBatch& b) { b.labels[1] = 2; });
  refused("sequence 1 is empty", [](PackedBatch& b) { b.lengths = {5, 0}; });
}

SINTER_ON_OTHER_DEVICES(StepInputsOnDevice);

}  // namespace
}  // namespace sinter::train
