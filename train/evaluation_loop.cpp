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

void share(ProcessGroup& ranks, int root, std::vector<std::int64_t>& numbers) {
  const Tensor all = Tensor::from(numbers, {std::ssize(numbers)});
  ranks.broadcast(all, root);
  numbers = all.to_vector<std::int64_t>();
}

/// The outputs that `rank` computed for its batch, on every rank; elsewhere `mine` does not count.
Tensors outputs_of(ProcessGroup& ranks, int rank, const Tensors& mine) {
  if (ranks.size() == 1) return mine;
  const bool own = ranks.rank() == rank;
  std::vector<std::int64_t> count{own ? std::ssize(mine) : 0};
  share(ranks, rank, count);
  Tensors outputs;
  for (std::size_t i = 0; i < static_cast<std::size_t>(count[0]); ++i) {
    std::vector<std::int64_t> sizes(1 + kernels::kMaxRank);   // the rank, and the dimensions
    if (own) {
      sizes[0] = mine[i].rank();
      std::copy(mine[i].shape().begin(), mine[i].shape().end(), sizes.begin() + 1);
    }
    share(ranks, rank, sizes);
    const Shape shape(std::span<const std::int64_t>(sizes).subspan(1, static_cast<std::size_t>(sizes[0])));
    outputs.push_back(own ? mine[i].to(Device::cpu()).to(Dtype::f32).contiguous() : Tensor::empty(shape));
    ranks.broadcast(outputs.back().reshape({shape.numel()}), rank);
  }
  return outputs;
}

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
  check_same_dataset(dataset);
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
  const std::int64_t batch_size = parts_.args.per_device_eval_batch_size;
  const std::int64_t batches = (dataset.size() + batch_size - 1) / batch_size;
  const bool wants_outputs = !loss_only && !parts_.args.prediction_loss_only;
  PredictionOutput output;
  std::vector<Predictions> outputs;
  // The losses of all batches, each from the rank that computed it; -0 adds nothing to any number.
  std::vector<double> losses(static_cast<std::size_t>(batches), -0.0);
  double losses_found = 0;
  for (std::int64_t round = 0; round < batches; round += ranks().size()) {
    if (stops_evaluations_) agree_on_signal();
    if (stops_evaluations_ && stop_signal() != 0) throw Stopped{};
    ModelOutput mine;
    if (const std::int64_t batch = round + ranks().rank(); batch < batches) {
      const std::int64_t at = batch * batch_size, end = std::min(at + batch_size, dataset.size());
      mine = evaluate_batch(dataset, {order.data() + at, order.data() + end}, wants_outputs);
      if (mine.loss.defined()) losses[static_cast<std::size_t>(batch)] = mine.loss.item(), ++losses_found;
      if (with_events) fire(&TrainerCallback::on_prediction_step);
    }
    for (int rank = 0; wants_outputs && rank < ranks().size() && round + rank < batches; ++rank)
      append(outputs, outputs_of(ranks(), rank, mine.logits));
  }
  if (ranks().size() > 1) {
    losses.push_back(losses_found);
    losses = ranks().all_reduce_sums(losses);
    losses_found = losses.back();
    losses.pop_back();
  }
  const double seconds = std::max(std::chrono::duration<double>(Clock::now() - start).count(), 1e-9);
  output.label_ids.assign(labels.begin(), labels.end());
  for (const std::string& name : label_columns(parts_.args, dataset)) output.labels.emplace(name, dataset.column(name));
  const double items = std::max(1.0, static_cast<double>(count_items(labels, order)));
  if (losses_found > 0)
    output.metrics[prefix + "_loss"] = std::accumulate(losses.begin(), losses.end(), 0.0) / items;
  add_metrics(output, outputs, prefix);
  output.metrics[prefix + "_runtime"] = rounded(seconds, 4);
  output.metrics[prefix + "_samples_per_second"] = rounded(static_cast<double>(dataset.size()) / seconds, 3);
  output.metrics[prefix + "_steps_per_second"] = rounded(static_cast<double>(batches) / seconds, 3);
  return output;
}

ModelOutput Trainer::evaluate_batch(const data::Dataset& dataset, std::span<const std::int64_t> rows,
                                    bool wants_outputs) {
  const data::CollatedBatch batch = collate(dataset, rows, 0);
  const LossInputs inputs{batch, dataset, rows, 1};
  ModelOutput result = compute_loss(inputs);
  if (wants_outputs && parts_.preprocess_logits_for_metrics)
    result.logits = parts_.preprocess_logits_for_metrics(std::move(result.logits), inputs);
  return result;
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
