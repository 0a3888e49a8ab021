// Behaviours of HF's Trainer while it evaluates and predicts, by the numbers of reference/hf_trainer.md section 6.
#include <cmath>

#include "tests/core/expect_error.h"
#include "tests/train/regression.h"

namespace sinter::train {
namespace {

/// Mean squared error of y = 1.5 x + 2.5, and the share within 0.25.
Metrics expected(const data::Dataset& dataset) {
  double squares = 0, right = 0;
  for (std::int64_t i = 0; i < dataset.size(); ++i) {
    const double error = 1.5 * dataset[i].real("input_x") + 2.5 - dataset[i].real("labels");
    squares += error * error;
    right += std::abs(error) <= 0.25;
  }
  const auto n = static_cast<double>(dataset.size());
  return {{"eval_loss", squares / n}, {"eval_accuracy", right / n}};
}

TEST_F(HfBehaviour, N13_EvaluationIsExact) {
  for (const std::int64_t rows : {64, 66}) {
    Trainer::Parts parts = regression_parts(std::make_shared<Regression>(1.5, 2.5), regression_arguments());
    parts.eval_dataset = points(rows);
    Trainer trainer(std::move(parts));
    const Metrics found = trainer.evaluate();
    for (const auto& [key, value] : expected(points(rows))) EXPECT_NEAR(found.at(key), value, 1e-6) << key << rows;
    for (const char* key : {"eval_runtime", "eval_samples_per_second", "eval_steps_per_second", "epoch"})
      EXPECT_TRUE(found.contains(key)) << key;
    const Metrics other = trainer.evaluate(points(10), "few");
    EXPECT_NEAR(other.at("few_loss"), expected(points(10)).at("eval_loss"), 1e-6);
    EXPECT_EQ(trainer.state().log_history.size(), 2u);
  }
}

TEST_F(HfBehaviour, N13_LogitsArePreprocessed) {
  Trainer::Parts parts = regression_parts(std::make_shared<Regression>(1.5, 2.5), regression_arguments());
  parts.preprocess_logits_for_metrics = [](Tensors logits, const LossInputs& inputs) {
    EXPECT_EQ(logits[0].size(0), inputs.batch.sample_count);
    return Tensors{logits[0] + 1000.0};
  };
  Trainer trainer(std::move(parts));
  const Metrics found = trainer.evaluate();
  EXPECT_EQ(found.at("eval_accuracy"), 0);
  EXPECT_NEAR(found.at("eval_loss"), expected(points()).at("eval_loss"), 1e-6);
}

TEST_F(HfBehaviour, N14_PredictionsAreExact) {
  for (const std::int64_t rows : {64, 66}) {
    Trainer trainer(regression_parts(std::make_shared<Regression>(1.5, 2.5), regression_arguments()));
    const PredictionOutput found = trainer.predict(points(rows));
    EXPECT_EQ(found.shape, Shape{rows});
    for (std::int64_t i = 0; i < rows; ++i)
      EXPECT_NEAR(found.predictions[static_cast<std::size_t>(i)], 1.5 * points(rows)[i].real("input_x") + 2.5, 1e-6);
    EXPECT_NEAR(found.metrics.at("test_loss"), expected(points(rows)).at("eval_loss"), 1e-6);
    EXPECT_TRUE(trainer.state().log_history.empty());
  }
}

TEST_F(HfBehaviour, N14_TwoOutputsAndTwoSetsOfLabels) {
  const data::Dataset rows = points(66).map([](const data::Batch& batch) {
    data::Column::Reals twice;
    for (const double label : batch.reals("labels")) twice.push_back(2 * label);
    return data::Columns{{"labels_2", twice}};
  });
  Trainer::Parts parts = regression_parts(std::make_shared<Regression>(1.5, 2.5), regression_arguments());
  parts.args.label_names = {"labels", "labels_2"};
  parts.compute_loss = [](nn::Module& module, const LossInputs& inputs) {
    ModelOutput output = regression_loss(module, inputs);
    output.logits.push_back(output.logits[0] * 2.0);
    return output;
  };
  parts.compute_metrics = [](const EvalPrediction& prediction) {
    EXPECT_EQ(prediction.outputs.size(), 2u);
    EXPECT_EQ(prediction.labels->at("labels_2").reals()[65], 2 * prediction.labels->at("labels").reals()[65]);
    return Metrics{{"seen", 1}};
  };
  Trainer trainer(std::move(parts));
  const PredictionOutput found = trainer.predict(rows);
  EXPECT_EQ(found.metrics.at("test_seen"), 1);
  ASSERT_EQ(found.more_outputs.size(), 1u);
  ASSERT_EQ(found.more_outputs[0].size(), 66);
  for (std::size_t i = 0; i < 66; ++i) EXPECT_EQ(found.more_outputs[0].values[i], 2 * found.predictions[i]);
}

TEST_F(HfBehaviour, N14_WithoutLabelsThereAreOnlyPredictions) {
  Trainer trainer(parts(model(), arguments("run")));
  const PredictionOutput known = trainer.predict(dataset(20)),
                         unknown = trainer.predict(dataset(20).remove_columns({"label"}));
  EXPECT_EQ(known.predictions, unknown.predictions);
  EXPECT_TRUE(known.metrics.contains("test_accuracy"));
  EXPECT_FALSE(unknown.metrics.contains("test_loss"));
  EXPECT_TRUE(unknown.label_ids.empty());
  // GLUE's test splits have -1 for every label.
  const PredictionOutput glue = trainer.predict(dataset(20).map([](const data::Batch& batch) {
    return data::Columns{{"label", data::Column::Integers(static_cast<std::size_t>(batch.size()), -1)}};
  }));
  EXPECT_EQ(glue.predictions, known.predictions);
  EXPECT_FALSE(glue.metrics.contains("test_loss"));
}

TEST_F(HfBehaviour, N15_OutputsOfVariableLength) {
  Trainer::Parts parts = regression_parts(std::make_shared<Regression>(), regression_arguments());
  parts.compute_loss = [](nn::Module&, const LossInputs& inputs) {
    const std::int64_t length = inputs.rows[0] % 16 == 0 ? 2 : 3;  // of every other batch of 8
    Tensor output = Tensor::full({inputs.batch.sample_count, length}, static_cast<double>(inputs.rows[0]));
    return ModelOutput{{}, {output}};
  };
  parts.compute_metrics = {};
  Trainer trainer(std::move(parts));
  const PredictionOutput found = trainer.predict(points(20));
  ASSERT_EQ(found.shape, (Shape{20, 3}));
  for (std::size_t row = 0; row < 20; ++row) {
    const auto first = static_cast<float>(row / 8 * 8);
    const float last = row / 8 % 2 == 0 ? -100 : first;
    EXPECT_EQ(found.predictions[3 * row], first);
    EXPECT_EQ(found.predictions[3 * row + 1], first);
    EXPECT_EQ(found.predictions[3 * row + 2], last);
  }
}

TEST_F(HfBehaviour, PredictionLossOnly) {
  TrainingArguments args = regression_arguments();
  args.prediction_loss_only = true;
  Trainer trainer(regression_parts(std::make_shared<Regression>(1.5, 2.5), args));
  const Metrics found = trainer.evaluate();
  EXPECT_TRUE(found.contains("eval_loss"));
  EXPECT_FALSE(found.contains("eval_accuracy"));
  EXPECT_TRUE(trainer.predict(points()).predictions.empty());
}

TEST(Metrics, ByName) {
  const std::vector<float> logits = {1, 0, 0, 1, 0, 1, 1, 0, 0, 1, 5, 5};  // says 0 1 1 0 1, and 0 among equals
  const std::vector<std::int64_t> labels = {0, 1, 0, 1, 1, -100};
  const EvalPrediction prediction{logits, 2, labels};
  EXPECT_DOUBLE_EQ(load_metric("accuracy")(prediction).at("accuracy"), 0.6);
  EXPECT_DOUBLE_EQ(load_metric("f1")(prediction).at("f1"), 2.0 / 3);
  EXPECT_DOUBLE_EQ(load_metric("precision")(prediction).at("precision"), 2.0 / 3);
  EXPECT_DOUBLE_EQ(load_metric("recall")(prediction).at("recall"), 2.0 / 3);
  EXPECT_DOUBLE_EQ(load_metric("glue/cola")(prediction).at("matthews_correlation"), 1 / 6.0);  // (2*1 - 1*1) / 6
  EXPECT_EQ(load_metric("glue", "sst2")(prediction), load_metric("accuracy")(prediction));
  EXPECT_EQ(load_metric("glue/mrpc")(prediction).size(), 2u);
  testing::expect_usage_error([] { load_metric("glue"); }, R"(there is no metric "glue"; there are accuracy, f1)");
  const EvalPrediction three{logits, 3, std::span(labels).first(4)};
  testing::expect_usage_error([&] { load_metric("f1")(three); }, "f1 is for two classes, and the model has 3");
}

}  // namespace
}  // namespace sinter::train
