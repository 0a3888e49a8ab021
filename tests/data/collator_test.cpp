#include "data/collator.h"

#include <gtest/gtest.h>

#include <map>
#include <string>

#include "data/tokenizer.h"
#include "tests/core/expect_error.h"

namespace sinter::data {
namespace {

using testing::refusal;
using I64 = std::vector<std::int64_t>;

Lists lists(const std::vector<std::vector<std::int32_t>>& rows) {
  Lists result;
  for (const auto& row : rows) result.push_back(row);
  return result;
}

const Columns kColumns = {
    {"input_ids", lists({{2, 9, 3}, {2, 3}, {2, 7, 8, 9, 3}, {}})},
    {"token_type_ids", lists({{0, 0, 1}, {0, 1}, {0, 0, 0, 0, 1}, {}})},
    {"attention_mask", lists({{1, 1, 1}, {1, 1}, {1, 1, 1, 1, 1}, {}})},
    {"label", Column::Integers{1, 0, 1, 0}},
    {"sentence", Column::Texts{"a", "b", "c", "d"}},   // collators pass it over
};
const Dataset kSet(kColumns);
const BertTokenizer kTokenizer({"[UNK]", "[CLS]", "[SEP]", "a", "b", "[PAD]"});   // pads are 5

DataCollatorWithPadding padding(const DataCollatorOptions& options = {}) {
  return DataCollatorWithPadding(kTokenizer, options);
}

TEST(Collator, PaddedLayout) {
  const CollatedBatch b = padding()(kSet, I64{1, 0}, 64);
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

TEST(Collator, PaddedLengths) {
  const struct {
    DataCollatorOptions options;
    I64 rows;
    std::int64_t length;
  } table[] = {
      {{}, {2, 1}, 5},
      {{.padding = "longest"}, {0, 1}, 3},
      {{.pad_to_multiple_of = 8}, {2}, 8},
      {{.pad_to_multiple_of = 5}, {2}, 5},
      {{.pad_to_multiple_of = 2}, {2}, 6},
      {{.padding = "max_length", .max_length = 7}, {0, 1}, 7},
      {{.padding = "max_length", .max_length = 7, .pad_to_multiple_of = 8}, {0, 1}, 8},
      {{.padding = "max_length", .max_length = 5}, {2}, 5},
      {{.padding = false, .pad_to_multiple_of = 8}, {0}, 3},
      {{.pad_to_multiple_of = 8}, {3}, 0},
  };
  for (const auto& row : table) {
    const CollatedBatch b = padding(row.options)(kSet, row.rows);
    EXPECT_EQ(b.sequence_length, row.length);
    EXPECT_EQ(static_cast<std::int64_t>(b.input_ids.size()), row.length * b.sample_count);
    EXPECT_EQ(static_cast<std::int64_t>(b.attention_mask.size()), row.length * b.sample_count);
  }
  EXPECT_EQ(padding({.pad_to_multiple_of = 2})(kSet, I64{2}).input_ids, (I64{2, 7, 8, 9, 3, 5}));
}

TEST(Collator, TheTokenizersSideAndLength) {
  const BertTokenizer left({"[PAD]", "[UNK]", "[CLS]", "[SEP]"}, {.model_max_length = 4, .padding_side = "left"});
  const CollatedBatch b = DataCollatorWithPadding(left, {.padding = "max_length"})(kSet, I64{1, 0});
  EXPECT_EQ(b.input_ids, (I64{0, 0, 2, 3, 0, 2, 9, 3}));
  EXPECT_EQ(b.token_type_ids, (I64{0, 0, 0, 1, 0, 0, 0, 1}));
  EXPECT_EQ(b.attention_mask, (I64{0, 0, 1, 1, 0, 1, 1, 1}));
  const Dataset ids = kSet.remove_columns({"attention_mask", "token_type_ids"});
  EXPECT_EQ(DataCollatorWithPadding(left)(ids, I64{1, 0}).attention_mask, (I64{0, 1, 1, 1, 1, 1}));
}

TEST(Collator, PackedLayout) {
  const CollatedBatch b = DataCollatorWithFlattening()(kSet, I64{2, 3, 1}, 7);
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

TEST(Collator, DefaultStacksEqualLengthsOnly) {
  const CollatedBatch b = DefaultDataCollator()(kSet, I64{2, 2}, 3);
  EXPECT_EQ(b.sequence_length, 5);
  EXPECT_EQ(b.first_sample, 3);
  EXPECT_EQ(b.input_ids, (I64{2, 7, 8, 9, 3, 2, 7, 8, 9, 3}));
  EXPECT_EQ(b.labels, (I64{1, 1}));
  const std::string expected =
      "rows 2 and 0 have 5 and 3 tokens and cannot be stacked; DataCollatorWithPadding pads them to one length";
  EXPECT_EQ(refusal([] { DefaultDataCollator()(kSet, I64{2, 0}); }), expected);
  EXPECT_EQ(refusal([] { padding({.padding = "do_not_pad"})(kSet, I64{2, 0}); }), expected);
}

// Rows that the tokenizer padded already: pads are masked, and leave a packed batch.
TEST(Collator, PadsInTheColumns) {
  const Dataset padded({{"input_ids", lists({{2, 9, 3, 5}, {5, 2, 9, 3}})},
                        {"attention_mask", lists({{1, 1, 1, 0}, {0, 1, 1, 1}})}});
  const CollatedBatch b = padding()(padded, I64{0, 1});
  EXPECT_EQ(b.attention_mask, (I64{1, 1, 1, 0, 0, 1, 1, 1}));
  EXPECT_EQ(b.lengths, (I64{3, 3}));
  EXPECT_EQ(b.token_count, 6);
  const CollatedBatch packed = DataCollatorWithFlattening()(padded, I64{0, 1});
  EXPECT_EQ(packed.input_ids, (I64{2, 9, 3, 2, 9, 3}));
  EXPECT_EQ(packed.position_ids, (I64{0, 1, 2, 1, 2, 3}));
  EXPECT_EQ(packed.offsets, (std::vector<std::int32_t>{0, 3, 6}));
  EXPECT_EQ(packed.sequence_length, 3);
}

TEST(Collator, AbsentColumnsAndEmptyBatches) {
  const Dataset ids({{"input_ids", lists({{2, 9, 3}, {2, 3}})}});
  const CollatedBatch b = padding()(ids, I64{1, 0});
  EXPECT_EQ(b.token_type_ids, (I64{0, 0, 0, 0, 0, 0}));
  EXPECT_EQ(b.attention_mask, (I64{1, 1, 0, 1, 1, 1}));
  EXPECT_EQ(b.lengths, (I64{2, 3}));
  EXPECT_TRUE(b.labels.empty());
  EXPECT_EQ(DataCollatorWithFlattening()(ids, I64{0}).token_type_ids, (I64{0, 0, 0}));
  const CollatedBatch none = padding()(kSet, {});
  EXPECT_EQ(none.sample_count, 0);
  EXPECT_EQ(none.sequence_length, 0);
  EXPECT_TRUE(none.input_ids.empty());
  EXPECT_EQ(DataCollatorWithFlattening()(kSet, {}).offsets, (std::vector<std::int32_t>{0}));
}

// hf_trainer.md, section 6, number 2: the name of the label column changes nothing, nor does a column nobody reads.
TEST(HfBehaviour, N2_LabelColumnNames) {
  const CollatedBatch expected = padding()(kSet, I64{0, 2});
  for (const char* name : {"labels", "label_ids"}) {
    const CollatedBatch b = padding()(kSet.rename_column("label", name).remove_columns({"sentence"}), I64{0, 2});
    EXPECT_EQ(b.labels, expected.labels);
    EXPECT_EQ(b.input_ids, expected.input_ids);
  }
}

TEST(Collator, RefusesWhatDoesNotFit) {
  const auto with = [](const char* name, Column column) {
    Columns columns = kColumns;
    columns.insert_or_assign(name, std::move(column));
    return Dataset(columns);
  };
  const struct {
    Dataset dataset;
    I64 rows;
    std::string sentence;
  } table[] = {
      {kSet, {4}, "row 4 was asked for in a data set of 4 rows"},
      {kSet, {-1}, "row -1 was asked for in a data set of 4 rows"},
      {kSet.remove_columns({"input_ids"}), {0},
       "a batch needs the column \"input_ids\", which dataset.map with a tokenizer makes; the columns: attention_mask, "
       "label, sentence, token_type_ids"},
      {with("labels", Column::Integers{1, 0, 1, 0}), {0},
       "the data set has labels in two columns, \"label\" and \"labels\"; remove_columns takes one away"},
      {with("label", Column::Texts{"x", "y", "x", "y"}), {0},
       "the column \"label\" holds values of the kind text; labels are integers from 0"},
      {with("input_ids", Column::Texts{"x", "y", "x", "y"}), {0},
       "the column \"input_ids\" holds values of the kind text; a batch needs lists of integers"},
      {with("attention_mask", lists({{1, 1}, {1, 1}, {}, {}})), {1, 0}, "row 0 has 3 input_ids and 2 attention_mask"},
      {with("token_type_ids", lists({{1}, {1, 1}, {}, {}})), {1, 0}, "row 0 has 3 input_ids and 1 token_type_ids"},
  };
  for (const auto& row : table) {
    EXPECT_EQ(refusal([&] { padding()(row.dataset, row.rows); }), row.sentence);
    EXPECT_EQ(refusal([&] { DataCollatorWithFlattening()(row.dataset, row.rows); }), row.sentence);
    EXPECT_EQ(refusal([&] { DefaultDataCollator()(row.dataset, row.rows); }), row.sentence);
  }
  EXPECT_EQ(refusal([] { padding({.pad_to_multiple_of = 0}); }), "pad_to_multiple_of is 0, it must be at least 1");
  EXPECT_EQ(refusal([] { padding({.max_length = 0}); }), "max_length is 0, it must be at least 1");
  EXPECT_EQ(refusal([] { padding({.padding = "max_length"}); }), 
            "padding is \"max_length\", which needs a max_length: the tokenizer has no model_max_length");
  EXPECT_EQ(refusal([] { padding({.padding = "max_length", .max_length = 4})(kSet, I64{2}); }),
            "a sample has 5 tokens, more than the max_length 4 that batches are padded to; the tokenizer cuts samples "
            "with truncation and the same max_length");
}

}  // namespace
}  // namespace sinter::data
