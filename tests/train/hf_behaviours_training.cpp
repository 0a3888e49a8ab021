// Behaviours of HF's Trainer while it trains, by the numbers of reference/hf_trainer.md section 6.
#include <algorithm>
#include <cmath>
#include <numeric>

#include "optim/groups.h"
#include "optim/sgd.h"
#include "tests/core/expect_error.h"
#include "tests/train/regression.h"

namespace sinter::train {
namespace {

TEST_F(HfBehaviour, N01_SeedDecidesTheWeights) {
  std::vector<std::vector<float>> found;
  for (const std::uint64_t seed : {42, 42, 7, 7}) {
    TrainingArguments args = regression_arguments("run" + std::to_string(found.size()));
    args.seed = seed;
    const auto m = std::make_shared<Regression>();
    Trainer(regression_parts(m, args)).train();
    found.push_back(weights(*m));
  }
  EXPECT_EQ(found[0], found[1]);
  EXPECT_EQ(found[2], found[3]);
  EXPECT_NE(found[0], found[2]);
}

TEST_F(HfBehaviour, N02_UnusedColumnsAndTheNameOfTheLabelsChangeNothing) {
  std::vector<std::vector<float>> found;
  const auto train_on = [&](const data::Dataset& dataset, const TrainingArguments& args) {
    const Bert m = model();
    Trainer({.model = m, .args = args, .train_dataset = dataset}).train();
    found.push_back(weights(*m));
  };
  TrainingArguments args = arguments("run");
  args.overwrite_output_dir = true;
  args.max_steps = 4;
  const data::Dataset plain = dataset(40).remove_columns({"sentence"});
  train_on(plain, args);
  train_on(dataset(40), args);
  train_on(plain.rename_column("label", "labels"), args);
  TrainingArguments named = args;
  named.label_names = {"mood"};
  train_on(plain.rename_column("label", "mood"), named);
  for (std::size_t i = 1; i < found.size(); ++i) expect_same_bits(found[i], found[0]);
  testing::expect_usage_error([&] { Trainer({.model = model(), .args = args, .train_dataset = points()}); },
                              "train_dataset has the columns input_x, labels, and the model reads input_ids");
}

TEST_F(HfBehaviour, N02_UnusedColumnsReachACollatorOnlyWhenAsked) {
  for (const bool removed : {true, false}) {
    TrainingArguments args = arguments(removed ? "removed" : "kept");
    args.remove_unused_columns = removed;
    args.max_steps = 1;
    bool seen = false;
    Trainer({.model = model(),
             .args = args,
             .train_dataset = dataset(40),
             .data_collator =
                 [&](const data::Dataset& rows, std::span<const std::int64_t> which, std::int64_t first) {
                   seen = rows.has_column("sentence");
                   return data::DataCollatorWithFlattening()(rows, which, first);
                 }})
        .train();
    EXPECT_EQ(seen, !removed);
  }
}

TEST_F(HfBehaviour, N03_ModelInitStartsAfresh) {
  const auto fresh = [](std::uint64_t seed) { return std::make_shared<Regression>(0.001 * static_cast<double>(seed)); };
  Trainer::Parts parts = regression_parts(nullptr, regression_arguments());
  parts.model_init = fresh;
  Trainer trainer(std::move(parts));
  trainer.train();
  const std::vector<float> first = weights(trainer.model());
  trainer.train();
  EXPECT_EQ(weights(trainer.model()), first);
  trainer.args().seed = 314;
  trainer.train();
  EXPECT_NE(weights(trainer.model()), first);
  Trainer::Parts both = regression_parts(std::make_shared<Regression>(), regression_arguments());
  both.model_init = fresh;
  testing::expect_usage_error([&] { Trainer(std::move(both)); }, "model and model_init are both given");
}

TEST_F(HfBehaviour, N04_AccumulationEqualsALargerBatch) {
  std::vector<std::vector<double>> losses;
  for (const std::int64_t accumulation : {1, 2, 4}) {
    TrainingArguments args = regression_arguments("run" + std::to_string(accumulation));
    args.per_device_train_batch_size = 8 / accumulation;
    args.gradient_accumulation_steps = accumulation;
    args.logging_steps = 1;
    Trainer::Parts parts = regression_parts(std::make_shared<Regression>(), args);
    parts.train_dataset = points(66);  // the last group of an epoch has 2 samples
    Trainer trainer(std::move(parts));
    EXPECT_EQ(trainer.train().global_step, 27);
    losses.push_back(logged(trainer.state(), "loss"));
  }
  for (std::size_t step = 0; step < 27; ++step)
    for (std::size_t k : {1u, 2u})  // 27 updates of f32 sums in another order
      EXPECT_NEAR(losses[k][step], losses[0][step], 1e-4 * losses[0][step]) << step;
}

TEST_F(HfBehaviour, N05_TheLossIsTheMeanOfTheLoggedOnes) {
  TrainingArguments args = regression_arguments("even");
  args.logging_steps = 8;
  Trainer even(regression_parts(std::make_shared<Regression>(), args));
  const double loss = even.train().training_loss;
  const std::vector<double> losses = logged(even.state(), "loss");
  ASSERT_EQ(losses.size(), 3u);
  EXPECT_NEAR(std::accumulate(losses.begin(), losses.end(), 0.0) / 3, loss, 1e-12);
  args.output_dir = (folder_ / "uneven").string();
  args.logging_steps = 5;
  Trainer uneven(regression_parts(std::make_shared<Regression>(), args));
  EXPECT_EQ(uneven.train().training_loss, loss);
}

TEST_F(HfBehaviour, N06_OnesOwnOptimizerAndSchedule) {
  const auto m = std::make_shared<Regression>();
  Trainer::Parts parts = regression_parts(m, regression_arguments());
  parts.optimizers = {
      std::make_shared<optim::Sgd>(optim::decay_groups(m->named_parameters(), 0), optim::SgdOptions{.lr = 0.01}),
      [](std::int64_t) { return 1.0; }};
  const auto optimizer = parts.optimizers.optimizer;
  Trainer trainer(std::move(parts));
  trainer.train();
  EXPECT_EQ(optimizer->lr(), 0.01);
  EXPECT_EQ(optimizer->steps(), 24);
  for (const double lr : logged(trainer.state(), "learning_rate")) EXPECT_EQ(lr, 0.01);
  Trainer::Parts both = regression_parts(nullptr, regression_arguments());
  both.model_init = [](std::uint64_t) { return std::make_shared<Regression>(); };
  both.optimizers.optimizer = optimizer;
  testing::expect_usage_error([&] { Trainer(std::move(both)); }, "optimizers cannot be given with model_init");
}

TEST_F(HfBehaviour, N07_N08_StepCounts) {
  const struct {
    double epochs;
    std::int64_t max_steps, accumulation, expected;
  } rows[] = {
      {3, -1, 1, 24}, {1.5, -1, 1, 12}, {3, 10, 1, 10}, {0.1, -1, 1, 1},  // 64 samples in batches of 8
      {3, -1, 3, 9},  {2, -1, 100, 2},  {2, 5, 100, 5}, {1, -1, 8, 1},
  };
  for (const auto& row : rows) {
    TrainingArguments args = regression_arguments();
    args.overwrite_output_dir = true;
    args.num_train_epochs = row.epochs;
    args.max_steps = row.max_steps;
    args.gradient_accumulation_steps = row.accumulation;
    Trainer trainer(regression_parts(std::make_shared<Regression>(), args));
    EXPECT_EQ(trainer.train().global_step, row.expected) << row.epochs << " " << row.accumulation;
    EXPECT_EQ(trainer.state().max_steps, row.expected);
  }
}

TEST_F(HfBehaviour, N09_TrainLeavesTheArgumentsAlone) {
  TrainingArguments args = regression_arguments();
  args.eval_strategy = "steps";
  args.logging_steps = 0.1;
  Trainer trainer(regression_parts(std::make_shared<Regression>(), args));
  const Json before = trainer.args().to_json();
  trainer.train();
  EXPECT_EQ(trainer.args().to_json(), before);
}

// Here the default is not to hide anything: HF's test turns the filter off to see the NaN in the log.
TEST_F(HfBehaviour, N10_NonFiniteSteps) {
  TrainingArguments args = regression_arguments("stops");
  args.learning_rate = 1e30;
  args.max_steps = 5;
  args.logging_steps = 1;
  const auto m = std::make_shared<Regression>();
  testing::expect_error([&] { Trainer(regression_parts(m, args)).train(); }, ErrorCode::diverged,
                        "step 2 has loss inf and gradient norm");
  args.output_dir = (folder_ / "filtered").string();
  args.logging_nan_inf_filter = true;
  Trainer filtered(regression_parts(std::make_shared<Regression>(), args));
  EXPECT_EQ(filtered.train().global_step, 5);
  EXPECT_EQ(logged(filtered.state(), "loss").size(), 1u);  // of the one finite update; none is made up for the others
  EXPECT_EQ(logged(filtered.state(), "nonfinite_steps"), (std::vector<double>{1, 2, 3, 4}));
  EXPECT_TRUE(std::isfinite(filtered.state().total_loss));
  // A checkpoint behind a skipped update is one like any other.
  args.output_dir = (folder_ / "resumed").string();
  args.save_strategy = "steps";
  args.save_steps = 3;
  args.max_steps = 3;
  Trainer(regression_parts(std::make_shared<Regression>(), args)).train();
  args.max_steps = 5;
  Trainer resumed(regression_parts(std::make_shared<Regression>(), args));
  EXPECT_EQ(resumed.train("true").global_step, 5);
  EXPECT_EQ(resumed.state().nonfinite_steps, 4);
  args.save_strategy = "no";
  args.output_dir = (folder_ / "given_up").string();
  args.max_steps = 50;
  testing::expect_error([&] { Trainer(regression_parts(std::make_shared<Regression>(), args)).train(); },
                        ErrorCode::diverged, "step 11 has loss inf");
}

TEST_F(HfBehaviour, N31_LabelSmoothing) {
  const auto loss = [&](double smoothing, const data::Dataset& rows, const std::string& problem_type = "") {
    TrainingArguments args = arguments("smooth");
    args.label_smoothing_factor = smoothing;
    const Bert m = model();
    m->config.problem_type = problem_type;
    Trainer trainer({.model = m, .args = args, .eval_dataset = rows});
    return trainer.evaluate().at("eval_loss");
  };
  const auto with_labels = [&](std::vector<std::int64_t> labels) {
    return dataset(4).remove_columns({"label"}).map([&](const data::Batch&) {
      return data::Columns{{"labels", data::Column(labels)}};
    });
  };
  const double zero = loss(0, with_labels({0, 0, 0, 0})), one = loss(0, with_labels({1, 1, 1, 1}));
  // (1 - e) * -log p[0] + e * the mean of -log p over both classes
  EXPECT_NEAR(loss(0.3, with_labels({0, 0, 0, 0})), 0.7 * zero + 0.3 * (zero + one) / 2, 1e-6);
  const double first = loss(0, with_labels({0, 0, -100, -100}));
  const double other = loss(0, with_labels({1, 1, -100, -100}));
  EXPECT_NEAR(loss(0.3, with_labels({0, 0, -100, -100})), 0.7 * first + 0.3 * (first + other) / 2, 1e-6);
}

TEST_F(HfBehaviour, N32_GroupByLengthReadsTheLongestFirstAndEachRowOnce) {
  data::Dataset dataset = points();
  data::Column::Integers lengths;
  for (std::int64_t i = 0; i < dataset.size(); ++i) lengths.push_back(i * 37 % dataset.size());
  dataset = dataset.map([&](const data::Batch&) { return data::Columns{{"length", lengths}}; });
  TrainingArguments args = regression_arguments();
  args.group_by_length = true;
  args.num_train_epochs = 1;
  Trainer::Parts parts = regression_parts(std::make_shared<Regression>(), args);
  parts.train_dataset = dataset;
  std::vector<std::int64_t> read;
  parts.compute_loss = [&](nn::Module& module, const LossInputs& inputs) {
    read.insert(read.end(), inputs.rows.begin(), inputs.rows.end());
    return regression_loss(module, inputs);
  };
  Trainer(std::move(parts)).train();
  ASSERT_EQ(read.size(), lengths.size());
  EXPECT_EQ(lengths[static_cast<std::size_t>(read.front())], dataset.size() - 1);
  std::sort(read.begin(), read.end());
  for (std::size_t i = 0; i < read.size(); ++i) EXPECT_EQ(read[i], static_cast<std::int64_t>(i));
}

TEST_F(HfBehaviour, N33_WhatDecays) {
  std::vector<std::string> kept;
  for (const optim::ParameterGroup& group : optim::decay_groups(model()->named_parameters(), 0.1))
    for (const Parameter& parameter : group.parameters) {
      const bool excluded = parameter.name.ends_with("bias") || parameter.name.find("LayerNorm") != std::string::npos;
      EXPECT_EQ(group.weight_decay, excluded ? 0 : 0.1) << parameter.name;
      if (!excluded) kept.push_back(parameter.name);
    }
  for (const char* name : {"bert.embeddings.word_embeddings.weight", "bert.embeddings.position_embeddings.weight",
                           "bert.embeddings.token_type_embeddings.weight", "classifier.weight"})
    EXPECT_NE(std::find(kept.begin(), kept.end(), name), kept.end()) << name;
}

TEST_F(HfBehaviour, N34_LoggedRatesRiseAndFall) {
  for (const char* type : {"linear", "cosine"}) {
    TrainingArguments args = regression_arguments(type);
    args.lr_scheduler_type = type;
    args.warmup_steps = 8;
    args.logging_steps = 1;
    Trainer trainer(regression_parts(std::make_shared<Regression>(), args));
    trainer.train();
    const std::vector<double> rates = logged(trainer.state(), "learning_rate");
    ASSERT_EQ(rates.size(), 24u);
    EXPECT_EQ(rates[0], 0);
    for (std::size_t i = 1; i < 24; ++i) EXPECT_EQ(rates[i] > rates[i - 1], i <= 8) << type << i;
    EXPECT_EQ(rates[8], 0.1);
    EXPECT_LT(rates[23], 0.01);
  }
}

TEST_F(HfBehaviour, PlateauFollowsTheEvaluatedMetric) {
  TrainingArguments args = regression_arguments();
  args.lr_scheduler_type = "reduce_lr_on_plateau";
  args.lr_scheduler_kwargs = Json::object({{"patience", 0}, {"factor", 0.5}, {"threshold", 1e9}});
  args.eval_strategy = "epoch";
  args.logging_strategy = "epoch";
  Trainer trainer(regression_parts(std::make_shared<Regression>(), args));
  trainer.train();  // no loss improves by so much
  EXPECT_EQ(logged(trainer.state(), "learning_rate"), (std::vector<double>{0.1, 0.05, 0.025}));
}

}  // namespace
}  // namespace sinter::train
