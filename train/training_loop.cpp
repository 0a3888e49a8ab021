// train(): from the first epoch, or a checkpoint, to the end.
#include <algorithm>
#include <cmath>

#include "core/autograd/mode.h"
#include "core/autograd/node.h"
#include "core/error.h"
#include "core/io/files.h"
#include "core/io/staged_folder.h"
#include "core/log.h"
#include "optim/adamw.h"
#include "optim/groups.h"
#include "optim/schedule.h"
#include "optim/sgd.h"
#include "train/columns.h"
#include "train/stop_signal.h"
#include "train/training_run.h"

namespace sinter::train {
namespace {

using Clock = std::chrono::steady_clock;

/// Updates that the device may be behind the host.
constexpr std::int64_t kMostQueued = 1024;
/// Learning rates that it knows beforehand.
constexpr std::int64_t kToldRates = 64 * kMostQueued;

/// The parameters' values, to start again from.
std::vector<std::pair<Tensor, Tensor>> copy_weights(const nn::Module& model) {
  const NoGradGuard guard;
  std::vector<std::pair<Tensor, Tensor>> copies;
  for (const Parameter& parameter : model.named_parameters())
    copies.emplace_back(parameter.tensor, parameter.tensor.detach().clone());
  return copies;
}

void restore_weights(std::vector<std::pair<Tensor, Tensor>>& copies) {
  const NoGradGuard guard;
  for (auto& [parameter, copy] : copies) parameter.copy_(copy);
}

std::unique_ptr<data::Sampler> make_sampler(const TrainingArguments& args, const data::Dataset& dataset,
                                            std::int64_t samples_per_update) {
  const std::uint64_t seed = args.data_seed.value_or(args.seed);
  if (args.train_sampling_strategy == "sequential") return std::make_unique<data::SequentialSampler>(dataset.size());
  if (args.train_sampling_strategy == "group_by_length")
    return std::make_unique<data::LengthGroupedSampler>(data::sample_lengths(dataset, args.length_column_name),
                                                        samples_per_update, seed);
  return std::make_unique<data::RandomSampler>(dataset.size(), seed);
}

/// 6 operations for a token and a parameter: one multiplication and one addition forward, twice that backward.
double flos_per_token(const nn::Module& model) {
  std::int64_t parameters = 0;
  for (const Parameter& parameter : model.named_parameters())
    if (parameter.name.find("embeddings.") == std::string::npos) parameters += parameter.tensor.numel();
  return 6 * static_cast<double>(parameters);
}

/// False for a folder in which a run began and saved nothing: its lock and its staging folders do not count.
bool holds_results(const std::filesystem::path& folder) {
  if (!std::filesystem::is_directory(folder)) return false;
  const auto counts = [](const std::filesystem::directory_entry& entry) {
    const std::string name = entry.path().filename().string();
    return name != ".lock" && !is_leftover(name);
  };
  return std::any_of(std::filesystem::directory_iterator(folder), {}, counts);
}

}  // namespace

std::optional<std::filesystem::path> Trainer::find_checkpoint(
    const std::optional<std::string>& resume_from_checkpoint) const {
  if (!resume_from_checkpoint || *resume_from_checkpoint == "false") return std::nullopt;
  const bool must_be_there = *resume_from_checkpoint == "true";
  if (!must_be_there && *resume_from_checkpoint != "auto") return *resume_from_checkpoint;
  std::optional<std::filesystem::path> found = newest_valid_checkpoint(parts_.args.output_dir);
  if (!found && must_be_there)
    fail(ErrorCode::not_found, "No valid checkpoint found in output directory ", parts_.args.output_dir,
         "; with auto in the place of true the run begins anew where there is none");
  return found;
}

std::unique_ptr<FolderLock> Trainer::take_output_dir(bool resuming) {
  const std::filesystem::path folder = parts_.args.output_dir;
  const bool mine = resuming || owns_output_dir_ || parts_.args.overwrite_output_dir;
  if (!mine && holds_results(folder))
    fail(ErrorCode::usage, "output_dir ", folder.string(),
         " is not empty; choose another one, resume with "
         "resume_from_checkpoint, or pass overwrite_output_dir");
  check_output_dir(folder);
  auto lock = std::make_unique<FolderLock>(folder);
  remove_leftovers(folder);
  replaced_.clear();
  if (!resuming)
    for (const CheckpointFolder& old : list_checkpoints(folder)) replaced_.push_back(old.path);
  owns_output_dir_ = true;
  return lock;
}

TrainOutput Trainer::train(const std::optional<std::string>& resume_from_checkpoint) {
  const TrainingArguments& args = parts_.args;
  if (!parts_.train_dataset || parts_.train_dataset->size() == 0)
    fail(ErrorCode::usage, "train() needs a train_dataset with at least one sample");
  std::int64_t batch_size = args.per_device_train_batch_size;
  // What is wrong with it is said before files change.
  plan_training(args, parts_.train_dataset->size(), batch_size, ranks().size());
  if (args.auto_find_batch_size && ranks().size() > 1)
    fail(ErrorCode::unsupported, "auto_find_batch_size is set, but ", ranks().size(),
         " ranks train together, of which each may run out of memory at another size; set per_device_train_batch_size");
  const std::optional<std::filesystem::path> checkpoint = agree_on_checkpoint(resume_from_checkpoint);
  std::unique_ptr<FolderLock> lock;
  if (is_world_process_zero()) lock = take_output_dir(checkpoint.has_value());
  ranks().barrier();
  if (parts_.model_init) {
    parts_.model = parts_.model_init(args.seed);
    place_model();
  }
  if (!args.auto_find_batch_size) return train_with(batch_size, checkpoint);
  if (checkpoint && std::filesystem::exists(*checkpoint / "trainer_state.json"))
    batch_size = Json::load(*checkpoint / "trainer_state.json").get<std::int64_t>("train_batch_size", 1);
  std::vector<std::pair<Tensor, Tensor>> weights = copy_weights(*parts_.model);
  for (;;) {
    try {
      return train_with(batch_size, checkpoint);
    } catch (const Error& error) {
      const std::int64_t smaller = batch_size * 9 / 10;
      if (error.code() != ErrorCode::out_of_memory || smaller == 0) throw;
      log_info("out of memory with a batch of " + std::to_string(batch_size) + " samples; starting again with " +
               std::to_string(smaller));
      batch_size = smaller;
    }
    restore_weights(weights);
  }
}

std::shared_ptr<optim::Optimizer> Trainer::make_optimizer() const {
  const TrainingArguments& args = parts_.args;
  if (parts_.optimizers.optimizer != nullptr) return parts_.optimizers.optimizer;
  std::vector<optim::ParameterGroup> groups = optim::decay_groups(parts_.model->named_parameters(), args.weight_decay);
  if (args.optim == "sgd")
    return std::make_shared<optim::Sgd>(std::move(groups),
                                        optim::parse_sgd_options(args.optim_args, {.lr = args.learning_rate}));
  const optim::AdamWOptions options{
      .lr = args.learning_rate, .beta1 = args.adam_beta1, .beta2 = args.adam_beta2, .eps = args.adam_epsilon};
  return std::make_shared<optim::AdamW>(std::move(groups), options);
}

TrainOutput Trainer::train_with(std::int64_t batch_size, const std::optional<std::filesystem::path>& checkpoint) {
  state_ = {};
  control_ = {};
  agreed_signal_ = 0;
  Run run(*this, make_optimizer());
  if (parts_.args.zero_stage == 1) {
    if (ranks().size() > 1)
      run.optimizer->shard_states(parts_.process_group);
    else
      log_info("zero_stage has no effect: one rank keeps all of the optimizer's states");
  }
  run.plan = plan_training(parts_.args, parts_.train_dataset->size(), batch_size, ranks().size());
  start(run, checkpoint);
  const StopSignal stop;
  if (const std::string due = std::exchange(state_.evaluation_is_due, ""); !due.empty()) {
    control_.should_evaluate = true;
    control_.should_save = state_.save_is_due;
    log_evaluate_save(run, due == "step" ? After::step : After::epoch);
  }
  if (state_.epoch_end_is_due && stop_signal() == 0) end_epoch(run);
  const auto goes_on = [&] {
    const bool epochs_left = parts_.args.max_steps > 0 || state_.epoch_index < run.plan.num_train_epochs;
    return !control_.should_training_stop && state_.global_step < state_.max_steps && epochs_left &&
           stop_signal() == 0;
  };
  while (goes_on()) run_epoch(run);
  settle(run);   // ranks may hear of a signal only here
  const int stopped = stop_signal();
  if (stopped != 0 && run.unsaved) save(run);
  return finish(run, stopped);
}

void Trainer::start(Run& run, const std::optional<std::filesystem::path>& checkpoint) {
  const TrainingArguments& args = parts_.args;
  run.sampler = make_sampler(args, *parts_.train_dataset, samples_per_update(args) * ranks().size());
  run.labels = item_labels(args, *parts_.train_dataset);
  run.flos_per_token = flos_per_token(*parts_.model);
  run.base_lr = parts_.optimizers.optimizer != nullptr ? own_lr_ : args.learning_rate;
  if (args.lr_scheduler_type == "reduce_lr_on_plateau")
    run.plateau.emplace(run.base_lr, args.lr_scheduler_kwargs, args.greater_is_better.value_or(false));
  if (args.fp16) run.scaler.emplace();
  state_.max_steps = run.plan.max_steps;
  bool stopped = false;
  if (checkpoint) {
    load_checkpoint(*checkpoint, run.parts());
    check_same_step();
    log_info("resuming from " + checkpoint->string() + ", at step " + std::to_string(state_.global_step));
    stopped = resume(run);
  }
  join_ranks(run);
  run.gemm = TunedGemm::begin(args, checkpoint, state_);
  state_.num_train_epochs = run.plan.num_train_epochs;
  state_.train_batch_size = run.plan.batch_size;
  state_.samples_per_update = run.plan.samples_per_update();
  state_.logging_steps = absolute_steps(args.logging_steps, state_.max_steps);
  state_.eval_steps = absolute_steps(*args.eval_steps, state_.max_steps);
  state_.save_steps = absolute_steps(args.save_steps, state_.max_steps);
  if (parts_.optimizers.lr_lambda) {
    run.factor = parts_.optimizers.lr_lambda;
  } else if (!run.plateau) {
    const double warmup = args.warmup_steps > 0 ? args.warmup_steps : args.warmup_ratio;
    run.factor = optim::get_scheduler(args.lr_scheduler_type, absolute_steps(warmup, state_.max_steps),
                                      state_.max_steps, args.lr_scheduler_kwargs, run.base_lr);
  }
  check_metric_name();
  run.seconds_before = state_.seconds;
  run.begun = Clock::now();
  parts_.model->train();
  const Json callback_states = state_.stateful_callbacks;
  fire(&TrainerCallback::on_train_begin);
  if (checkpoint && args.restore_callback_states_from_checkpoint) {
    callbacks_.load_states(callback_states);
    control_.should_training_stop = stopped;
  }
  keep_low_copies(run);
  defer_embedding(run);
  queue_steps(run);
  if (args.eval_on_start && !checkpoint) evaluate();
}

bool Trainer::resume(const Run& run) {
  const TrainingArguments& args = parts_.args;
  const std::int64_t max_steps_before = state_.max_steps;
  // The cursor counts samples: another batch size goes on at the same one, in as many updates as the rest then takes.
  const bool replanned = state_.samples_per_update != run.plan.samples_per_update();
  if (replanned)
    log_info("an update has " + std::to_string(run.plan.samples_per_update()) + " samples (" +
             std::to_string(run.plan.ranks) + (run.plan.ranks == 1 ? " rank" : " ranks") + "), and had " +
             std::to_string(state_.samples_per_update) + " in the checkpoint's run");
  state_.max_steps = replanned ? replanned_max_steps(run.plan, args, state_) : run.plan.max_steps;
  if (args.ignore_data_skip) state_.samples_in_epoch = 0;
  if (state_.best_global_step) {  // the folder may have been moved since
    const std::filesystem::path best = checkpoint_folder(args.output_dir, *state_.best_global_step);
    if (std::filesystem::is_directory(best)) state_.best_model_checkpoint = best.string();
    if (args.load_best_model_at_end && !std::filesystem::is_directory(state_.best_model_checkpoint.value_or(""))) {
      log_info("the best checkpoint so far, of step " + std::to_string(*state_.best_global_step) +
               ", is gone: the next evaluation counts as the first");
      state_.best_metric.reset();
      state_.best_global_step.reset();
      state_.best_model_checkpoint.reset();
    }
  }
  const Json* control = state_.stateful_callbacks.find("TrainerControl");
  const bool stopped = control != nullptr && TrainerControl::from_json(*control).should_training_stop &&
                       state_.global_step < max_steps_before;
  if (stopped && args.restore_callback_states_from_checkpoint)
    log_info("a callback stopped this run at step " + std::to_string(state_.global_step) +
             ", and so it stays; restore_callback_states_from_checkpoint false lets it go on");
  return stopped;
}

void Trainer::run_epoch(Run& run) {
  fire(&TrainerCallback::on_epoch_begin);
  run.sampler->set_epoch(state_.epoch_index);
  while (state_.samples_in_epoch < run.plan.samples_per_epoch) {
    run_update(run);
    if (!state_.evaluation_is_due.empty()) return;
    if (control_.should_epoch_stop || control_.should_training_stop || state_.global_step >= state_.max_steps) break;
    if (stop_signal() != 0) return;
  }
  end_epoch(run);
}

void Trainer::end_epoch(Run& run) {
  if (state_.samples_in_epoch >= run.plan.samples_per_epoch || control_.should_epoch_stop) {
    ++state_.epoch_index;
    state_.samples_in_epoch = 0;
  }
  state_.epoch_end_is_due = false;
  run.unsaved = true;
  fire(&TrainerCallback::on_epoch_end);
  log_evaluate_save(run, After::epoch);
}

/// Why the host has to wait for every step on a CUDA device; "" where it need not.
std::string Trainer::why_one_by_one(const Run& run) const {
  if (parts_.compute_loss) return "compute_loss is given";
  if (parts_.optimizers.optimizer != nullptr) return "an optimizer is given";
  if (dynamic_cast<const optim::AdamW*>(run.optimizer.get()) == nullptr) return "optim is " + parts_.args.optim;
  if (autograd::AnomalyGuard::active()) return "an AnomalyGuard looks at every gradient";
  if (callbacks_.any_looks_inside_steps())
    return "a callback looks inside steps (TrainerCallback::looks_inside_steps)";
  for (const auto& [path, module] : parts_.model->named_modules())
    if (module->has_hooks()) return "the module \"" + path + "\" has a hook";
  for (const Parameter& parameter : parts_.model->named_parameters())
    if (parameter.tensor.ensure_meta().leaf_hooks.size() > 0) return "the parameter " + parameter.name + " has a hook";
  return "";
}

void Trainer::queue_steps(Run& run) {
  const TrainingArguments& args = parts_.args;
  if (!Device::parse(args.device).is_cuda()) return;
  if (const std::string why = first_of_ranks(why_one_by_one(run)); !why.empty())
    return log_info("every step waits for the device, and is not captured as a graph: " + why);
  auto& optimizer = dynamic_cast<optim::AdamW&>(*run.optimizer);
  optim::QueuedUpdateOptions options{.max_grad_norm = args.max_grad_norm,
                                     .lr = next_learning_rates(run),
                                     .max_nonfinite_in_a_row = most_nonfinite_in_a_row(args),
                                     .record_count = kMostQueued};
  if (run.scaler) options.loss_scaler = run.scaler->options();
  run.queued = std::make_unique<optim::QueuedUpdate>(optimizer, options);
  if (run.reducer) {
    const std::string why = first_of_ranks(why_not_in_steps());
    run.ranks_in_steps = why.empty();
    if (!why.empty() && args.cuda_graphs)
      log_info("ranks add up their gradients behind captured steps, not in them: " + why);
  }
  tell_device(run);
  run.runner = std::make_unique<StepRunner>(
      dynamic_cast<const nn::BertForSequenceClassification&>(*parts_.model), optimizer, *run.queued,
      StepRunner::Options{.seed = args.seed,
                          .label_smoothing = args.label_smoothing_factor,
                          .cuda_graphs = args.cuda_graphs,
                          .reducer = run.reducer.get()});
}

/// Of the updates from here on that are not skipped, as far as the device may get before it is told more.
std::vector<double> Trainer::next_learning_rates(const Run& run) const {
  if (run.plateau) return {run.plateau->lr()};
  const std::int64_t first = state_.scheduler_steps, end = std::min(first + kToldRates, state_.max_steps);
  std::vector<double> rates;
  for (std::int64_t step = first; step < std::max(end, first + 1); ++step)
    rates.push_back(run.base_lr * run.factor(step));
  return rates;
}

/// The device's counters and learning rates begin where the run stands; its step of the schedule counts from here.
void Trainer::tell_device(Run& run) {
  const std::vector<double> rates = next_learning_rates(run);
  run.queued->set_lr(rates);
  run.rates_told_until = state_.scheduler_steps + static_cast<std::int64_t>(rates.size());
  kernels::UpdateState state = run.queued->read_state();
  state.global_step = state_.global_step;
  state.scheduler_steps = 0;
  state.nonfinite_in_a_row = run.scaler ? 0 : state_.nonfinite_in_a_row;
  if (run.scaler) {
    state.scale = run.scaler->scale();
    state.growth_tracker = run.scaler->growth_tracker();
  }
  run.queued->write_state(state);
}

TrainOutput Trainer::finish(Run& run, int stopped_by_signal) {
  run.optimizer->flush();
  if (run.gemm) run.gemm->keep();
  TrainOutput output;
  output.global_step = state_.global_step;
  output.stopped_by_signal = stopped_by_signal;
  const auto done = static_cast<double>(state_.global_step);
  const double whole = std::max(state_.seconds, 1e-9);
  output.training_loss = state_.total_loss / std::max(1.0, done - static_cast<double>(state_.nonfinite_steps));
  output.metrics = {
      {"train_runtime", rounded(state_.seconds, 4)},
      {"train_samples_per_second", rounded(state_.epoch * static_cast<double>(run.plan.samples_per_epoch) / whole, 3)},
      {"train_steps_per_second", rounded(done / whole, 3)},
      {"total_flos", state_.total_flos},
      {"train_loss", output.training_loss},
  };
  if (run.scaler && state_.nonfinite_steps > 0)
    log_info(std::to_string(state_.nonfinite_steps) + " of " + std::to_string(state_.global_step) +
             " updates were skipped: their gradients were not finite at the loss scale that they had");
  if (output.stopped_by_signal == 0) {
    Json entry = Json::object();
    for (const auto& [key, value] : output.metrics) entry.set(key, value);
    log(std::move(entry));
    if (parts_.args.load_best_model_at_end) load_best_model();
  }
  output.metrics["epoch"] = state_.epoch;
  fire(&TrainerCallback::on_train_end);
  return output;
}

void Trainer::load_best_model() {
  if (!state_.best_model_checkpoint)
    return log_info(
        "load_best_model_at_end has no effect: no evaluation gave a metric to choose by; the last weights stay");
  load_checkpoint_weights(*state_.best_model_checkpoint, *parts_.model);
  log_info("loaded the best model, " + *state_.best_model_checkpoint + ": " + *parts_.args.metric_for_best_model + " " +
           Json(state_.best_metric.value_or(0)).dump());
}

}  // namespace sinter::train
