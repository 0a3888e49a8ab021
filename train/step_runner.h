// The forward, backward and update of a micro-batch on a CUDA device, without waiting for it: one graph for each size.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "core/runtime/step_arena.h"
#include "nn/bert.h"
#include "optim/adamw.h"
#include "optim/queued_update.h"
#include "train/ranks/gradient_reducer.h"
#include "train/step_inputs.h"

namespace sinter::train {

/// A micro-batch's place in its update.
struct MicroStep {
  std::uint32_t global_step = 0;   ///< of the update, for dropout
  double num_items = 1;            ///< of the whole update: what the loss's sum is divided by
  bool first = true, last = true;
  /// Of several ranks, for the last: what bucket_of_ranks() said on all of them. The step is then captured with the
  /// operations between the ranks in it, beside backward, and the update behind them. None: finish_update() follows.
  std::optional<StepBucket> of_ranks{};
};

/// Runs the micro-batches of a training run one after the other in the device's stream. The host code of a step is the
/// ordinary one, forward, backward and update. The first batch of a bucket runs it as it is; at the second it is
/// captured (of ranks at the third), and from then on replayed. Both give the same bits. Batches that cannot be packed
/// (step_inputs.h) run as they are, each time.
///
/// Operations between ranks must be captured by all in the same step. So what decides about that, which buckets came
/// and how large they are, is the same on every rank (of GPUs of one kind) for buckets of ranks: they have an arena of
/// their own beside that of the micro-batches before them, and run twice as they are.
///
/// The host waits for nothing but a free half of the staging buffer; losses and norms come from update.drain().
class StepRunner {
 public:
  struct Options {
    std::uint64_t seed = 42;              ///< of dropout
    double label_smoothing = 0;
    bool cuda_graphs = true;              ///< false: every batch is launched kernel by kernel
    std::size_t most_buckets = 256;
    GradientReducer* reducer = nullptr;   ///< of several ranks; null: one rank
  };

  /// The three, and the reducer, live longer than the runner.
  StepRunner(const nn::BertForSequenceClassification& model, optim::AdamW& optimizer, optim::QueuedUpdate& update,
             Options options);

  /// Error(usage) for a batch that the model cannot take; Error(unsupported) beyond most_buckets, with how often each
  /// came.
  void run(const data::CollatedBatch& batch, const MicroStep& place);
  /// With a reducer, on every rank behind the last micro-batch of an update that was none of_ranks: adds gradients and
  /// losses of the ranks up, and launches the update. `has_gradient`: this rank ran a micro-batch of it.
  void finish_update(bool has_gradient);

  struct Bucket {
    StepBucket sizes;
    std::int64_t batches = 0;
    bool captured = false;
  };
  /// What has come so far, most frequent first.
  std::vector<Bucket> histogram() const;
  StepArena& arena() { return arena_; }

 private:
  struct Program {
    std::unique_ptr<StepInputs> inputs;
    std::int64_t batches = 0;
    std::optional<StepPlan> plan;
    StepGraph graph;
    std::vector<bool> stale_gradients;   // behind the step
  };

  Program& program(const StepBucket& bucket);
  void run_program(const StepBucket& bucket, Program& program);
  void launch(const StepBucket& bucket, const Program& program);
  void run_as_it_is(const data::CollatedBatch& batch, const MicroStep& place);
  bool update_follows(const MicroStep& place) const {
    return place.last && (options_.reducer == nullptr || place.of_ranks);
  }
  /// Forward, backward and, for the last of an update, that.
  void compute(const nn::BertInputs& arrays, const StepBucket& place);
  /// Gradients and losses become those of all ranks.
  void add_up();

  const nn::BertForSequenceClassification& model_;
  optim::AdamW& optimizer_;
  optim::QueuedUpdate& update_;
  Options options_;
  Device device_;
  StepArena arena_, arena_of_ranks_;
  std::map<StepBucket, Program> programs_;
};

}  // namespace sinter::train
