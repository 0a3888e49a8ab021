// What a captured step reads: the arrays of a batch, at places that stay, in sizes that come again.
#pragma once

#include <compare>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "core/ops/packing.h"
#include "core/random.h"
#include "data/collator.h"
#include "nn/bert.h"

namespace sinter::train {

/// The sizes of one micro-batch in its step. One graph serves all batches of a bucket.
struct StepBucket {
  std::int64_t tokens = 0;       ///< T, of ranks the most, rounded up by at most an eighth (by 31 below 512)
  std::int64_t max_length = 0;   ///< 64, 128, 256 ... or the model's positions: no sample is longer
  std::int64_t samples = 0;      ///< B
  bool first = true;             ///< of its update: gradients are overwritten, not added to
  bool last = true;              ///< the update follows
  bool of_ranks = false;         ///< every rank takes it, and the step holds the operations between them
  std::uint32_t taps = 0;        ///< what the step hands out beside its loss: kept free, nothing can be asked for yet

  auto operator<=>(const StepBucket&) const = default;
  /// Sequences behind the samples that take up the tokens between T and its bound; of ranks any T.
  std::int64_t fillers() const;
  /// "T 416, longest 64, B 16, update"
  std::string str() const;
};

/// The smallest bucket of batches with these sizes, for a model of `positions` positions.
StepBucket bucket_of(std::int64_t tokens, std::int64_t longest, std::int64_t samples, std::int64_t positions);

/// A batch without pads, on the host.
struct PackedBatch {
  std::vector<std::int64_t> lengths;   ///< [B]
  std::vector<std::int64_t> ids, types, positions;   ///< [T]
  std::vector<std::int64_t> labels;    ///< [B]
};

/// Drops the pads of a batch. False for one with a pad before a token, which cannot be told from it: BERT pools the row
/// of the first pad. Error(usage) where its arrays do not have the sizes that it names.
bool pack(const data::CollatedBatch& batch, PackedBatch& packed);

/// Tokens of the longest sample; 0 where there is none.
std::int64_t longest_of(const PackedBatch& batch);

/// The bucket in which each of these batches fits, at least one, that are those of all ranks and the last of their
/// update; none where a batch cannot be packed, or has another number of samples.
std::optional<StepBucket> bucket_of_ranks(std::span<const data::CollatedBatch> batches, std::int64_t positions);

/// What stands beside the batch's arrays.
struct StepNumbers {
  std::uint32_t global_step = 0, first_sample = 0;   ///< of dropout
  double item_factor = 1;                            ///< the loss's sum over samples is multiplied by it
};

/// The arrays of a bucket on a device, in one block.
class StepInputs {
 public:
  StepInputs(Device device, const StepBucket& bucket, std::int64_t pad_token_id, Dtype parameters);

  /// Checks a batch of the bucket against the model as the eager ops do (Error(usage)), and puts it into the block,
  /// behind all work in the stream. The host waits only when it is a whole staging half ahead (core/runtime/staging.h).
  void fill(const PackedBatch& batch, const StepNumbers& numbers, const nn::BertForSequenceClassification& model);

  /// The block's arrays for the model. After the first fill().
  nn::BertInputs arrays() const;
  const std::shared_ptr<const StepCounters>& counters() const { return counters_; }

 private:
  struct Layout;
  void place(const Packing& packing);

  Device device_;
  StepBucket bucket_;
  std::int64_t pad_token_id_;
  Dtype parameters_;
  std::vector<std::byte> host_;
  std::shared_ptr<Storage> block_;
  nn::BertInputs arrays_;
  std::shared_ptr<const StepCounters> counters_;
};

}  // namespace sinter::train
