// One rank's training steps, alone or with others, as the Trainer takes them: what scale_bench measures.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "bench/scale_model.h"
#include "core/process_group.h"
#include "data/collator.h"
#include "nn/bert.h"
#include "optim/adamw.h"
#include "train/ranks/gradient_reducer.h"

namespace sinter::bench {

/// How a rank trains.
struct Sharing {
  std::shared_ptr<ProcessGroup> ranks;   ///< with whom; null: alone
  std::int64_t bucket_bytes = train::GradientReducer::kBucketBytes;
  bool shards_states = false;            ///< ZeRO stage 1
  bool defers_rows = false;              ///< of the word table, where it is alone (optim::AdamW::defer_rows)
};

/// What a rank reads: its part of every batch.
struct RankBatches {
  std::vector<data::CollatedBatch> parts;   ///< taken in turns
  std::int64_t samples = 0;                 ///< of a whole batch, all ranks together
};

/// An AdamW over the model's parameters, and steps with it. One for a model at a time. With others, every rank makes it
/// and takes the same steps, from the weights of rank 0.
class RankSteps {
 public:
  RankSteps(nn::BertForSequenceClassification& model, const RankBatches& batches, Sharing sharing);

  /// Forward, backward, sums over the ranks, gradient norm, update. Returns when the device has finished.
  void run(std::int64_t steps);
  /// A step of a rank that is alone, taken apart: each part ends when the device has finished. The buckets are those
  /// that it would send to others, ready when the device has computed them.
  StepParts run_apart();

  std::int64_t gradient_bytes();

 private:
  class ReadyClock;
  struct Ends {
    double forward = 0, backward = 0;
  };

  Ends differentiate(train::GradientReducer* reducer, bool waits);
  void update();
  double now(bool waits) const;

  nn::BertForSequenceClassification& model_;
  const RankBatches& batches_;
  Sharing sharing_;
  Device device_;
  optim::AdamW optimizer_;
  std::unique_ptr<train::GradientReducer> reducer_;   // null: alone
  std::uint32_t step_ = 0;
  double loss_ = 0;
};

}  // namespace sinter::bench
