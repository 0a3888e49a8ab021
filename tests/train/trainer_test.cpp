// The promises of the Trainer: bit-exact resume, results that depend on neither threads nor the cut into micro-batches,
// files that are whole, and errors that name what is wrong.
#include <gtest/gtest.h>

#include <cmath>
#include <csignal>
#include <cstring>
#include <filesystem>
#include <fstream>

#include "core/error.h"
#include "core/io/files.h"
#include "core/io/json.h"
#include "core/io/staged_folder.h"
#include "core/runtime/runtime.h"
#include "data/reviews.h"
#include "data/tokenizer.h"
#include "nn/pretrained.h"
#include "train/inputs.h"
#include "tests/train/trainer_fixture.h"
#include "train/checkpoint.h"
#include "train/trainer.h"

namespace sinter::train {
namespace {

namespace fs = std::filesystem;

class TrainerTest : public TrainerFixture {};

TEST_F(TrainerTest, ResumeEqualsNeverStopped) {
  const auto whole = model();
  const TrainOutput uninterrupted = Trainer(parts(whole, arguments("whole"))).train();
  EXPECT_EQ(uninterrupted.global_step, 12);

  const auto stopped = model();
  Trainer first(parts(stopped, arguments("resumed")));
  first.callbacks().add(std::make_shared<AtStepEnd>([](CallbackContext& run) {
    if (run.state.global_step == 8) std::raise(SIGTERM);  // in the middle of epoch 2
  }));
  const TrainOutput half = first.train();
  EXPECT_EQ(half.stopped_by_signal, SIGTERM);
  EXPECT_EQ(half.global_step, 8);

  const auto resumed = model();
  nn::init_weights(*resumed, 0.3, 99);  // whatever it holds, the checkpoint decides
  const TrainOutput rest = Trainer(parts(resumed, arguments("resumed"))).train("true");
  EXPECT_EQ(rest.global_step, 12);
  expect_same_bits(weights(*resumed), weights(*whole));
  EXPECT_EQ(rest.training_loss, uninterrupted.training_loss);
  EXPECT_EQ(bytes(folder_ / "resumed/checkpoint-12/model.safetensors"),
            bytes(folder_ / "whole/checkpoint-12/model.safetensors"));
  EXPECT_EQ(bytes(folder_ / "resumed/checkpoint-12/optimizer.safetensors"),
            bytes(folder_ / "whole/checkpoint-12/optimizer.safetensors"));
}

TEST_F(TrainerTest, ResumeFromEveryStepEqualsNeverStopped) {
  TrainingArguments args = arguments("whole");
  args.save_steps = 1;
  args.logging_steps = 5;
  const auto whole = model();
  Trainer(parts(whole, args)).train();
  for (int step = 1; step < 12; step += 3) {
    const auto resumed = model();
    TrainingArguments again = args;
    again.output_dir = (folder_ / ("from" + std::to_string(step))).string();
    Trainer run(parts(resumed, again));
    run.train((folder_ / "whole" / ("checkpoint-" + std::to_string(step))).string());
    expect_same_bits(weights(*resumed), weights(*whole));
    Json a = Json::array(), b = Json::array();
    for (const Json& entry : run.state().log_history)
      if (entry.contains("loss")) a.push_back(entry);
    const Json saved = Json::load(folder_ / "whole/checkpoint-12/trainer_state.json");
    for (const Json& entry : saved.at("log_history").elements())
      if (entry.contains("loss")) b.push_back(entry);
    EXPECT_TRUE(a == b) << "resumed at step " << step << ": " << a.dump() << b.dump();
  }
}

TEST_F(TrainerTest, ThreadsNeverChangeTheWeights) {
  std::vector<float> one;
  for (const int threads : {1, 2, 4}) {
    Runtime::instance().set_num_threads(threads);
    const auto m = model();
    Trainer(parts(m, arguments("threads" + std::to_string(threads)))).train();
    if (threads == 1) {
      one = weights(*m);
    } else {
      expect_same_bits(weights(*m), one);
    }
  }
}

TEST_F(TrainerTest, MicroBatchesEqualOneBatch) {
  TrainingArguments small = arguments("small"), large = arguments("large");
  small.per_device_train_batch_size = 4;
  small.gradient_accumulation_steps = 4;
  large.per_device_train_batch_size = 16;
  large.gradient_accumulation_steps = 1;
  small.logging_steps = large.logging_steps = 1;
  small.warmup_steps = large.warmup_steps = 0;
  const auto a = model(), b = model();  // with dropout: a sample's masks do not depend on its micro-batch
  Trainer in_parts(parts(a, small)), at_once(parts(b, large));
  in_parts.train();
  at_once.train();
  // The first gradient differs by the rounding of sums over at most 16 samples; later ones by what AdamW makes of that.
  const auto norm = [](const Trainer& run, std::size_t step) {
    return run.state().log_history[step].get<double>("grad_norm");
  };
  EXPECT_NEAR(norm(in_parts, 0), norm(at_once, 0), 1e-6 * norm(at_once, 0));
  for (std::size_t step = 0; step < 12; ++step)  // the ragged tail of both epochs included
    EXPECT_NEAR(norm(in_parts, step), norm(at_once, step), 1e-3 * norm(at_once, step)) << step;
}

TEST_F(TrainerTest, RowsDoNotDependOnTheirBatch) {
  const auto m = model();
  m->eval();
  const NoGradGuard guard;
  const data::DataCollatorWithFlattening collate;
  std::vector<std::int64_t> all(40);
  for (std::size_t i = 0; i < all.size(); ++i) all[i] = static_cast<std::int64_t>(i);
  const std::vector<float> together = (*m)(to_inputs(collate(dataset(), all))).logits.to_vector<float>();
  for (std::size_t i = 0; i < all.size(); ++i) {
    const std::int64_t alone[] = {static_cast<std::int64_t>(i)};
    const std::vector<float> row = (*m)(to_inputs(collate(dataset(), alone))).logits.to_vector<float>();
    EXPECT_EQ(std::memcmp(row.data(), together.data() + 2 * i, 2 * sizeof(float)), 0) << "sample " << i;
  }
}

TEST_F(TrainerTest, WritesWhatHfReads) {
  const auto m = model();
  Trainer run(parts(m, arguments("files")));
  const TrainOutput output = run.train();
  run.save_model();
  run.save_state();
  run.save_metrics("train", output.metrics);
  run.save_metrics("eval", run.evaluate());
  const fs::path root = folder_ / "files";
  for (const char* file : {"config.json", "model.safetensors", "vocab.txt", "tokenizer_config.json",
                           "trainer_state.json", "train_results.json", "eval_results.json", "all_results.json"})
    EXPECT_TRUE(fs::exists(root / file)) << file;
  for (const char* file : {"model.safetensors", "optimizer.safetensors", "trainer_state.json", "training_args.json",
                           "sinter_state.json", "config.json", "vocab.txt", "manifest.json"})
    EXPECT_TRUE(fs::exists(root / "checkpoint-12" / file)) << file;
  EXPECT_TRUE(verify_manifest(root / "checkpoint-12").empty());
  const Json state = Json::load(root / "checkpoint-12/trainer_state.json");
  EXPECT_EQ(state.get<std::int64_t>("global_step"), 12);
  EXPECT_EQ(state.get<std::int64_t>("max_steps"), 12);
  const auto loaded = nn::AutoModelForSequenceClassification::from_pretrained(root);
  expect_same_bits(weights(*loaded), weights(*m));
}

TEST_F(TrainerTest, RotationKeepsTheNewest) {
  TrainingArguments args = arguments("rotation");
  args.save_steps = 2;
  args.save_total_limit = 2;
  const auto m = model();
  Trainer(parts(m, args)).train();
  const std::vector<CheckpointFolder> left = list_checkpoints(folder_ / "rotation");
  ASSERT_EQ(left.size(), 2u);
  EXPECT_EQ(left[0].step, 10);
  EXPECT_EQ(left[1].step, 12);
}

TEST_F(TrainerTest, ABrokenNewestCheckpointIsPassedOver) {
  const auto m = model();
  Trainer(parts(m, arguments("broken"))).train();
  const fs::path newest = folder_ / "broken/checkpoint-12";
  fs::resize_file(newest / "optimizer.safetensors", fs::file_size(newest / "optimizer.safetensors") - 1);
  EXPECT_EQ(newest_valid_checkpoint(folder_ / "broken"), folder_ / "broken/checkpoint-8");
  const auto again = model();
  try {
    Trainer(parts(again, arguments("broken"))).train(newest.string());
    FAIL() << "a broken checkpoint was accepted";
  } catch (const Error& error) {
    EXPECT_NE(std::string(error.what()).find("Can't find a valid checkpoint at"), std::string::npos) << error.what();
    EXPECT_EQ(error.code(), ErrorCode::bad_input);
  }
}

TEST_F(TrainerTest, StepCounts) {
  const auto steps = [&](auto change) {
    TrainingArguments args = arguments("counts");
    args.overwrite_output_dir = true;
    args.save_strategy = "no";
    change(args);
    const auto m = model();
    return Trainer(parts(m, args)).train().global_step;
  };
  EXPECT_EQ(steps([](TrainingArguments& a) { a.max_steps = 5; }), 5);
  EXPECT_EQ(steps([](TrainingArguments& a) { a.num_train_epochs = 1.5; }), 9);
  EXPECT_EQ(steps([](TrainingArguments& a) { a.gradient_accumulation_steps = 100; }), 2);
  EXPECT_EQ(steps([](TrainingArguments& a) {
              a.dataloader_drop_last = true;
              a.gradient_accumulation_steps = 1;
              a.num_train_epochs = 1;
            }),
            11);
  EXPECT_EQ(steps([](TrainingArguments& a) {
              a.gradient_accumulation_steps = 1;
              a.num_train_epochs = 1;
            }),
            12);
  EXPECT_EQ(steps([](TrainingArguments& a) {
              a.gradient_accumulation_steps = 5;
              a.num_train_epochs = 1;
            }),
            3);
}

TEST_F(TrainerTest, ErrorsNameWhatIsWrong) {
  const auto message = [&](auto&& fn) -> std::string {
    try {
      fn();
    } catch (const Error& error) {
      return error.what();
    }
    return "no error";
  };
  const auto m = model();
  const auto expect = [&](const std::string& part, auto change) {
    TrainingArguments args = arguments("errors");
    change(args);
    const std::string text = message([&] { Trainer(parts(m, args)).train(); });
    EXPECT_NE(text.find(part), std::string::npos) << text;
  };
  expect("learning_rate is nan", [](TrainingArguments& a) { a.learning_rate = NAN; });
  expect("eval_strategy is \"often\"", [](TrainingArguments& a) { a.eval_strategy = "often"; });
  expect("per_device_train_batch_size is 0", [](TrainingArguments& a) { a.per_device_train_batch_size = 0; });
  expect("gradient_accumulation_steps is 9223372036854775807",
         [](TrainingArguments& a) { a.gradient_accumulation_steps = INT64_MAX; });
  expect("num_train_epochs is 1e+20", [](TrainingArguments& a) { a.num_train_epochs = 1e20; });
  expect("save_steps is 0", [](TrainingArguments& a) {
    a.save_strategy = "epoch";
    a.save_steps = 0;
  });
  expect("lr_scheduler_type", [](TrainingArguments& a) { a.lr_scheduler_type = "zigzag"; });
  EXPECT_FALSE(fs::exists(folder_ / "errors"));
  fs::create_directories(folder_ / "errors");
  std::ofstream(folder_ / "errors/mine.txt") << "keep";
  expect("is not empty", [](TrainingArguments&) {});
  EXPECT_TRUE(fs::exists(folder_ / "errors/mine.txt"));

  Trainer(parts(m, arguments("other"))).train();
  TrainingArguments different = arguments("other");
  different.seed = 7;
  const std::string text = message([&] { Trainer(parts(m, different)).train("true"); });
  EXPECT_NE(text.find("seed = 42, this one has 7"), std::string::npos) << text;
}

TEST_F(TrainerTest, ANonFiniteStepEndsTheRunBeforeTheWeightsAreTouched) {
  const auto m = model();
  {
    const NoGradGuard guard;
    m->bert.pooler.dense.weight.select(0, 3).fill_(NAN);
  }
  const std::vector<float> before = weights(*m);
  try {
    Trainer(parts(m, arguments("nan"))).train();
    FAIL() << "a NaN loss was accepted";
  } catch (const Error& error) {
    EXPECT_NE(std::string(error.what()).find("step 1 has loss nan"), std::string::npos) << error.what();
  }
  expect_same_bits(weights(*m), before);
}

TEST_F(TrainerTest, EvaluationIsExactForARaggedLastBatch) {
  const auto m = model();
  TrainingArguments args = arguments("eval");
  args.per_device_eval_batch_size = 7;
  const Metrics ragged = Trainer(parts(m, args)).evaluate();
  args.per_device_eval_batch_size = 90;
  const Metrics whole = Trainer(parts(m, args)).evaluate();
  EXPECT_NEAR(ragged.at("eval_loss"), whole.at("eval_loss"), 1e-6);
  EXPECT_EQ(ragged.at("eval_accuracy"), whole.at("eval_accuracy"));
}

}  // namespace
}  // namespace sinter::train
