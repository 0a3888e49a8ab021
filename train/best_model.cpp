#include "train/best_model.h"

#include <algorithm>
#include <cmath>

#include "core/error.h"

namespace sinter::train {

double best_model_metric(const TrainingArguments& args, const Metrics& metrics) {
  std::string name = args.metric_for_best_model.value_or("loss");
  if (!name.starts_with("eval_")) name = "eval_" + name;
  if (const auto found = metrics.find(name); found != metrics.end()) return found->second;
  std::string list;
  for (const auto& [key, value] : metrics) list += (list.empty() ? "" : ", ") + key;
  fail(ErrorCode::usage, "metric_for_best_model is \"", *args.metric_for_best_model, "\", and the evaluation gave ",
       list, "; name one of these, or let compute_metrics return it");
}

bool is_better(const TrainingArguments& args, double metric, double best) {
  return args.greater_is_better.value_or(false) ? metric > best : metric < best;
}

bool update_best_metric(const TrainingArguments& args, const Metrics& metrics, TrainerState& state) {
  if (!args.metric_for_best_model) return false;
  const double metric = best_model_metric(args, metrics);
  if (std::isnan(metric) || (state.best_metric && !is_better(args, metric, *state.best_metric))) return false;
  state.best_metric = metric;
  state.best_global_step = state.global_step;
  return true;
}

bool keeps_best_model(const TrainingArguments& args) {
  return args.load_best_model_at_end || args.save_strategy == "best";
}

std::vector<std::int64_t> surplus_checkpoints(std::span<const std::int64_t> steps, std::int64_t limit,
                                              std::int64_t current, std::optional<std::int64_t> best) {
  if (limit <= 0) return {};
  std::vector<std::int64_t> by_worth(steps.begin(), steps.end());   // the least first
  std::stable_partition(by_worth.begin(), by_worth.end(), [&](std::int64_t step) { return step > current; });
  std::vector<std::int64_t> surplus;
  auto left = static_cast<std::int64_t>(steps.size());
  for (const std::int64_t step : by_worth) {
    if (left <= limit) break;
    if (step == current || step == best) continue;
    surplus.push_back(step);
    --left;
  }
  return surplus;
}

}  // namespace sinter::train
