// What a run may delete and what it must keep: of an earlier run, of the user, and of its own when it is stopped.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <csignal>
#include <fstream>

#include "core/autograd/mode.h"
#include "tests/core/expect_error.h"
#include "tests/train/trainer_fixture.h"
#include "train/checkpoint.h"

namespace sinter::train {
namespace {

namespace fs = std::filesystem;

class Saving : public TrainerFixture {
 protected:
  TrainOutput train(const TrainingArguments& args, const std::optional<std::string>& checkpoint = std::nullopt) {
    Trainer trainer(parts(model(), args));
    const TrainOutput output = trainer.train(checkpoint);
    if (output.stopped_by_signal == 0) trainer.save_model();
    return output;
  }
  std::vector<std::int64_t> steps(const std::string& name) const {
    std::vector<std::int64_t> found;
    for (const CheckpointFolder& folder : list_checkpoints(folder_ / name)) found.push_back(folder.step);
    return found;
  }
  void damage(const std::string& file) const { std::ofstream(folder_ / file, std::ios::app) << "x"; }
};

using Steps = std::vector<std::int64_t>;

TEST_F(Saving, RotationNeverTakesWhatWasJustSaved) {
  TrainingArguments args = arguments("out");
  args.max_steps = 8;
  args.save_steps = 2;
  train(args);
  damage("out/checkpoint-8/model.safetensors");
  damage("out/checkpoint-6/model.safetensors");
  args.max_steps = 5;
  args.save_steps = 1;
  args.save_total_limit = 1;
  train(args, "true");   // from 4; the broken ones lie behind
  EXPECT_EQ(steps("out"), Steps{5});
  EXPECT_TRUE(newest_valid_checkpoint(folder_ / "out"));
}

TEST_F(Saving, ABrokenCheckpointIsMovedAsideWhenItsStepComes) {
  TrainingArguments args = arguments("out");
  args.max_steps = 4;
  args.save_steps = 2;
  train(args);
  fs::resize_file(folder_ / "out/checkpoint-4/manifest.json", 0);
  args.max_steps = 6;
  train(args, "true");
  EXPECT_EQ(steps("out"), (Steps{2, 4, 6}));
  EXPECT_TRUE(fs::exists(folder_ / "out/checkpoint-4.aside/model.safetensors"));
}

TEST_F(Saving, TheReplacedRunStaysUntilSomethingIsSaved) {
  TrainingArguments args = arguments("out");
  args.max_steps = 4;
  args.save_steps = 2;
  train(args);
  const std::string before = bytes(folder_ / "out/checkpoint-4/model.safetensors");
  args.overwrite_output_dir = true;
  args.save_steps = 3;
  args.save_strategy = "steps";
  args.learning_rate = 2e-3;
  // Found to be wrong in train() itself, before the first step, and after it.
  TrainingArguments wrong = args;
  wrong.eval_strategy = "steps";
  wrong.metric_for_best_model = "f1";
  testing::expect_usage_error([&] { train(wrong); }, "metric_for_best_model");
  Trainer::Parts fails = parts(model(), args);
  fails.callbacks = {std::make_shared<AtStepEnd>([](CallbackContext&) { fail(ErrorCode::io, "stop"); })};
  testing::expect_error([&] { Trainer(fails).train(); }, ErrorCode::io, "stop");
  EXPECT_EQ(steps("out"), (Steps{2, 4}));
  EXPECT_TRUE(bytes(folder_ / "out/checkpoint-4/model.safetensors") == before);
  train(args);
  EXPECT_EQ(steps("out"), (Steps{3, 4}));   // 4 is the new run's last step
  EXPECT_FALSE(bytes(folder_ / "out/checkpoint-4/model.safetensors") == before);
}

TEST_F(Saving, WithoutCheckpointsTheReplacedOnesGoWithTheNewModel) {
  TrainingArguments args = arguments("out");
  args.max_steps = 2;
  args.save_steps = 2;
  train(args);
  args.overwrite_output_dir = true;
  args.save_strategy = "no";
  Trainer trainer(parts(model(), args));
  trainer.train();
  EXPECT_EQ(steps("out"), Steps{2});
  trainer.save_model();
  EXPECT_EQ(steps("out"), Steps{});
}

TEST_F(Saving, WhatTheUserPutThereStays) {
  TrainingArguments args = arguments("out");
  args.max_steps = 6;
  args.save_steps = 2;
  train(args);
  damage("out/checkpoint-2/thesis.tex");   // the new run saves this step, too
  damage("out/checkpoint-4/thesis.tex");   // and not this one
  damage("out/.tmp-mine");
  fs::create_directory(folder_ / "out/checkpoint-000");
  args.overwrite_output_dir = true;
  args.save_total_limit = 1;
  args.save_steps = 1;
  args.max_steps = 2;
  train(args);
  EXPECT_EQ(steps("out"), (Steps{2, 4}));
  EXPECT_TRUE(fs::exists(folder_ / "out/checkpoint-2.aside/thesis.tex"));
  EXPECT_TRUE(fs::exists(folder_ / "out/checkpoint-4/thesis.tex"));
  EXPECT_TRUE(fs::exists(folder_ / "out/.tmp-mine"));
  EXPECT_TRUE(fs::exists(folder_ / "out/checkpoint-000"));
}

TEST_F(Saving, AFolderInWhichNothingWasSavedIsFree) {
  const TrainingArguments args = arguments("out");
  fs::create_directories(folder_ / "out/.tmp-checkpoint-2.12345");
  damage("out/.lock");
  EXPECT_EQ(train(args).stopped_by_signal, 0);
  testing::expect_usage_error([&] { train(args); }, "is not empty");
}

TEST_F(Saving, FoldersInThePlaceOfFilesAreFoundFirst) {
  TrainingArguments args = arguments("out");
  args.overwrite_output_dir = true;
  fs::create_directories(folder_ / "out/config.json");
  testing::expect_usage_error([&] { train(args); }, "has a folder config.json where a file of this name");
}

TEST_F(Saving, AllResultsThatAreNoneAreReplaced) {
  fs::create_directories(folder_ / "out");
  damage("out/all_results.json");
  Trainer trainer(parts(model(), arguments("out")));
  trainer.save_metrics("eval", {{"eval_loss", 0.5}});
  trainer.save_metrics("test", {{"test_loss", 0.25}});
  const Json all = Json::load(folder_ / "out/all_results.json");
  EXPECT_EQ(all.get<double>("eval_loss"), 0.5);
  EXPECT_EQ(all.get<double>("test_loss"), 0.25);
}

TEST_F(Saving, TheFilesOfAnotherTokenizerGo) {
  TrainingArguments args = arguments("out");
  args.overwrite_output_dir = true;
  fs::create_directories(folder_ / "out");
  std::ofstream(folder_ / "out/added_tokens.json") << R"({"film": 3})";
  train(args);
  EXPECT_FALSE(fs::exists(folder_ / "out/added_tokens.json"));
  EXPECT_TRUE(fs::exists(folder_ / "out/tokenizer.json"));
}

TEST_F(Saving, WeightsThatAreNotFiniteAreNotSaved) {
  Trainer trainer(parts(model(), arguments("out")));
  const NoGradGuard guard;
  trainer.model().named_parameters().front().tensor.select(0, 1).fill_(INFINITY);
  testing::expect_error([&] { trainer.save_model(); }, ErrorCode::diverged, "holds inf or NaN, so nothing is saved");
  EXPECT_FALSE(fs::exists(folder_ / "out/model.safetensors"));
}

TEST_F(Saving, AStoppedRunGoesOnEvenWhereCheckpointsAreModelsAlone) {
  TrainingArguments args = arguments("out");
  args.save_only_model = true;
  args.save_strategy = "no";
  args.max_steps = 6;
  Trainer::Parts stopped = parts(model(), args);
  stopped.callbacks = {std::make_shared<AtStepEnd>([](CallbackContext& run) {
    if (run.state.global_step == 3) std::raise(SIGTERM);
  })};
  EXPECT_EQ(Trainer(stopped).train().stopped_by_signal, SIGTERM);
  EXPECT_EQ(train(args, "true").global_step, 6);
}

TEST_F(Saving, WithoutAnEvaluationTheLastWeightsStay) {
  TrainingArguments args = arguments("out");
  args.load_best_model_at_end = true;
  args.eval_strategy = args.save_strategy = "epoch";
  args.eval_delay = 50;
  train(args);
  EXPECT_TRUE(fs::exists(folder_ / "out/model.safetensors"));
}

TEST_F(Saving, ABestCheckpointThatIsGoneIsForgotten) {
  TrainingArguments args = arguments("out");
  args.load_best_model_at_end = true;
  args.eval_strategy = args.save_strategy = "epoch";
  args.learning_rate = 0;   // every evaluation is as good as the first, the best
  train(args);
  fs::remove_all(folder_ / "out/checkpoint-6");
  args.num_train_epochs = 3;
  Trainer trainer(parts(model(), args));
  trainer.train("true");
  EXPECT_EQ(trainer.state().best_global_step, 18);
}

/// Raises a signal inside of the `which`-th evaluation.
class SignalInEvaluation final : public TrainerCallback {
 public:
  explicit SignalInEvaluation(int which) : which_(which) {}
  void on_step_end(CallbackContext& run) override { step_ = run.state.global_step; }
  void on_prediction_step(CallbackContext&) override {
    if (step_ != evaluated_) ++count_, evaluated_ = step_;
    if (count_ == which_) std::raise(SIGTERM), which_ = -1;
  }

 private:
  int which_, count_ = 0;
  std::int64_t step_ = 0, evaluated_ = -1;
};

// Behind a step, behind an epoch, and behind the last step of the run.
TEST_F(Saving, ASignalInAnEvaluationChangesNothingInTheEnd) {
  for (const char* strategy : {"steps", "epoch"})
    for (const int which : {1, 2, 3}) {
      TrainingArguments args = arguments(std::string("whole-") + strategy + std::to_string(which));
      args.eval_strategy = args.save_strategy = strategy;
      args.eval_steps = args.save_steps = 4;
      args.num_train_epochs = 3;
      args.per_device_eval_batch_size = 30;
      args.load_best_model_at_end = true;
      Trainer whole(parts(model(), args));
      whole.train();
      args.output_dir = (folder_ / (std::string("stopped-") + strategy + std::to_string(which))).string();
      Trainer::Parts stopped = parts(model(), args);
      stopped.callbacks = {std::make_shared<SignalInEvaluation>(which)};
      Trainer half(stopped);
      ASSERT_EQ(half.train().stopped_by_signal, SIGTERM) << strategy << which;
      EXPECT_FALSE(half.state().evaluation_is_due.empty()) << "the evaluation went on to its end";
      Trainer resumed(parts(model(), args));
      resumed.train("true");
      expect_same_bits(weights(resumed.model()), weights(whole.model()));
      EXPECT_EQ(resumed.state().best_global_step, whole.state().best_global_step);
      EXPECT_EQ(resumed.state().best_metric, whole.state().best_metric);
      const auto evaluations = [](const TrainerState& state) {
        std::vector<std::int64_t> at;
        for (const Json& entry : state.log_history)
          if (entry.contains("eval_loss")) at.push_back(entry.get<std::int64_t>("step"));
        return at;
      };
      EXPECT_EQ(evaluations(resumed.state()), evaluations(whole.state())) << strategy << which;
    }
}

}  // namespace
}  // namespace sinter::train
