// How many updates a run makes.
#pragma once

#include <cstdint>

#include "train/trainer_state.h"
#include "train/training_arguments.h"

namespace sinter::train {

/// Counts that follow from the arguments and the data. The last group of micro-batches of an epoch may be short; an
/// epoch has at least one update, however large gradient_accumulation_steps is.
struct TrainPlan {
  std::int64_t batch_size = 0;          ///< of a rank's micro-batch
  std::int64_t ranks = 1;               ///< that train together
  std::int64_t accumulation = 0;        ///< micro-batches of an update, of each rank
  std::int64_t samples_per_epoch = 0;   ///< without what dataloader_drop_last drops
  std::int64_t batches_per_epoch = 0;   ///< of each rank; the last may be short, or empty
  std::int64_t updates_per_epoch = 0;
  std::int64_t max_steps = 0;
  std::int64_t num_train_epochs = 0;    ///< rounded up

  /// Samples of one micro-batch of every rank: rank r takes the r-th part of them, as long as there are some.
  std::int64_t samples_per_batch() const { return batch_size * ranks; }
  std::int64_t samples_per_update() const { return samples_per_batch() * accumulation; }
};

/// `batch_size` stands for args.per_device_train_batch_size, which auto_find_batch_size may have lowered. Error(usage)
/// when no batch is left, or when there are more updates than a step number can count.
TrainPlan plan_training(const TrainingArguments& args, std::int64_t samples, std::int64_t batch_size, int ranks);

/// max_steps of a run that goes on from `state` with another batch size, accumulation or number of ranks than it began
/// with: the updates done, and those that the rest of its epochs takes now.
std::int64_t replanned_max_steps(const TrainPlan& plan, const TrainingArguments& args, const TrainerState& state);

}  // namespace sinter::train
