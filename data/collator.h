// From tokenized samples to the arrays of one batch.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "data/encoding.h"

namespace sinter::data {

/// Host arrays of one batch of B samples, in one of two layouts.
///
/// padded  input_ids, token_type_ids, attention_mask [B, S] row by row, S = sequence_length; pads stand on the
///         right, with the pad token's id, type 0 and mask 0. lengths [B] are the real lengths. position_ids and
///         offsets are empty.
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

/// Builds the batch of samples indices[0 .. B) of a tokenized data set.
class DataCollator {
 public:
  virtual ~DataCollator() = default;
  /// `labels` is empty or has one entry for each encoding; `first_sample` goes into CollatedBatch::first_sample.
  /// ErrorCode::usage for an index out of range or labels of another number than encodings.
  virtual CollatedBatch operator()(std::span<const Encoding> encodings, std::span<const std::int64_t> labels,
                                   std::span<const std::int64_t> indices, std::int64_t first_sample = 0) const = 0;
};

/// Padded batches: S is the longest sample of the batch, rounded up to a multiple of pad_to_multiple_of.
class DataCollatorWithPadding final : public DataCollator {
 public:
  /// ErrorCode::usage for a negative pad_token_id or pad_to_multiple_of < 1.
  explicit DataCollatorWithPadding(std::int64_t pad_token_id, std::int64_t pad_to_multiple_of = 1);
  CollatedBatch operator()(std::span<const Encoding> encodings, std::span<const std::int64_t> labels,
                           std::span<const std::int64_t> indices, std::int64_t first_sample = 0) const override;

 private:
  std::int64_t pad_token_id_;
  std::int64_t pad_to_multiple_of_;
};

/// Packed batches. ErrorCode::usage for a batch of 2^31 tokens or more.
class DataCollatorWithFlattening final : public DataCollator {
 public:
  CollatedBatch operator()(std::span<const Encoding> encodings, std::span<const std::int64_t> labels,
                           std::span<const std::int64_t> indices, std::int64_t first_sample = 0) const override;
};

}  // namespace sinter::data
