// Evaluation and prediction.
#include <algorithm>
#include <chrono>
#include <cmath>
#include <numeric>

#include "core/autograd/mode.h"
#include "core/error.h"
#include "train/best_model.h"
#include "train/columns.h"
#include "train/stop_signal.h"
#include "train/trainer.h"

namespace sinter::train {
namespace {

using Clock = std::chrono::steady_clock;

/// Puts a model into evaluation mode, and back.
class EvalMode {
 public:
  explicit EvalMode(nn::Module& model) : model_(model), before_(model.is_training()) { model_.eval(); }
  ~EvalMode() { model_.train(before_); }
  EvalMode(const EvalMode&) = delete;
  EvalMode& operator=(const EvalMode&) = delete;

 private:
  nn::Module& model_;
  bool before_;
};

/// The dtype in which a model computes, until it ends.
class ComputeDtype {
 public:
  ComputeDtype(nn::Module& model, Dtype dtype) : model_(model), before_(model.compute_dtype()) {
    model_.set_compute_dtype(dtype);
  }
  ~ComputeDtype() { model_.set_compute_dtype(before_); }
  ComputeDtype(const ComputeDtype&) = delete;
  ComputeDtype& operator=(const ComputeDtype&) = delete;

 private:
  nn::Module& model_;
  Dtype before_;
};

/// True for its lifetime, however that ends.
class SetForScope {
 public:
  explicit SetForScope(bool& flag) : flag_(flag) { flag_ = true; }
  ~SetForScope() { flag_ = false; }
  SetForScope(const SetForScope&) = delete;
  SetForScope& operator=(const SetForScope&) = delete;

 private:
  bool& flag_;
};

/// Thrown inside an evaluation that a signal breaks off.
struct Stopped {};

void append(std::vector<Predictions>& outputs, const Tensors& logits) {
  if (outputs.empty()) outputs.resize(logits.size());
  if (outputs.size() != logits.size())
    fail(ErrorCode::usage, "the model has ", logits.size(), " outputs for one batch and ", outputs.size(), " before");
  for (std::size_t i = 0; i < logits.size(); ++i) outputs[i].append(logits[i]);
}

}  // namespace

std::optional<Metrics> Trainer::evaluate_unless_stopped() {
  const SetForScope stops(stops_evaluations_);
  try {
    return evaluate();
  } catch (const Stopped&) {
    return std::nullopt;
  }
}

Metrics Trainer::evaluate(const std::string& metric_key_prefix) {
  if (!parts_.eval_dataset) fail(ErrorCode::usage, "evaluate() needs an eval_dataset");
  return evaluate_prepared(*parts_.eval_dataset, metric_key_prefix);
}

Metrics Trainer::evaluate(const data::Dataset& dataset, const std::string& metric_key_prefix) {
  return evaluate_prepared(prepared("eval_dataset", dataset), metric_key_prefix);
}

Metrics Trainer::evaluate_prepared(const data::Dataset& dataset, const std::string& prefix) {
  Metrics metrics = run_prediction(dataset, prefix, !parts_.compute_metrics).metrics;
  Json entry = Json::object();
  for (const auto& [key, value] : metrics) entry.set(key, value);
  log(std::move(entry));
  metrics["epoch"] = state_.epoch;
  fire(&TrainerCallback::on_evaluate, &metrics);
  return metrics;
}

PredictionOutput Trainer::predict(const data::Dataset& dataset, const std::string& metric_key_prefix) {
  PredictionOutput output = run_prediction(prepared("dataset", dataset), metric_key_prefix, false);
  fire(&TrainerCallback::on_predict, &output.metrics);
  return output;
}

PredictionOutput Trainer::run_prediction(const data::Dataset& dataset, const std::string& prefix, bool loss_only,
                                         bool with_events) {
  if (dataset.size() == 0) fail(ErrorCode::usage, "an evaluation needs a data set with at least one sample");
  const Clock::time_point start = Clock::now();
  const NoGradGuard guard;
  const EvalMode mode(*parts_.model);
  const bool trains = optimizer_ != nullptr;
  if (trains) optimizer_->flush();
  const ComputeDtype dtype(*parts_.model, !trains && parts_.args.fp16_full_eval   ? Dtype::f16
                                          : !trains && parts_.args.bf16_full_eval ? Dtype::bf16
                                                                                  : parts_.model->compute_dtype());
  std::vector<std::int64_t> order(static_cast<std::size_t>(dataset.size()));
  std::iota(order.begin(), order.end(), 0);
  const std::span<const std::int64_t> labels = item_labels(parts_.args, dataset);
  const auto batch_size = static_cast<std::size_t>(parts_.args.per_device_eval_batch_size);
  PredictionOutput output;
  std::vector<Predictions> outputs;
  std::optional<double> loss;
  std::int64_t steps = 0;
  for (std::size_t at = 0; at < order.size(); at += batch_size, ++steps) {
    if (stops_evaluations_ && StopSignal::received() != 0) throw Stopped{};
    const std::span<const std::int64_t> rows = std::span(order).subspan(at, std::min(batch_size, order.size() - at));
    const data::CollatedBatch batch = collate(dataset, rows, 0);
    const LossInputs inputs{batch, dataset, rows, 1};
    ModelOutput result = compute_loss(inputs);
    if (result.loss.defined()) loss = loss.value_or(0) + result.loss.item();
    if (!loss_only && !parts_.args.prediction_loss_only) {
      if (parts_.preprocess_logits_for_metrics)
        result.logits = parts_.preprocess_logits_for_metrics(std::move(result.logits), inputs);
      append(outputs, result.logits);
    }
    if (with_events) fire(&TrainerCallback::on_prediction_step);
  }
  const double seconds = std::max(std::chrono::duration<double>(Clock::now() - start).count(), 1e-9);
  output.label_ids.assign(labels.begin(), labels.end());
  for (const std::string& name : label_columns(parts_.args, dataset)) output.labels.emplace(name, dataset.column(name));
  const double items = std::max(1.0, static_cast<double>(count_items(labels, order)));
  if (loss) output.metrics[prefix + "_loss"] = *loss / items;
  add_metrics(output, outputs, prefix);
  output.metrics[prefix + "_runtime"] = rounded(seconds, 4);
  output.metrics[prefix + "_samples_per_second"] = rounded(static_cast<double>(dataset.size()) / seconds, 3);
  output.metrics[prefix + "_steps_per_second"] = rounded(static_cast<double>(steps) / seconds, 3);
  return output;
}

void Trainer::add_metrics(PredictionOutput& output, std::vector<Predictions>& outputs,
                          const std::string& prefix) const {
  if (outputs.empty()) return;
  if (parts_.compute_metrics && !output.labels.empty()) {
    const EvalPrediction prediction{outputs[0].values, outputs[0].width(), output.label_ids, outputs, &output.labels};
    for (const auto& [name, value] : parts_.compute_metrics(prediction))
      output.metrics[name.starts_with(prefix + "_") ? name : prefix + "_" + name] = value;
  }
  output.shape = outputs[0].shape;
  output.predictions = std::move(outputs[0].values);
  output.more_outputs.assign(std::make_move_iterator(outputs.begin() + 1), std::make_move_iterator(outputs.end()));
}

void Trainer::check_metric_name() {
  const TrainingArguments& args = parts_.args;
  if (!args.metric_for_best_model || args.eval_strategy == "no" || parts_.eval_dataset->size() == 0) return;
  const data::Dataset first = parts_.eval_dataset->take(args.per_device_eval_batch_size);
  best_model_metric(args, run_prediction(first, "eval", !parts_.compute_metrics, false).metrics);
}

}  // namespace sinter::train
