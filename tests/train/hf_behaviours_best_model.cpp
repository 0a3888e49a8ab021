// The best model, rotation and early stopping, by the numbers of reference/hf_trainer.md section 6.
#include <algorithm>
#include <cmath>

#include "core/io/json.h"
#include "tests/core/expect_error.h"
#include "tests/train/regression.h"
#include "train/best_model.h"
#include "train/checkpoint.h"
#include "train/weights.h"

namespace sinter::train {
namespace {

std::vector<std::int64_t> steps_of(const std::filesystem::path& folder) {
  std::vector<std::int64_t> steps;
  for (const CheckpointFolder& checkpoint : list_checkpoints(folder)) steps.push_back(checkpoint.step);
  return steps;
}

/// A metric that a table decides: evaluation i gives values[i], the last one for good.
ComputeMetrics scripted(std::vector<double> values, const std::string& name = "score") {
  const auto next = std::make_shared<std::size_t>(0);
  return [=](const EvalPrediction& prediction) -> Metrics {
    if (prediction.predictions.size() < 64) return {{name, 0}};  // the look at one batch before the training
    return {{name, values[std::min((*next)++, values.size() - 1)]}};
  };
}

TEST_F(HfBehaviour, N25_TheBestModelIsLoaded) {
  const struct {
    const char *name, *strategy, *save, *metric;
    std::vector<double> scores;
    std::int64_t best;
    std::vector<std::int64_t> kept;
  } rows[] = {
      {"accuracy", "steps", "steps", "score", {0.1, 0.9, 0.9, 0.2}, 10, {5, 10, 15, 20, 24}},
      {"loss", "epoch", "epoch", "eval_my_loss", {0.5, 0.1, 0.3}, 16, {8, 16, 24}},
      {"best", "steps", "best", "score", {0.1, 0.9, 0.5, 0.9, 0.2}, 10, {5, 10}},
  };
  for (const auto& row : rows) {
    TrainingArguments args = regression_arguments(row.name);
    args.eval_strategy = row.strategy;
    args.save_strategy = row.save;
    args.load_best_model_at_end = true;
    args.metric_for_best_model = row.metric;
    const auto m = std::make_shared<Regression>();
    Trainer::Parts parts = regression_parts(m, args);
    parts.compute_metrics = scripted(row.scores, row.metric);
    Trainer trainer(std::move(parts));
    trainer.train();
    const std::filesystem::path best = checkpoint_folder(args.output_dir, row.best);
    EXPECT_EQ(trainer.state().best_global_step, row.best);
    EXPECT_EQ(trainer.state().best_model_checkpoint, best.string());
    EXPECT_EQ(steps_of(args.output_dir), row.kept) << row.name;
    Regression saved;
    read_weights(saved, best / "model.safetensors");
    EXPECT_EQ(weights(*m), weights(saved));
    const Json state = Json::load(best / "trainer_state.json");  // of the best itself, which names itself
    EXPECT_EQ(state.get<std::string>("best_model_checkpoint"), best.string());
    EXPECT_EQ(state.get<std::int64_t>("best_global_step"), row.best);
  }
}

TEST_F(HfBehaviour, N25_TheLoadedModelHasTheReportedMetric) {
  TrainingArguments args = regression_arguments();
  args.eval_strategy = "steps";
  args.save_strategy = "steps";
  args.save_steps = 10;  // the best may lie between two saves: it is saved all the same
  args.load_best_model_at_end = true;
  args.lr_scheduler_type = "constant";
  args.learning_rate = 1.2;  // overshoots, so that the best is not the last
  Trainer trainer(regression_parts(std::make_shared<Regression>(), args));
  trainer.train();
  const TrainerState state = trainer.state();
  EXPECT_LT(*state.best_global_step, 24);
  EXPECT_EQ(*state.best_metric, trainer.evaluate().at("eval_loss"));
  const std::vector<double> losses = logged(state, "eval_loss");
  EXPECT_EQ(*state.best_metric, *std::min_element(losses.begin(), losses.end()));
}

TEST_F(HfBehaviour, N25_WhatCannotBeLoadedIsAnError) {
  TrainingArguments args = regression_arguments();
  args.eval_strategy = args.save_strategy = "epoch";
  args.load_best_model_at_end = true;
  Trainer::Parts parts = regression_parts(std::make_shared<Regression>(), args);
  const std::filesystem::path weights_file = checkpoint_folder(args.output_dir, 8) / "model.safetensors";
  parts.compute_metrics = scripted({1});
  parts.args.metric_for_best_model = "score";
  parts.callbacks = {std::make_shared<AtStepEnd>([&](CallbackContext& run) {
    if (run.state.global_step == 20) std::filesystem::resize_file(weights_file, 10);
  })};
  testing::expect_error([&] { Trainer(std::move(parts)).train(); }, ErrorCode::bad_input,
                        "Can't find a valid checkpoint at");
}

TEST_F(HfBehaviour, N25_AMissingMetricIsFoundBeforeTheFirstStep) {
  TrainingArguments args = regression_arguments();
  args.eval_strategy = args.save_strategy = "epoch";
  args.load_best_model_at_end = true;
  args.metric_for_best_model = "f1";
  const auto m = std::make_shared<Regression>();
  testing::expect_usage_error(
      [&] { Trainer(regression_parts(m, args)).train(); },
      R"(metric_for_best_model is "f1", and the evaluation gave eval_accuracy, eval_loss, eval_runtime)");
  EXPECT_EQ(weights(*m), (std::vector<float>{0, 0}));
}

TEST(BestModel, WhatRotationDeletes) {
  const struct {
    std::vector<std::int64_t> steps;
    std::int64_t limit, current;
    std::optional<std::int64_t> best;
    std::vector<std::int64_t> deleted;
  } rows[] = {
      {{5, 10, 15, 20, 25}, 2, 25, std::nullopt, {5, 10, 15}},
      {{5, 10, 15, 20, 25}, 2, 25, 5, {10, 15, 20}},
      {{5, 10, 15, 20, 25}, 1, 25, 25, {5, 10, 15, 20}},
      {{5, 10, 15, 20, 25}, 1, 25, 5, {10, 15, 20}},  // the last is kept beside the best: a run resumes from it
      {{5, 10, 15, 20, 25}, 3, 25, 10, {5, 15}},
      {{5, 10, 15, 20, 25}, 0, 25, 5, {}},
      {{5, 10, 15, 20, 25}, -1, 25, 5, {}},
      {{5, 10, 15, 20, 25}, 9, 25, 5, {}},
      {{5}, 1, 5, std::nullopt, {}},
      {{}, 1, 5, std::nullopt, {}},
      {{5, 10}, 1, 10, 7, {5}},  // the best is somewhere else
      {{5, 10, 15, 20}, 1, 15, std::nullopt, {20, 5, 10}},  // resumed at 10: 20 stems from the run before
      {{5, 10, 15, 20}, 3, 15, 5, {20}},
      {{5, 10, 15, 20}, 1, 15, 20, {5, 10}},
  };
  for (const auto& row : rows)
    EXPECT_EQ(surplus_checkpoints(row.steps, row.limit, row.current, row.best), row.deleted)
        << row.limit << row.best.value_or(0);
}

TEST_F(HfBehaviour, N26_Rotation) {
  const struct {
    std::int64_t limit;
    std::vector<double> scores;
    std::vector<std::int64_t> left;
  } rows[] = {
      {2, {}, {20, 24}},
      {2, {9, 1, 2, 3, 4}, {5, 24}},
      {1, {1, 2, 3, 4, 5}, {24}},
      {1, {9, 1, 2, 3, 4}, {5, 24}},
  };
  for (const auto& row : rows) {
    TrainingArguments args = regression_arguments();
    args.overwrite_output_dir = true;
    args.save_strategy = args.eval_strategy = "steps";
    args.save_total_limit = row.limit;
    args.load_best_model_at_end = !row.scores.empty();
    if (!row.scores.empty()) args.metric_for_best_model = "score";
    Trainer::Parts parts = regression_parts(std::make_shared<Regression>(), args);
    if (!row.scores.empty()) parts.compute_metrics = scripted(row.scores);
    Trainer(std::move(parts)).train();
    EXPECT_EQ(steps_of(args.output_dir), row.left);
  }
}

TEST(BestModel, TiesAndNanKeepTheEarlier) {
  TrainingArguments args;
  args.metric_for_best_model = "eval_score";
  args.greater_is_better = true;
  TrainerState state;
  const auto update = [&](double score) {
    ++state.global_step;
    return update_best_metric(args, {{"eval_score", score}}, state);
  };
  EXPECT_FALSE(update(NAN));
  EXPECT_TRUE(update(0.5));
  EXPECT_FALSE(update(0.5));
  EXPECT_FALSE(update(NAN));
  EXPECT_FALSE(update(0.4));
  EXPECT_EQ(state.best_global_step, 2);
  EXPECT_TRUE(update(0.6));
  args.greater_is_better = false;
  EXPECT_TRUE(update(0.1));
}

TEST_F(HfBehaviour, N27_EarlyStopping) {
  const struct {
    std::int64_t patience;
    double threshold;
    std::vector<double> scores;
    std::int64_t epochs;
  } rows[] = {
      {1, 0, {1, 2, 2, 9}, 3},  // a tie is no improvement
      {2, 0, {1, 2, 2, 3, 3, 3, 9}, 6},
      {1, 0.5, {1, 1.4, 9}, 2},  // better, but not by more than the threshold
      {3, 0, {1, 2, 3, 4, 5, 6, 7}, 7},
  };
  for (const auto& row : rows) {
    TrainingArguments args = regression_arguments();
    args.overwrite_output_dir = true;
    args.num_train_epochs = 7;
    args.eval_strategy = args.save_strategy = "epoch";
    args.load_best_model_at_end = true;
    args.metric_for_best_model = "score";
    Trainer::Parts parts = regression_parts(std::make_shared<Regression>(), args);
    parts.compute_metrics = scripted(row.scores);
    parts.callbacks = {std::make_shared<EarlyStoppingCallback>(row.patience, row.threshold)};
    EXPECT_EQ(Trainer(std::move(parts)).train().global_step, 8 * row.epochs) << row.patience << row.threshold;
  }
}

TEST_F(HfBehaviour, N27_EarlyStoppingNeedsAMetric) {
  const auto train = [&](const char* strategy, std::optional<std::string> metric) {
    TrainingArguments args = regression_arguments();
    args.eval_strategy = strategy;
    args.metric_for_best_model = metric;
    Trainer::Parts parts = regression_parts(std::make_shared<Regression>(), args);
    parts.callbacks = {std::make_shared<EarlyStoppingCallback>()};
    Trainer(std::move(parts)).train();
  };
  testing::expect_usage_error([&] { train("epoch", std::nullopt); }, "needs a metric_for_best_model");
  std::filesystem::remove_all(folder_);
  testing::expect_usage_error([&] { train("no", "loss"); }, "eval_strategy is no, and EarlyStoppingCallback needs");
  testing::expect_usage_error([] { EarlyStoppingCallback(0); }, "early_stopping_patience is 0, it must be at least 1");
  testing::expect_usage_error([] { EarlyStoppingCallback(1, -1); },
                              "early_stopping_threshold is -1, it must be finite");
}

// Interrupted after the third epoch, resumed, and stopped at the epoch at which the uninterrupted run stops.
TEST_F(HfBehaviour, N27_TheCounterSurvivesAResume) {
  const std::vector<double> scores = {5, 1, 2, 3, 4, 4, 4};
  TrainingArguments args = regression_arguments();
  args.num_train_epochs = 7;
  args.eval_strategy = args.save_strategy = "epoch";
  args.metric_for_best_model = "score";
  const auto run = [&](std::size_t from, bool interrupted, bool restored, const std::optional<std::string>& resume) {
    TrainingArguments these = args;
    these.restore_callback_states_from_checkpoint = restored;
    Trainer::Parts parts = regression_parts(std::make_shared<Regression>(), these);
    parts.compute_metrics = scripted({scores.begin() + static_cast<std::ptrdiff_t>(from), scores.end()});
    parts.callbacks = {std::make_shared<EarlyStoppingCallback>(3, 0.25)};
    if (interrupted)
      parts.callbacks.push_back(std::make_shared<AtStepEnd>([](CallbackContext& at) {
        if (at.state.global_step == 25) fail(ErrorCode::io, "the machine goes down");
      }));
    return Trainer(std::move(parts)).train(resume).global_step;
  };
  EXPECT_THROW(run(0, true, true, std::nullopt), Error);
  const std::filesystem::path third = checkpoint_folder(args.output_dir, 24);
  const Json saved = Json::load(third / "trainer_state.json").at("stateful_callbacks");
  EXPECT_EQ(saved.at("EarlyStoppingCallback").at("attributes").get<std::int64_t>("early_stopping_patience_counter"), 2);
  EXPECT_EQ(saved.at("EarlyStoppingCallback").at("args").get<double>("early_stopping_threshold"), 0.25);
  EXPECT_EQ(run(3, false, true, "true"), 32);
  // The run has been stopped: resuming it does nothing, unless the states start afresh.
  EXPECT_EQ(run(4, false, true, "true"), 32);
  EXPECT_EQ(run(4, false, false, "true"), 56);
}

}  // namespace
}  // namespace sinter::train
