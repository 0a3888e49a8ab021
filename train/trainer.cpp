#include "train/trainer.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <numeric>

#include "core/autograd/mode.h"
#include "core/error.h"
#include "core/io/files.h"
#include "core/io/folder_lock.h"
#include "core/io/staged_folder.h"
#include "core/log.h"
#include "core/random.h"
#include "data/sampler.h"
#include "optim/clip.h"
#include "optim/groups.h"
#include "train/inputs.h"
#include "train/stop_signal.h"

namespace sinter::train {
namespace {

using Clock = std::chrono::steady_clock;

double seconds_since(Clock::time_point start) { return std::chrono::duration<double>(Clock::now() - start).count(); }

double rounded(double value, int digits) {
  const double scale = std::pow(10.0, digits);
  return std::round(value * scale) / scale;
}

Json to_json(const Metrics& metrics) {
  Json json = Json::object();
  for (const auto& [key, value] : metrics) json.set(key, value);
  return json;
}

void check_dataset(const char* what, const data::Dataset& dataset, std::int64_t num_labels) {
  const std::span<const std::int64_t> labels = data::labels_of(dataset);
  if (dataset.size() > 0 && labels.empty())
    fail(ErrorCode::usage, what, " has no labels; they are an integer column label, label_ids or labels");
  for (std::size_t i = 0; i < labels.size(); ++i)
    if (labels[i] < 0 || labels[i] >= num_labels)
      fail(ErrorCode::usage, what, ": label ", i, " is ", labels[i], ", it must lie between 0 and ", num_labels - 1);
}

}  // namespace

struct Trainer::Plan {
  std::int64_t samples = 0;             // of the training set
  std::int64_t batches_per_epoch = 0;
  std::int64_t updates_per_epoch = 0;
  std::int64_t max_steps = 0;
  std::int64_t epochs = 0;              // rounded up
};

struct Trainer::Update {
  double loss = 0;           // mean over the samples of the group
  double grad_norm = 0;      // before clipping; 0 without clipping
  double learning_rate = 0;  // that the step used
};

Trainer::Trainer(Parts parts) : parts_(std::move(parts)) {
  for (const std::string& warning : parts_.args.warnings()) log_info(warning);
  parts_.args = parts_.args.resolved();
  const TrainingArguments& args = parts_.args;
  if (!parts_.data_collator) parts_.data_collator = data::DataCollatorWithFlattening();
  const std::int64_t num_labels = parts_.model.config.num_labels;
  if (parts_.train_dataset) check_dataset("train_dataset", *parts_.train_dataset, num_labels);
  if (parts_.eval_dataset) check_dataset("eval_dataset", *parts_.eval_dataset, num_labels);
  if (args.eval_strategy != "no" && !parts_.eval_dataset)
    fail(ErrorCode::usage, "eval_strategy is \"", args.eval_strategy, "\", which needs an eval_dataset");
  if (parts_.tokenizer != nullptr && parts_.tokenizer->vocab_size() > parts_.model.config.vocab_size)
    fail(ErrorCode::usage, "the tokenizer has ", parts_.tokenizer->vocab_size(), " tokens, the model embeds ",
         parts_.model.config.vocab_size, "; they do not belong together");
}

Trainer::Plan Trainer::make_plan() const {
  const TrainingArguments& args = parts_.args;
  if (!parts_.train_dataset || parts_.train_dataset->size() == 0)
    fail(ErrorCode::usage, "train() needs a train_dataset with at least one sample");
  Plan plan;
  plan.samples = parts_.train_dataset->size();
  const std::int64_t batch = args.per_device_train_batch_size;
  plan.batches_per_epoch = args.dataloader_drop_last ? plan.samples / batch : (plan.samples + batch - 1) / batch;
  if (plan.batches_per_epoch == 0)
    fail(ErrorCode::usage, "dataloader_drop_last drops every sample: ", plan.samples,
         " samples do not fill one batch of ", batch);
  const std::int64_t accumulation = args.gradient_accumulation_steps;
  plan.updates_per_epoch = (plan.batches_per_epoch + accumulation - 1) / accumulation;
  const auto updates = static_cast<double>(plan.updates_per_epoch);
  plan.max_steps =
      args.max_steps > 0 ? args.max_steps : static_cast<std::int64_t>(std::ceil(args.num_train_epochs * updates));
  plan.epochs = args.max_steps > 0 ? (plan.max_steps + plan.updates_per_epoch - 1) / plan.updates_per_epoch
                                   : static_cast<std::int64_t>(std::ceil(args.num_train_epochs));
  if (plan.max_steps >= std::int64_t{1} << 32)
    fail(ErrorCode::usage, "num_train_epochs is ", args.num_train_epochs, ", which makes ", plan.max_steps,
         " updates; there may be at most 2^32 - 1");
  return plan;
}

std::unique_ptr<FolderLock> Trainer::take_output_dir(bool resuming) const {
  const std::filesystem::path folder = parts_.args.output_dir;
  if (std::filesystem::exists(folder) && !std::filesystem::is_directory(folder))
    fail(ErrorCode::usage, "output_dir ", folder.string(), " is not a folder; choose another one");
  if (std::filesystem::exists(folder) && !resuming && !parts_.args.overwrite_output_dir &&
      !std::filesystem::is_empty(folder))
    fail(ErrorCode::usage, "output_dir ", folder.string(), " is not empty; choose another one, resume with "
                           "resume_from_checkpoint, or pass overwrite_output_dir");
  probe_writable(folder);
  auto lock = std::make_unique<FolderLock>(folder);
  remove_leftovers(folder);
  if (!resuming)
    for (const CheckpointFolder& old : list_checkpoints(folder)) std::filesystem::remove_all(old.path);
  return lock;
}

optim::AdamW Trainer::make_optimizer() const {
  const TrainingArguments& args = parts_.args;
  return optim::AdamW(
      optim::decay_groups(parts_.model.named_parameters(), args.weight_decay),
      {.lr = args.learning_rate, .beta1 = args.adam_beta1, .beta2 = args.adam_beta2, .eps = args.adam_epsilon});
}

RunParts Trainer::run_parts(optim::AdamW& optimizer) {
  return {parts_.model, optimizer, state_, parts_.args, parts_.tokenizer, *parts_.train_dataset};
}

TrainOutput Trainer::train(const std::optional<std::string>& resume_from_checkpoint) {
  const TrainingArguments& args = parts_.args;
  const Plan plan = make_plan();
  const double warmup_steps = args.warmup_steps > 0 ? args.warmup_steps : args.warmup_ratio;
  const optim::Schedule schedule =
      optim::get_scheduler(args.lr_scheduler_type, absolute_steps(warmup_steps, plan.max_steps), plan.max_steps,
                           args.lr_scheduler_kwargs, args.learning_rate);
  std::optional<std::filesystem::path> checkpoint;
  if (resume_from_checkpoint == "true") {
    checkpoint = newest_valid_checkpoint(args.output_dir);
    if (!checkpoint) fail(ErrorCode::not_found, "No valid checkpoint found in output directory ", args.output_dir);
  } else if (resume_from_checkpoint) {
    checkpoint = *resume_from_checkpoint;
  }
  const std::unique_ptr<FolderLock> lock = take_output_dir(checkpoint.has_value());

  state_ = {};
  optim::AdamW optimizer = make_optimizer();
  if (checkpoint) load_checkpoint(*checkpoint, run_parts(optimizer));
  state_.max_steps = plan.max_steps;
  state_.num_train_epochs = plan.epochs;
  state_.train_batch_size = args.per_device_train_batch_size;
  state_.logging_steps = absolute_steps(args.logging_steps, plan.max_steps);
  state_.eval_steps = absolute_steps(*args.eval_steps, plan.max_steps);
  state_.save_steps = absolute_steps(args.save_steps, plan.max_steps);

  data::RandomSampler sampler(plan.samples, args.data_seed.value_or(args.seed));
  const StopSignal stop;
  const double seconds_before = state_.seconds;
  const Clock::time_point start = Clock::now();
  progress_ = std::make_unique<Progress>("train", plan.max_steps, !args.disable_tqdm);
  parts_.model.train();
  std::int64_t saved_step = checkpoint ? state_.global_step : -1;
  while (state_.global_step < plan.max_steps && StopSignal::received() == 0) {
    const std::int64_t update_in_epoch = state_.global_step % plan.updates_per_epoch;
    sampler.set_epoch(state_.global_step / plan.updates_per_epoch);
    optimizer.set_lr(args.learning_rate * schedule.factor(state_.global_step));
    const Update update = run_update(optimizer, plan, update_in_epoch, sampler.order());
    state_.seconds = seconds_before + seconds_since(start);
    const bool epoch_ends = update_in_epoch + 1 == plan.updates_per_epoch || state_.global_step + 1 == plan.max_steps;
    after_update(update, plan, epoch_ends);
    const bool last_save = args.save_strategy == "steps" && state_.global_step == plan.max_steps;
    if (due(args.save_strategy, state_.save_steps, epoch_ends) || last_save) {
      save(optimizer);
      saved_step = state_.global_step;
    }
  }
  if (StopSignal::received() != 0 && saved_step != state_.global_step) save(optimizer);
  return finish(plan, StopSignal::received());
}

void Trainer::after_update(const Update& update, const Plan& plan, bool epoch_ends) {
  const TrainingArguments& args = parts_.args;
  ++state_.global_step;
  state_.epoch = static_cast<double>(state_.global_step) / static_cast<double>(plan.updates_per_epoch);
  state_.loss_since_log += update.loss;
  state_.total_loss += update.loss;
  ++state_.updates_since_log;
  progress_->update(state_.global_step);
  if (due(args.logging_strategy, state_.logging_steps, epoch_ends)) log_update(update);
  const bool last_evaluation = args.eval_strategy == "steps" && state_.global_step == plan.max_steps;
  if (due(args.eval_strategy, state_.eval_steps, epoch_ends) || last_evaluation) evaluate();
  if (on_step_end) on_step_end(state_);
}

Trainer::Update Trainer::run_update(optim::AdamW& optimizer, const Plan& plan, std::int64_t update_in_epoch,
                                    std::span<const std::int64_t> order) {
  const TrainingArguments& args = parts_.args;
  const std::int64_t first_batch = update_in_epoch * args.gradient_accumulation_steps;
  const std::int64_t last_batch = std::min(first_batch + args.gradient_accumulation_steps, plan.batches_per_epoch);
  const std::int64_t begin = first_batch * args.per_device_train_batch_size;
  const std::int64_t end = std::min(last_batch * args.per_device_train_batch_size, plan.samples);
  optimizer.zero_grad();
  Update update{.learning_rate = optimizer.lr()};
  for (std::int64_t at = begin; at < end; at += args.per_device_train_batch_size) {
    const std::int64_t size = std::min(args.per_device_train_batch_size, end - at);
    const data::CollatedBatch batch = parts_.data_collator(
        *parts_.train_dataset, order.subspan(static_cast<std::size_t>(at), static_cast<std::size_t>(size)), at - begin);
    const StepScope step(args.seed, static_cast<std::uint32_t>(state_.global_step),
                         static_cast<std::uint32_t>(batch.first_sample));
    const nn::BertOutput output = parts_.model(to_inputs(batch, static_cast<double>(end - begin)));
    output.loss.backward();
    update.loss += output.loss.item();
  }
  double coefficient = 1;
  bool finite = std::isfinite(update.loss);
  if (args.max_grad_norm > 0) {
    const optim::GradNorm norm = optim::clip_grad_norm(optimizer.parameters(), args.max_grad_norm);
    update.grad_norm = norm.norm;
    coefficient = norm.coefficient;
    finite = finite && !norm.nonfinite;
  }
  if (!finite)
    fail(ErrorCode::diverged, "step ", state_.global_step + 1, " has loss ", update.loss, " and gradient norm ",
         update.grad_norm,
         ", which must be finite; the weights are as before it: lower learning_rate or look at the data");
  optimizer.step(coefficient);
  return update;
}

bool Trainer::due(const std::string& strategy, std::int64_t every, bool epoch_ends) const {
  return strategy == "epoch" ? epoch_ends : strategy == "steps" && state_.global_step % every == 0;
}

void Trainer::log_update(const Update& update) {
  Json entry = Json::object();
  entry.set("loss", rounded(state_.loss_since_log / static_cast<double>(state_.updates_since_log), 4));
  if (parts_.args.max_grad_norm > 0) entry.set("grad_norm", update.grad_norm);
  entry.set("learning_rate", update.learning_rate);
  log(std::move(entry));
  state_.loss_since_log = 0;
  state_.updates_since_log = 0;
}

void Trainer::log(Json entry) {
  entry.set("epoch", state_.epoch);
  entry.set("step", state_.global_step);
  const std::string line = log_line(entry);
  if (progress_ != nullptr) {
    progress_->line(line);
  } else {
    std::printf("%s\n", line.c_str());
  }
  state_.log_history.push_back(std::move(entry));
}

void Trainer::save(optim::AdamW& optimizer) {
  const std::filesystem::path folder = parts_.args.output_dir;
  save_checkpoint(folder / ("checkpoint-" + std::to_string(state_.global_step)), run_parts(optimizer));
  if (parts_.args.save_total_limit.value_or(0) > 0) rotate_checkpoints(folder, *parts_.args.save_total_limit);
}

TrainOutput Trainer::finish(const Plan& plan, int signal) {
  TrainOutput output;
  output.global_step = state_.global_step;
  output.stopped_by_signal = signal;
  output.training_loss = state_.global_step == 0 ? 0 : state_.total_loss / static_cast<double>(state_.global_step);
  const auto done = static_cast<double>(state_.global_step);
  const double samples = done / static_cast<double>(plan.updates_per_epoch) * static_cast<double>(plan.samples);
  const double whole = std::max(state_.seconds, 1e-9);
  output.metrics = {
      {"train_runtime", rounded(state_.seconds, 4)},
      {"train_samples_per_second", rounded(samples / whole, 3)},
      {"train_steps_per_second", rounded(done / whole, 3)},
      {"train_loss", output.training_loss},
  };
  if (signal == 0) log(to_json(output.metrics));
  progress_.reset();
  return output;
}

Metrics Trainer::evaluate(const std::string& metric_key_prefix) {
  if (!parts_.eval_dataset) fail(ErrorCode::usage, "evaluate() needs an eval_dataset");
  Metrics metrics = run_prediction(*parts_.eval_dataset, metric_key_prefix).metrics;
  log(to_json(metrics));
  metrics["epoch"] = state_.epoch;
  return metrics;
}

PredictionOutput Trainer::predict(const data::Dataset& dataset, const std::string& metric_key_prefix) {
  return run_prediction(dataset, metric_key_prefix);
}

PredictionOutput Trainer::run_prediction(const data::Dataset& dataset, const std::string& prefix) {
  const Clock::time_point start = Clock::now();
  const bool was_training = parts_.model.is_training();
  const NoGradGuard guard;
  parts_.model.eval();
  std::vector<std::int64_t> order(static_cast<std::size_t>(dataset.size()));
  std::iota(order.begin(), order.end(), 0);
  const auto batch_size = static_cast<std::size_t>(parts_.args.per_device_eval_batch_size);
  PredictionOutput output;
  const std::span<const std::int64_t> labels = data::labels_of(dataset);
  output.label_ids.assign(labels.begin(), labels.end());
  double loss = 0;
  std::int64_t steps = 0;
  for (std::size_t at = 0; at < order.size(); at += batch_size, ++steps) {
    const std::span<const std::int64_t> indices = std::span(order).subspan(at, std::min(batch_size, order.size() - at));
    const nn::BertOutput result = parts_.model(to_inputs(parts_.data_collator(dataset, indices, 0), 1));
    const std::vector<float> logits = result.logits.to(Dtype::f32).to_vector<float>();
    output.predictions.insert(output.predictions.end(), logits.begin(), logits.end());
    if (result.loss.defined()) loss += result.loss.item();
  }
  parts_.model.train(was_training);
  const double seconds = std::max(seconds_since(start), 1e-9);
  if (!labels.empty()) {
    output.metrics[prefix + "_loss"] = loss / static_cast<double>(dataset.size());
    const EvalPrediction prediction{output.predictions, parts_.model.config.num_labels, output.label_ids};
    if (parts_.compute_metrics)
      for (const auto& [name, value] : parts_.compute_metrics(prediction))
        output.metrics[name.starts_with(prefix + "_") ? name : prefix + "_" + name] = value;
  }
  output.metrics[prefix + "_runtime"] = rounded(seconds, 4);
  output.metrics[prefix + "_samples_per_second"] = rounded(static_cast<double>(dataset.size()) / seconds, 3);
  output.metrics[prefix + "_steps_per_second"] = rounded(static_cast<double>(steps) / seconds, 3);
  return output;
}

void Trainer::save_model(const std::optional<std::filesystem::path>& folder) const {
  train::save_model(folder.value_or(parts_.args.output_dir), parts_.model, parts_.tokenizer);
}

void Trainer::save_state() const {
  state_.to_hf_json().save(std::filesystem::path(parts_.args.output_dir) / "trainer_state.json", {.sort_keys = true});
}

void Trainer::save_metrics(const std::string& split, const Metrics& metrics) const {
  const std::filesystem::path folder = parts_.args.output_dir;
  constexpr JsonStyle kStyle{.indent = 4, .sort_keys = true};
  write_file_atomically(folder / (split + "_results.json"), to_json(metrics).dump(kStyle));
  const std::filesystem::path all_path = folder / "all_results.json";
  Json all = std::filesystem::exists(all_path) ? Json::load(all_path) : Json::object();
  for (const auto& [key, value] : metrics) all.set(key, value);
  write_file_atomically(all_path, all.dump(kStyle));
}

}  // namespace sinter::train
