#include "train/train_plan.h"

#include <algorithm>
#include <cmath>

#include "core/error.h"

namespace sinter::train {
namespace {

std::int64_t ceil_div(std::int64_t a, std::int64_t b) { return (a + b - 1) / b; }

}  // namespace

TrainPlan plan_training(const TrainingArguments& args, std::int64_t samples, std::int64_t batch_size, int ranks) {
  TrainPlan plan{.batch_size = batch_size, .ranks = ranks, .accumulation = args.gradient_accumulation_steps};
  const std::int64_t together = plan.samples_per_batch();
  plan.batches_per_epoch = args.dataloader_drop_last ? samples / together : ceil_div(samples, together);
  if (plan.batches_per_epoch == 0)
    fail(ErrorCode::usage, "dataloader_drop_last drops every sample: ", samples, " samples do not fill one batch of ",
         batch_size, ranks > 1 ? " on each rank" : "");
  plan.samples_per_epoch = std::min(samples, plan.batches_per_epoch * together);
  plan.updates_per_epoch = ceil_div(plan.batches_per_epoch, plan.accumulation);
  const double steps = std::ceil(args.num_train_epochs * static_cast<double>(plan.updates_per_epoch));
  if (args.max_steps <= 0 && steps >= 4294967296.0)
    fail(ErrorCode::usage, "num_train_epochs is ", args.num_train_epochs, ", which makes ", steps,
         " updates; there may be at most 2^32 - 1");
  plan.max_steps = args.max_steps > 0 ? args.max_steps : static_cast<std::int64_t>(steps);
  plan.num_train_epochs = args.max_steps > 0 ? ceil_div(plan.max_steps, plan.updates_per_epoch)
                                             : static_cast<std::int64_t>(std::ceil(args.num_train_epochs));
  return plan;
}

std::int64_t replanned_max_steps(const TrainPlan& plan, const TrainingArguments& args, const TrainerState& state) {
  if (args.max_steps > 0) return args.max_steps;
  const std::int64_t samples_left = std::max<std::int64_t>(0, plan.samples_per_epoch - state.samples_in_epoch);
  const std::int64_t this_epoch = ceil_div(ceil_div(samples_left, plan.samples_per_batch()), plan.accumulation);
  const double epochs_behind = args.num_train_epochs - static_cast<double>(state.epoch_index) - 1;  // below 0: a part
  const auto behind = static_cast<std::int64_t>(std::ceil(epochs_behind * static_cast<double>(plan.updates_per_epoch)));
  return state.global_step + std::max<std::int64_t>(0, this_epoch + behind);
}

}  // namespace sinter::train
