// One rank of a training whose steps hold the operations between ranks.
#pragma once

#include <memory>
#include <random>
#include <vector>

#include "core/process_group.h"
#include "optim/groups.h"
#include "tests/train/tiny_training.h"
#include "train/step_runner.h"

namespace sinter::train::testing {

/// A model in training on the group's device, with gradients in many small buckets.
struct RankTraining {
  struct Options {
    bool cuda_graphs = true;
    bool sharded = false;          ///< ZeRO-1
    Dtype compute = Dtype::f32;    ///< f16 with a loss scale that overflows at first
  };

  std::unique_ptr<nn::BertForSequenceClassification> model;
  optim::AdamW optimizer;
  optim::QueuedUpdate update;
  GradientReducer reducer;
  StepRunner runner;

  /// The group must outlive it.
  RankTraining(ProcessGroup& group, const Options& options)
      : model(tiny_bert(group.device(), options.compute)),
        optimizer(optim::decay_groups(model->named_parameters(), 0.01), {.lr = 1e-3}),
        update(prepared(group, options), update_options(options)),
        reducer(optimizer.parameters(), model->named_parameters(), group, std::int64_t{16} << 10),
        runner(*model, optimizer, update, {.seed = 3, .cuda_graphs = options.cuda_graphs, .reducer = &reducer}) {}

  /// An update with a batch of each rank; `inside`: the step holds what is between the ranks.
  void run(const std::vector<data::CollatedBatch>& of_ranks, std::uint32_t step, bool inside) {
    MicroStep place{.global_step = step};
    for (const data::CollatedBatch& batch : of_ranks) place.num_items += static_cast<double>(batch.sample_count);
    if (inside) place.of_ranks = bucket_of_ranks(of_ranks, kPositions);
    runner.run(of_ranks[static_cast<std::size_t>(reducer.ranks().rank())], place);
    if (!inside) runner.finish_update(true);
  }

 private:
  optim::AdamW& prepared(ProcessGroup& group, const Options& options) {
    with_low_copies(optimizer, *model, options.compute, false);
    if (options.sharded) optimizer.shard_states(std::shared_ptr<ProcessGroup>(&group, [](ProcessGroup*) {}));
    return optimizer;
  }
  static optim::QueuedUpdateOptions update_options(const Options& options) {
    optim::QueuedUpdateOptions made{.max_grad_norm = 1.0, .lr = {1e-3, 8e-4, 6e-4}};
    if (options.compute == Dtype::f16) made.loss_scaler = {.init_scale = 0x1p20, .growth_interval = 4};
    return made;
  }
};

/// The batches of an update, three samples for each rank; the same on every rank.
inline std::vector<data::CollatedBatch> batches_of_ranks(std::mt19937& random, int ranks) {
  std::vector<data::CollatedBatch> batches;
  for (int rank = 0; rank < ranks; ++rank) batches.push_back(random_batch(random, 3 * rank, 3));
  return batches;
}

}  // namespace sinter::train::testing
