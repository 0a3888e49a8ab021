// Which checkpoint is the best, and which ones are kept.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "train/metrics.h"
#include "train/trainer_state.h"
#include "train/training_arguments.h"

namespace sinter::train {

/// The value of args.metric_for_best_model, whose "eval_" may be left out, among an evaluation's metrics. Error(usage)
/// that lists the metrics when it is not there.
double best_model_metric(const TrainingArguments& args, const Metrics& metrics);

/// Strictly better in the direction of args.greater_is_better; NaN is never better.
bool is_better(const TrainingArguments& args, double metric, double best);

/// Takes an evaluation into state.best_metric and best_global_step when it is the first or a better one, and says
/// whether it was. Without metric_for_best_model nothing happens.
bool update_best_metric(const TrainingArguments& args, const Metrics& metrics, TrainerState& state);

/// Is a checkpoint of the best model kept? Then each new best one is saved at once, whatever save_strategy says: the
/// metric that is reported and the weights that are loaded belong together.
bool keeps_best_model(const TrainingArguments& args);

/// The steps to delete, from ascending `steps` of the checkpoints that are there, beyond `limit`: first those behind
/// `current`, the one just saved, which stem from a run that this one has left; then the oldest. Never the current nor
/// the best. A limit of 0 or less keeps all.
std::vector<std::int64_t> surplus_checkpoints(std::span<const std::int64_t> steps, std::int64_t limit,
                                              std::int64_t current, std::optional<std::int64_t> best);

}  // namespace sinter::train
