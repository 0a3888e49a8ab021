// The order of events, and what callbacks may ask for, by the numbers of reference/hf_trainer.md section 6.
#include "tests/core/expect_error.h"
#include "tests/train/regression.h"
#include "train/progress_callback.h"

namespace sinter::train {
namespace {

/// Writes down every event.
class Recorder final : public TrainerCallback {
 public:
  void on_init_end(CallbackContext&) override { events += "init "; }
  void on_train_begin(CallbackContext& run) override { note(run, "train_begin"); }
  void on_train_end(CallbackContext& run) override { note(run, "train_end"); }
  void on_epoch_begin(CallbackContext& run) override { note(run, "epoch_begin"); }
  void on_epoch_end(CallbackContext& run) override { note(run, "epoch_end"); }
  void on_step_begin(CallbackContext& run) override { note(run, "step_begin"); }
  void on_substep_end(CallbackContext& run) override { note(run, "substep"); }
  void on_pre_optimizer_step(CallbackContext& run) override { note(run, "pre"); }
  void on_optimizer_step(CallbackContext& run) override { note(run, "opt"); }
  void on_step_end(CallbackContext& run) override { note(run, "step_end"); }
  void on_evaluate(CallbackContext& run) override { note(run, "evaluate"); }
  void on_save(CallbackContext& run) override { note(run, "save"); }
  void on_log(CallbackContext& run) override { note(run, "log"); }
  void on_prediction_step(CallbackContext& run) override { note(run, "predict"); }
  void on_predict(CallbackContext&) override { events += "on_predict "; }

  std::string events;

 private:
  void note(CallbackContext& run, const char* event) {
    EXPECT_NE(run.optimizer, nullptr) << event;
    events += std::string(event) + " ";
  }
};

// The six settings of HF's own test and accumulation: 2 epochs of 2 updates, 2 evaluation batches. s is a step's usual
// events.
TEST_F(HfBehaviour, N28_EventsInHfOrder) {
  const std::string e = "predict predict log evaluate ";
  const struct {
    const char* name;
    std::function<void(TrainingArguments&)> change;
    std::string expected;  // between "init train_begin " and "log train_end "
  } rows[] = {
      {"plain", [](auto&) {}, "epoch_begin s s epoch_end epoch_begin s s epoch_end "},
      {"log", [](auto& a) { a.logging_steps = 1; },
       "epoch_begin s log s log epoch_end epoch_begin s log s log epoch_end "},
      {"eval", [](auto& a) { a.eval_strategy = "steps", a.eval_steps = 3; },
       "epoch_begin s s epoch_end epoch_begin s E s E epoch_end "},
      {"epochs", [](auto& a) { a.eval_strategy = "epoch", a.logging_strategy = "epoch", a.save_strategy = "epoch"; },
       "epoch_begin s s epoch_end log E save epoch_begin s s epoch_end log E save "},
      {"save", [](auto& a) { a.save_strategy = "steps", a.save_steps = 3; },
       "epoch_begin s s epoch_end epoch_begin s save s save epoch_end "},
      {"all",
       [](auto& a) {
         a.save_strategy = a.eval_strategy = "steps";
         a.logging_steps = a.eval_steps.emplace(a.save_steps = 2);
       },
       "epoch_begin s s log E save epoch_end epoch_begin s s log E save epoch_end "},
      {"start", [](auto& a) { a.eval_on_start = true, a.logging_first_step = true, a.max_steps = 1; },
       "E epoch_begin s log epoch_end "},
      {"accumulation", [](auto& a) { a.gradient_accumulation_steps = 2, a.num_train_epochs = 1; },
       "epoch_begin step_begin substep pre opt step_end epoch_end "},
  };
  for (const auto& row : rows) {
    TrainingArguments args = regression_arguments(row.name);
    args.num_train_epochs = 2;
    args.logging_steps = 100;
    row.change(args);
    const auto recorder = std::make_shared<Recorder>();
    Trainer::Parts parts = regression_parts(std::make_shared<Regression>(), args);
    parts.train_dataset = parts.eval_dataset = points(16);
    parts.callbacks = {recorder};
    Trainer(std::move(parts)).train();
    std::string expected = "init train_begin " + row.expected + "log train_end ";
    for (const auto& [mark, events] : {std::pair{std::string(" s "), std::string(" step_begin pre opt step_end ")},
                                       std::pair{std::string(" E "), " " + e}})
      for (std::size_t at; (at = expected.find(mark)) != std::string::npos;) expected.replace(at, 3, events);
    EXPECT_EQ(recorder->events, expected) << row.name;
  }
}

TEST_F(HfBehaviour, N28_PredictHasItsOwnEvent) {
  class Predicts final : public TrainerCallback {
   public:
    void on_predict(CallbackContext& run) override { loss = run.metrics->at("test_loss"); }
    double loss = -1;
  };
  const auto callback = std::make_shared<Predicts>();
  Trainer::Parts parts = regression_parts(std::make_shared<Regression>(), regression_arguments());
  parts.callbacks = {callback};
  Trainer trainer(std::move(parts));
  trainer.predict(points());
  EXPECT_GT(callback->loss, 0);
}

TEST_F(HfBehaviour, N28_ACallbackStopsTheRun) {
  Trainer::Parts parts = regression_parts(std::make_shared<Regression>(), regression_arguments());
  parts.callbacks = {
      std::make_shared<AtStepEnd>([](CallbackContext& run) { run.control.should_training_stop = true; })};
  Trainer trainer(std::move(parts));
  EXPECT_EQ(trainer.train().global_step, 1);
  EXPECT_EQ(trainer.train().global_step, 1);  // the flag lasts to the end of a run, no longer
}

TEST_F(HfBehaviour, N28_ACallbackEndsEachEpoch) {
  Trainer::Parts parts = regression_parts(std::make_shared<Regression>(), regression_arguments());
  parts.callbacks = {std::make_shared<AtStepEnd>([](CallbackContext& run) { run.control.should_epoch_stop = true; })};
  Trainer trainer(std::move(parts));
  EXPECT_EQ(trainer.train().global_step, 3);
}

TEST_F(HfBehaviour, N28_CallbacksAreAddedAndRemoved) {
  Trainer trainer(regression_parts(std::make_shared<Regression>(), regression_arguments()));
  EXPECT_EQ(trainer.callbacks().all().size(), 2u);
  const auto recorder = std::make_shared<Recorder>();
  trainer.callbacks().add(recorder);
  EXPECT_EQ(trainer.callbacks().pop<Recorder>(), recorder);
  EXPECT_FALSE(trainer.callbacks().remove(*recorder));
  EXPECT_NE(trainer.callbacks().pop<PrinterCallback>(), nullptr);
  EXPECT_EQ(trainer.callbacks().all().size(), 1u);
  testing::expect_usage_error([&] { trainer.callbacks().add(nullptr); }, "a callback is null");
}

TEST_F(HfBehaviour, N29_StepsBelowOneAreSharesOfTheRun) {
  TrainingArguments args = regression_arguments();
  args.max_steps = 100;
  args.logging_steps = 0.1;
  args.eval_steps = 0.2;
  args.save_steps = 0.5;
  args.eval_strategy = args.save_strategy = "steps";
  Trainer trainer(regression_parts(std::make_shared<Regression>(), args));
  trainer.train();
  EXPECT_EQ(trainer.state().logging_steps, 10);
  EXPECT_EQ(trainer.state().eval_steps, 20);
  EXPECT_EQ(trainer.state().save_steps, 50);
  EXPECT_EQ(logged(trainer.state(), "loss").size(), 10u);
  EXPECT_EQ(logged(trainer.state(), "eval_loss").size(), 5u);
}

TEST_F(HfBehaviour, N30_WhatContradictsIsRefusedByTheConstructor) {
  TrainingArguments args = regression_arguments();
  args.eval_strategy = "epoch";
  Trainer::Parts parts = regression_parts(std::make_shared<Regression>(), args);
  parts.eval_dataset.reset();
  testing::expect_usage_error([&] { Trainer(std::move(parts)); },
                              R"(eval_strategy is "epoch", which needs an eval_dataset)");
  testing::expect_usage_error([&] { Trainer({.args = regression_arguments()}); }, "the Trainer needs a model");
  testing::expect_usage_error(
      [&] { Trainer({.model = std::make_shared<Regression>(), .args = regression_arguments()}); },
      "its loss is not known; give compute_loss");
  EXPECT_FALSE(std::filesystem::exists(args.output_dir));
  setenv("HOME", folder_.c_str(), 1);
  TrainingArguments home;
  home.output_dir = "~/out";
  EXPECT_EQ(home.resolved().output_dir, (folder_ / "out").string());
}

TEST_F(HfBehaviour, N30_EvalDelay) {
  TrainingArguments args = regression_arguments();
  args.eval_strategy = "epoch";
  args.eval_delay = 2;
  Trainer by_epoch(regression_parts(std::make_shared<Regression>(), args));
  by_epoch.train();
  EXPECT_EQ(logged(by_epoch.state(), "eval_loss").size(), 2u);
  args.output_dir = (folder_ / "steps").string();
  args.eval_strategy = "steps";
  args.eval_steps = 8;
  args.eval_delay = 9;
  Trainer by_step(regression_parts(std::make_shared<Regression>(), args));
  by_step.train();
  EXPECT_EQ(logged(by_step.state(), "eval_loss").size(), 2u);
}

}  // namespace
}  // namespace sinter::train
