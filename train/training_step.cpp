// One update, and what follows it: logging, evaluation, saving.
#include <algorithm>
#include <array>
#include <cmath>

#include "core/error.h"
#include "core/ops/elementwise.h"
#include "core/random.h"
#include "optim/clip.h"
#include "train/best_model.h"
#include "train/training_run.h"

namespace sinter::train {
namespace {

/// The first parameter whose gradient holds inf or NaN; empty when there is none.
std::string first_nonfinite(FlatParameters& parameters) {
  parameters.settle_gradients();
  for (const Segment& segment : parameters.segments()) {
    const Tensor gradient = parameters.gradient(segment).to(Device::cpu()).to(Dtype::f64);
    for (const double value : gradient.to_vector<double>())
      if (!std::isfinite(value)) return segment.name;
  }
  return {};
}

}  // namespace

std::int64_t most_nonfinite_in_a_row(const TrainingArguments& args) { return args.logging_nan_inf_filter ? 10 : 1; }

double Trainer::learning_rate(const Run& run) const {
  return run.plateau ? run.plateau->lr() : run.base_lr * run.factor(state_.scheduler_steps);
}

void Trainer::run_update(Run& run) {
  const TrainPlan& plan = run.plan;
  const std::int64_t begin = state_.samples_in_epoch;
  const std::int64_t end = std::min(begin + plan.samples_per_update(), plan.samples_per_epoch);
  const auto rows_between = [&](std::int64_t first, std::int64_t last) {
    return run.sampler->order().subspan(static_cast<std::size_t>(first), static_cast<std::size_t>(last - first));
  };
  const std::int64_t items = std::max<std::int64_t>(1, count_items(run.labels, rows_between(begin, end)));
  fire(&TrainerCallback::on_step_begin);
  MicroStep place{.global_step = static_cast<std::uint32_t>(state_.global_step),
                  .num_items = static_cast<double>(items)};
  Sums sums;
  if (!run.runner) {
    run.optimizer->set_lr(learning_rate(run));
    run.optimizer->zero_grad();
  }
  for (std::int64_t at = begin; at < end; at += plan.samples_per_batch()) {
    const std::int64_t first = std::min(at + plan.batch_size * ranks().rank(), end);
    const std::int64_t last = std::min(first + plan.batch_size, end);
    place.first = at == begin;
    place.last = at + plan.samples_per_batch() >= end;
    if (first < last) {
      const data::CollatedBatch batch = collate(*parts_.train_dataset, rows_between(first, last), first - begin);
      const TunedGemm::Recording tunes(run.gemm.get(), state_.global_step);
      std::optional<GradientReducer::Overlap> overlap;
      if (run.reducer && !run.runner && place.last) overlap.emplace(*run.reducer);
      if (run.ranks_in_steps && place.last) place.of_ranks = bucket_of_ranks(run, rows_between(at, end));
      if (run.runner)
        run.runner->run(batch, place);
      else
        sums.loss += run_micro_step(run, batch, rows_between(first, last), place);
      sums.samples += static_cast<double>(last - first);
      sums.tokens += static_cast<double>(batch.token_count);
    }
    if (!place.last) fire(&TrainerCallback::on_substep_end);
  }
  if (run.runner) {
    if (run.reducer && !place.of_ranks) run.runner->finish_update(sums.samples > 0);
    run.own_tokens += sums.tokens;
    count_tokens(run, sums.tokens);
    fire(&TrainerCallback::on_pre_optimizer_step);
    fire(&TrainerCallback::on_optimizer_step);
  } else {
    add_up(run, sums);
    count_tokens(run, sums.tokens);
    account(run, apply_update(run, sums.loss), state_.global_step + 1);
  }
  count_update(run, end);
  fire(&TrainerCallback::on_step_end);
  log_evaluate_save(run, After::step);
}

double Trainer::run_micro_step(Run& run, const data::CollatedBatch& batch, std::span<const std::int64_t> rows,
                               const MicroStep& place) {
  const StepScope step(parts_.args.seed, place.global_step, static_cast<std::uint32_t>(batch.first_sample));
  const ModelOutput output = compute_loss({batch, *parts_.train_dataset, rows, place.num_items});
  if (!output.loss.defined()) fail(ErrorCode::usage, "compute_loss gave no loss for a batch of the train_dataset");
  (run.scaler ? output.loss * run.scaler->scale() : output.loss).backward();
  return output.loss.item();
}

/// Behind add_up(), or with a runner of several ranks those of this one, to which settle() adds the others'.
void Trainer::count_tokens(const Run& run, double tokens) {
  state_.num_input_tokens_seen += static_cast<std::int64_t>(tokens);
  state_.total_flos += run.flos_per_token * tokens;
}

kernels::UpdateRecord Trainer::apply_update(Run& run, double loss) {
  kernels::UpdateRecord record{.loss = loss, .lr = run.optimizer->lr(), .scale = run.scaler ? run.scaler->scale() : 1};
  double coefficient = 1;
  bool finite = std::isfinite(loss);
  if (parts_.args.max_grad_norm > 0 || run.scaler) {
    const double most = parts_.args.max_grad_norm > 0 ? parts_.args.max_grad_norm : HUGE_VAL;
    const optim::GradNorm norm = optim::clip_grad_norm(run.optimizer->parameters(), most, record.scale);
    record.norm = norm.norm;
    coefficient = norm.coefficient;
    finite = finite && !norm.nonfinite;
  }
  record.skipped = !finite;
  if (!finite) return record;
  fire(&TrainerCallback::on_pre_optimizer_step);
  run.optimizer->step(coefficient);
  fire(&TrainerCallback::on_optimizer_step);
  return record;
}

void Trainer::settle(Run& run) {
  if (!run.queued) return;
  const std::vector<kernels::UpdateRecord> records = run.queued->drain();
  count_seconds(run);   // the host may have been far ahead
  if (run.reducer) {
    const std::array tokens{std::exchange(run.own_tokens, 0)};
    count_tokens(run, ranks().all_reduce_sums(tokens)[0] - tokens[0]);
    agree_on_signal();
  }
  std::int64_t step = state_.global_step - static_cast<std::int64_t>(records.size());
  for (const kernels::UpdateRecord& record : records) account(run, record, ++step);
  const std::int64_t needed = std::min(state_.scheduler_steps + run.queued->capacity(), state_.max_steps);
  if (!run.plateau && needed > run.rates_told_until) tell_device(run);
}

void Trainer::account(Run& run, const kernels::UpdateRecord& record, std::int64_t step) {
  state_.last_learning_rate = record.lr;
  if (run.scaler) update_scale(run, record, step);
  if (record.skipped) return account_skipped(run, record, step);
  ++state_.scheduler_steps;
  state_.last_grad_norm = record.norm;
  state_.nonfinite_in_a_row = 0;
  state_.loss_since_log += record.loss;
  state_.total_loss += record.loss;
}

void Trainer::update_scale(Run& run, const kernels::UpdateRecord& record, std::int64_t step) {
  if (record.scale != run.scaler->scale())
    fail(ErrorCode::internal, "step ", step, " was computed with a loss scale of ", record.scale, ", not ",
         run.scaler->scale());
  try {
    run.scaler->update(record.skipped);
  } catch (const Error& error) {   // the scale is at its floor
    fail(error.code(), "step ", step, where_nonfinite(run, step), ": ", error.what());
  }
}

/// ", first in the gradient of <parameter>" where the gradients are still those of this step.
std::string Trainer::where_nonfinite(Run& run, std::int64_t step) const {
  const std::int64_t newest = run.queued ? state_.global_step : state_.global_step + 1;   // counted when it is queued
  const std::string where = step == newest ? first_nonfinite(run.optimizer->parameters()) : "";
  return where.empty() ? "" : ", first in the gradient of " + where;
}

void Trainer::account_skipped(Run& run, const kernels::UpdateRecord& record, std::int64_t step) {
  ++state_.nonfinite_steps;
  ++state_.nonfinite_since_log;
  if (run.scaler) return;   // an overflow is how the scale finds its place; its floor ends a run that diverges
  if (++state_.nonfinite_in_a_row < most_nonfinite_in_a_row(parts_.args)) return;
  fail(ErrorCode::diverged, "step ", step, " has loss ", record.loss, " and gradient norm ", record.norm,
       where_nonfinite(run, step), ", which must be finite; the weights are those of step ", step - 1,
       ": lower learning_rate or look at the data");
}

void Trainer::count_update(Run& run, std::int64_t end) {
  const TrainPlan& plan = run.plan;
  ++state_.global_step;
  ++state_.updates_since_log;
  state_.samples_in_epoch = end;
  const std::int64_t batches = (end + plan.samples_per_batch() - 1) / plan.samples_per_batch();
  state_.epoch = static_cast<double>(state_.epoch_index) +
                 static_cast<double>(batches) / static_cast<double>(plan.batches_per_epoch);
  count_seconds(run);
  run.unsaved = true;
}

void Trainer::count_seconds(const Run& run) {
  const std::chrono::duration<double> elapsed = std::chrono::steady_clock::now() - run.begun;
  state_.seconds = run.seconds_before + elapsed.count();
}

void Trainer::log_evaluate_save(Run& run, After after) {
  if (control_.should_log || control_.should_evaluate || control_.should_save || (run.queued && run.queued->is_full()))
    settle(run);
  if (control_.should_log && state_.updates_since_log > 0) log_training();
  const auto epoch_ends = [&] {
    return state_.samples_in_epoch >= run.plan.samples_per_epoch || control_.should_epoch_stop ||
           control_.should_training_stop || state_.global_step >= state_.max_steps;
  };
  state_.epoch_end_is_due = after == After::step && epoch_ends();
  if (control_.should_evaluate) {
    const std::optional<Metrics> metrics = evaluate_unless_stopped();
    if (!metrics) {  // the run ends here, and a resumed one begins with this evaluation
      state_.evaluation_is_due = after == After::step ? "step" : "epoch";
      state_.save_is_due = control_.should_save;
      return;
    }
    if (run.plateau) {
      run.plateau->step(best_model_metric(parts_.args, *metrics));
      if (run.queued) run.queued->set_lr({run.plateau->lr()});
    }
    const bool new_best = update_best_metric(parts_.args, *metrics, state_);
    if (new_best && keeps_best_model(parts_.args)) control_.should_save = true;
    state_.epoch_end_is_due = after == After::step && epoch_ends();   // a callback may have ended it
  }
  if (control_.should_save) save(run);
}

void Trainer::log_training() {
  Json entry = Json::object();
  const std::int64_t finite = state_.updates_since_log - state_.nonfinite_since_log;
  if (finite > 0) entry.set("loss", state_.loss_since_log / static_cast<double>(finite));
  if (parts_.args.max_grad_norm > 0 && finite > 0) entry.set("grad_norm", state_.last_grad_norm);
  entry.set("learning_rate", state_.last_learning_rate);
  if (state_.nonfinite_steps > 0) entry.set("nonfinite_steps", state_.nonfinite_steps);
  state_.loss_since_log = 0;
  state_.updates_since_log = 0;
  state_.nonfinite_since_log = 0;
  log(std::move(entry));
}

void Trainer::save(Run& run) {
  settle(run);
  const TrainingArguments& args = parts_.args;
  const std::filesystem::path folder = checkpoint_folder(args.output_dir, state_.global_step);
  if (state_.best_global_step == state_.global_step) state_.best_model_checkpoint = folder.string();
  state_.stateful_callbacks = callbacks_.states(control_);
  run.optimizer->flush();
  const bool only_model = args.save_only_model && stop_signal() == 0;   // a stopped run goes on
  OptimizerStates states;
  if (!only_model) states = run.optimizer->state_tensors();   // of all ranks
  if (is_world_process_zero()) {
    save_checkpoint(folder, run.parts(), states, only_model);
    std::erase(replaced_, folder);
    remove_replaced();
    rotate_checkpoints(args.output_dir, args.save_total_limit.value_or(0), state_.global_step,
                       keeps_best_model(args) ? state_.best_global_step : std::nullopt);
  }
  ranks().barrier();   // it is there, for every rank
  run.unsaved = false;
  fire(&TrainerCallback::on_save);
}

}  // namespace sinter::train
