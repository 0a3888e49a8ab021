// Objects that watch a run and steer it, after HF's TrainerCallback.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "core/io/json.h"
#include "nn/module.h"
#include "optim/optimizer.h"
#include "train/metrics.h"
#include "train/trainer_state.h"
#include "train/training_arguments.h"

namespace sinter::train {

/// What the loop is asked to do next. Kept in trainer_state.json.
struct TrainerControl {
  bool should_training_stop = false;   ///< until the next train()
  bool should_epoch_stop = false;      ///< until the next epoch
  bool should_save = false;            ///< these three until the next step, or until it was done
  bool should_evaluate = false;
  bool should_log = false;

  /// HF's form: {"args": {...}, "attributes": {}}.
  Json to_json() const;
  static TrainerControl from_json(const Json& json);
};

/// What an event hands to a callback. References last for the call.
struct CallbackContext {
  const TrainingArguments& args;
  const TrainerState& state;
  TrainerControl& control;
  nn::Module& model;
  optim::Optimizer* optimizer = nullptr;   ///< from train_begin to train_end, else null
  const Metrics* metrics = nullptr;        ///< of evaluate and predict
  const Json* logs = nullptr;              ///< of log: the entry, without "step"
};

/// Events in HF's order: init_end (constructor), train_begin, then for each epoch: epoch_begin, for each update
/// {step_begin, substep_end after every micro-batch but the last, pre_optimizer_step, optimizer_step, step_end, [log],
/// [prediction_step for each evaluation batch, log, evaluate], [save]}, epoch_end, [log, evaluate, save]; at the end
/// log (the summary) and train_end. predict() gives prediction_step and predict.
class TrainerCallback {
 public:
  virtual ~TrainerCallback() = default;

  virtual void on_init_end(CallbackContext&) {}
  virtual void on_train_begin(CallbackContext&) {}
  virtual void on_train_end(CallbackContext&) {}
  virtual void on_epoch_begin(CallbackContext&) {}
  virtual void on_epoch_end(CallbackContext&) {}
  virtual void on_step_begin(CallbackContext&) {}
  virtual void on_substep_end(CallbackContext&) {}
  virtual void on_pre_optimizer_step(CallbackContext&) {}
  virtual void on_optimizer_step(CallbackContext&) {}
  virtual void on_step_end(CallbackContext&) {}
  virtual void on_evaluate(CallbackContext&) {}
  virtual void on_predict(CallbackContext&) {}
  virtual void on_save(CallbackContext&) {}
  virtual void on_log(CallbackContext&) {}
  virtual void on_prediction_step(CallbackContext&) {}

  /// Whether the callback reads or writes weights, gradients or optimizer state in events within an update: step_begin,
  /// substep_end, pre_optimizer_step, optimizer_step, step_end. Where one does, all of them are up to date after every
  /// update, which is slower, and the Trainer says so once; else they are up to date in all other events.
  virtual bool looks_inside_steps() const { return true; }

  /// Stateful callbacks: the name under which the state stands in trainer_state.json's stateful_callbacks, empty for
  /// others; HF's form of the state, {"args": {...}, "attributes": {...}}; and taking it back. Several of one name
  /// stand in their order.
  virtual std::string state_name() const { return {}; }
  virtual Json state() const { return {}; }
  virtual void load_state(const Json&) {}
};

/// The callbacks of a Trainer in the order in which they are called.
class CallbackHandler {
 public:
  using Event = void (TrainerCallback::*)(CallbackContext&);
  using Pointer = std::shared_ptr<TrainerCallback>;

  /// A callback that is there already is added again, and announced in one line. Error(usage) for a null pointer.
  void add(Pointer callback);
  /// Takes one out; false when it is not there. Without the DefaultFlowCallback nothing is logged, evaluated or saved
  /// by itself and no run ends: that is announced in one line.
  bool remove(const TrainerCallback& callback);
  /// The first of class T, taken out; null when there is none.
  template <class T>
  std::shared_ptr<T> pop() {
    for (const Pointer& callback : callbacks_)
      if (auto found = std::dynamic_pointer_cast<T>(callback)) {
        remove(*found);
        return found;
      }
    return nullptr;
  }
  const std::vector<Pointer>& all() const { return callbacks_; }
  bool any_looks_inside_steps() const;

  /// Clears the flags of TrainerControl that this event ends, and calls every callback.
  void call(Event event, CallbackContext& context) const;

  /// Of the stateful callbacks and of `control`, as trainer_state.json has it.
  Json states(const TrainerControl& control) const;
  /// Hands out what states() gave. A state without a callback is announced in one line, as HF does.
  void load_states(const Json& states) const;

 private:
  std::vector<Pointer> callbacks_;
};

/// Sets the flags that the strategies of TrainingArguments ask for, and ends the run at max_steps.
class DefaultFlowCallback final : public TrainerCallback {
 public:
  void on_step_end(CallbackContext& run) override;
  void on_epoch_end(CallbackContext& run) override;
  bool looks_inside_steps() const override { return false; }
};

/// Ends the run when metric_for_best_model has not improved for `patience` evaluations in a row. An improvement exceeds
/// the best metric so far by more than `threshold`. The counter survives a resume.
class EarlyStoppingCallback final : public TrainerCallback {
 public:
  /// Error(usage) unless patience >= 1 and threshold is finite and not negative.
  explicit EarlyStoppingCallback(std::int64_t early_stopping_patience = 1, double early_stopping_threshold = 0);

  /// Error(usage) without metric_for_best_model or with eval_strategy no.
  void on_train_begin(CallbackContext& run) override;
  /// Error(usage) that lists the metrics when metric_for_best_model is not among them; HF only warns and never stops.
  void on_evaluate(CallbackContext& run) override;

  bool looks_inside_steps() const override { return false; }
  std::string state_name() const override { return "EarlyStoppingCallback"; }
  Json state() const override;
  void load_state(const Json& state) override;

 private:
  std::int64_t patience_;
  double threshold_;
  std::int64_t counter_ = 0;   // evaluations in a row without an improvement
};

}  // namespace sinter::train
