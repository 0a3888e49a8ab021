#include "train/trainer_callback.h"

#include <algorithm>
#include <cmath>

#include "core/error.h"
#include "core/log.h"
#include "train/best_model.h"

namespace sinter::train {

Json TrainerControl::to_json() const {
  return Json::object({{"args", Json::object({{"should_training_stop", should_training_stop},
                                              {"should_epoch_stop", should_epoch_stop},
                                              {"should_save", should_save},
                                              {"should_evaluate", should_evaluate},
                                              {"should_log", should_log}})},
                       {"attributes", Json::object()}});
}

TrainerControl TrainerControl::from_json(const Json& json) {
  const Json& args = json.at("args");
  return {.should_training_stop = args.get<bool>("should_training_stop"),
          .should_epoch_stop = args.get<bool>("should_epoch_stop"),
          .should_save = args.get<bool>("should_save"),
          .should_evaluate = args.get<bool>("should_evaluate"),
          .should_log = args.get<bool>("should_log")};
}

void CallbackHandler::add(Pointer callback) {
  if (callback == nullptr) fail(ErrorCode::usage, "a callback is null");
  if (std::find(callbacks_.begin(), callbacks_.end(), callback) != callbacks_.end())
    log_info("a callback is added a second time; it will be called twice for each event");
  callbacks_.push_back(std::move(callback));
}

bool CallbackHandler::remove(const TrainerCallback& callback) {
  const auto at =
      std::find_if(callbacks_.begin(), callbacks_.end(), [&](const auto& c) { return c.get() == &callback; });
  if (at == callbacks_.end()) return false;
  if (dynamic_cast<const DefaultFlowCallback*>(&callback) != nullptr)
    log_info("without DefaultFlowCallback the strategies have no effect, and only another callback ends a run");
  callbacks_.erase(at);
  return true;
}

bool CallbackHandler::any_looks_inside_steps() const {
  return std::any_of(callbacks_.begin(), callbacks_.end(), [](const Pointer& c) { return c->looks_inside_steps(); });
}

void CallbackHandler::call(Event event, CallbackContext& context) const {
  TrainerControl& control = context.control;
  if (event == &TrainerCallback::on_train_begin) control.should_training_stop = false;
  if (event == &TrainerCallback::on_epoch_begin) control.should_epoch_stop = false;
  if (event == &TrainerCallback::on_step_begin)
    control.should_log = control.should_evaluate = control.should_save = false;
  if (event == &TrainerCallback::on_log) control.should_log = false;
  if (event == &TrainerCallback::on_evaluate) control.should_evaluate = false;
  if (event == &TrainerCallback::on_save) control.should_save = false;
  const std::vector<Pointer> called = callbacks_;  // one of them may add or remove another
  for (const Pointer& callback : called) ((*callback).*event)(context);
}

Json CallbackHandler::states(const TrainerControl& control) const {
  Json states = Json::object({{"TrainerControl", control.to_json()}});
  for (const Pointer& callback : callbacks_) {
    const std::string name = callback->state_name();
    if (name.empty()) continue;
    const Json* before = states.find(name);
    if (before == nullptr) {
      states.set(name, callback->state());
    } else {
      Json list = before->is_array() ? *before : Json::array({*before});
      states.set(name, list.push_back(callback->state()));
    }
  }
  return states;
}

void CallbackHandler::load_states(const Json& states) const {
  for (const auto& [name, saved] : states.items()) {
    if (name == "TrainerControl") continue;
    const Json::Array list = saved.is_array() ? saved.elements() : Json::Array{saved};
    std::size_t next = 0;
    for (const Pointer& callback : callbacks_)
      if (callback->state_name() == name && next < list.size()) callback->load_state(list[next++]);
    if (next < list.size())
      log_info("the checkpoint holds the state of a " + name + ", and this run has none; it goes on without");
  }
}

void DefaultFlowCallback::on_step_end(CallbackContext& run) {
  const TrainingArguments& args = run.args;
  const TrainerState& state = run.state;
  const std::int64_t step = state.global_step;
  const bool last = step >= state.max_steps;
  if (args.logging_strategy == "steps" && step % state.logging_steps == 0) run.control.should_log = true;
  if (args.logging_first_step && step == 1) run.control.should_log = true;
  if (args.eval_strategy == "steps" && (last || step % state.eval_steps == 0) &&
      args.eval_delay <= static_cast<double>(step))
    run.control.should_evaluate = true;
  if (args.save_strategy == "steps" && (last || step % state.save_steps == 0)) run.control.should_save = true;
  if (last) run.control.should_training_stop = true;
}

void DefaultFlowCallback::on_epoch_end(CallbackContext& run) {
  const TrainingArguments& args = run.args;
  if (args.logging_strategy == "epoch") run.control.should_log = true;
  if (args.eval_strategy == "epoch" && args.eval_delay <= run.state.epoch) run.control.should_evaluate = true;
  if (args.save_strategy == "epoch") run.control.should_save = true;
}

EarlyStoppingCallback::EarlyStoppingCallback(std::int64_t early_stopping_patience, double early_stopping_threshold)
    : patience_(early_stopping_patience), threshold_(early_stopping_threshold) {
  if (patience_ < 1) fail(ErrorCode::usage, "early_stopping_patience is ", patience_, ", it must be at least 1");
  if (!(std::isfinite(threshold_) && threshold_ >= 0))
    fail(ErrorCode::usage, "early_stopping_threshold is ", threshold_, ", it must be finite and not negative");
}

void EarlyStoppingCallback::on_train_begin(CallbackContext& run) {
  if (!run.args.metric_for_best_model)
    fail(ErrorCode::usage, "EarlyStoppingCallback needs a metric_for_best_model, the metric that it watches");
  if (run.args.eval_strategy == "no")
    fail(ErrorCode::usage, "eval_strategy is no, and EarlyStoppingCallback needs evaluations: choose steps or epoch");
  if (!run.args.load_best_model_at_end)
    log_info("EarlyStoppingCallback without load_best_model_at_end: the run ends with the last weights, not the best");
  counter_ = 0;
}

void EarlyStoppingCallback::on_evaluate(CallbackContext& run) {
  if (run.optimizer == nullptr) return;  // an evaluation of the program's own
  const double metric = best_model_metric(run.args, *run.metrics);
  const std::optional<double>& best = run.state.best_metric;
  const bool improved = !best || (is_better(run.args, metric, *best) && std::abs(metric - *best) > threshold_);
  counter_ = improved ? 0 : counter_ + 1;
  if (counter_ >= patience_) run.control.should_training_stop = true;
}

Json EarlyStoppingCallback::state() const {
  return Json::object(
      {{"args", Json::object({{"early_stopping_patience", patience_}, {"early_stopping_threshold", threshold_}})},
       {"attributes", Json::object({{"early_stopping_patience_counter", counter_}})}});
}

void EarlyStoppingCallback::load_state(const Json& state) {
  const std::int64_t patience = state.at("args").get<std::int64_t>("early_stopping_patience", 1);
  const double threshold = state.at("args").get<double>("early_stopping_threshold", 0);
  if (patience != patience_ || threshold != threshold_)
    log_info("EarlyStoppingCallback goes on with the checkpoint's patience " + std::to_string(patience) +
             " and threshold " + Json(threshold).dump() +
             "; restore_callback_states_from_checkpoint false starts it afresh");
  patience_ = patience;
  threshold_ = threshold;
  counter_ = state.at("attributes").get<std::int64_t>("early_stopping_patience_counter", 0);
}

}  // namespace sinter::train
