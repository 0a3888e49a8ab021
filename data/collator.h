// From rows of a tokenized data set to the arrays of one batch.
//
// Collators read the columns input_ids (lists of token ids), token_type_ids (absent: all 0), attention_mask (absent:
// all 1; 0 marks a pad) and the labels, an integer column label, label_ids or labels; other columns are ignored.
// Errors are ErrorCode::usage: a row out of range, no input_ids, lists of one row that differ in length, two columns
// of labels.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <span>
#include <vector>

#include "data/dataset.h"
#include "data/tokenize_options.h"

namespace sinter::data {

class BertTokenizer;

/// Host arrays of one batch of B samples, in one of two layouts.
///
/// padded  input_ids, token_type_ids, attention_mask [B, S] row by row, S = sequence_length; pads have the pad token's
///         id, type 0 and mask 0. lengths [B] count the tokens that are no pads. position_ids and offsets are empty.
/// packed  the samples one behind the other without any pad: input_ids, token_type_ids, position_ids [T], positions
///         counted from 0 in each sample; sample b owns tokens offsets[b] .. offsets[b + 1] - 1; lengths as above.
///         sequence_length is the longest sample. attention_mask is empty.
struct CollatedBatch {
  bool packed = false;
  std::int64_t sample_count = 0;      ///< B
  std::int64_t token_count = 0;       ///< T, real tokens: pads do not count
  std::int64_t sequence_length = 0;   ///< S
  std::int64_t first_sample = 0;      ///< ordinal of sample 0 in the global batch; dropout masks depend on it
  std::vector<std::int64_t> input_ids;
  std::vector<std::int64_t> token_type_ids;
  std::vector<std::int64_t> attention_mask;
  std::vector<std::int64_t> position_ids;
  std::vector<std::int32_t> offsets;  ///< [B + 1]
  std::vector<std::int64_t> lengths;  ///< [B]
  std::vector<std::int64_t> labels;   ///< [B], or empty when the data set has none
};

/// Builds the batch of the given rows; `first_sample` goes into the batch. Called from several threads at once.
using DataCollator = std::function<CollatedBatch(const Dataset&, std::span<const std::int64_t> rows,
                                                 std::int64_t first_sample)>;

/// The labels of all rows; empty when the data set has none.
std::span<const std::int64_t> labels_of(const Dataset& dataset);

struct DataCollatorOptions {
  Padding padding = true;
  /// Of "max_length", unset: the tokenizer's model_max_length. No sample may be longer.
  std::optional<std::int64_t> max_length;
  std::optional<std::int64_t> pad_to_multiple_of;   ///< the padded length is rounded up to a multiple
};

/// Padded batches, with the tokenizer's pad token on its padding_side. Without padding, unequal lengths are an error.
class DataCollatorWithPadding {
 public:
  /// ErrorCode::usage for a length below 1, and for "max_length" where no length is known.
  explicit DataCollatorWithPadding(const BertTokenizer& tokenizer, const DataCollatorOptions& options = {});
  CollatedBatch operator()(const Dataset& dataset, std::span<const std::int64_t> rows,
                           std::int64_t first_sample = 0) const;

 private:
  std::int64_t pad_token_id_;
  Side padding_side_;
  DataCollatorOptions options_;
};

/// Padded layout for rows that have the same length already: stacks them, and refuses others.
class DefaultDataCollator {
 public:
  CollatedBatch operator()(const Dataset& dataset, std::span<const std::int64_t> rows,
                           std::int64_t first_sample = 0) const;
};

/// Packed batches; pads that the columns hold are left out, and the tokens behind them keep their positions.
/// ErrorCode::usage for a batch of 2^31 tokens or more.
class DataCollatorWithFlattening {
 public:
  CollatedBatch operator()(const Dataset& dataset, std::span<const std::int64_t> rows,
                           std::int64_t first_sample = 0) const;
};

}  // namespace sinter::data
