// What the arguments accept, refuse and fill in, by table.
#include "train/training_arguments.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstdint>
#include <functional>
#include <string>

#include "core/runtime/runtime.h"
#include "tests/core/expect_error.h"
#include "tests/train/bad_settings.h"

namespace sinter::train {
namespace {

using Row = testing::ArgumentsChange;

TEST(TrainingArguments, Refused) {
  for (const Row& row : testing::kRefusedArguments) {
    TrainingArguments args;
    row.change(args);
    testing::expect_usage_error([&] { args.validate(); }, row.says);
  }
}

TEST(TrainingArguments, WhatTheBackendLacksIsRefused) {
  const Row rows[] = {
      {"fp16 is set, but the CPU computes in f32 only; leave fp16 out", [](auto& a) { a.fp16 = a.use_cpu = true; }},
      {"bf16 is set, but the CPU computes in f32 only; leave bf16 out", [](auto& a) { a.bf16 = a.use_cpu = true; }},
      {"fp16_full_eval is set, but the CPU", [](auto& a) { a.fp16_full_eval = a.use_cpu = true; }},
      {"bf16_full_eval is set, but the CPU", [](auto& a) { a.bf16_full_eval = a.use_cpu = true; }},
      {"tune_gemm is set, but the CPU's matrix products have nothing to tune; leave tune_gemm out",
       [](auto& a) { a.tune_gemm = a.use_cpu = true; }},
      {"gradient_checkpointing is set, but", [](auto& a) { a.gradient_checkpointing = true; }},
  };
  for (const Row& row : rows) {
    TrainingArguments args;
    row.change(args);
    testing::expect_error([&] { args.validate(); }, ErrorCode::unsupported, row.says);
  }
}

TEST(TrainingArguments, WithoutEffect) {
  const Row rows[] = {
      {"evaluation_strategy is the older name of eval_strategy", [](auto& a) { a.evaluation_strategy = "epoch"; }},
      {"eval_steps has no effect: eval_strategy is not steps", [](auto& a) { a.eval_steps = 10; }},
      {"eval_delay has no effect: eval_strategy is no", [](auto& a) { a.eval_delay = 1; }},
      {"there is no warm-up: the schedule constant has none; constant_with_warmup does",
       [](auto& a) { a.lr_scheduler_type = "constant", a.warmup_ratio = 0.1; }},
      {"warmup_ratio has no effect: warmup_steps is given", [](auto& a) { a.warmup_ratio = 0.1, a.warmup_steps = 3; }},
      {"num_train_epochs has no effect: max_steps is given", [](auto& a) { a.max_steps = 3, a.num_train_epochs = 1; }},
      {"save_total_limit has no effect: save_strategy is no",
       [](auto& a) { a.save_strategy = "no", a.save_total_limit = 1; }},
      {"greater_is_better has no effect: no metric_for_best_model is given",
       [](auto& a) { a.greater_is_better = true; }},
  };
  EXPECT_TRUE(TrainingArguments().warnings().empty());
  for (const Row& row : rows) {
    TrainingArguments args;
    row.change(args);
    args.validate();
    ASSERT_EQ(args.warnings().size(), 1u) << row.says;
    EXPECT_EQ(args.warnings()[0], row.says);
  }
}

TEST(TrainingArguments, ResolvedFillsInWhatFollows) {
  TrainingArguments args;
  args.evaluation_strategy = "epoch";
  args.save_strategy = "epoch";
  args.load_best_model_at_end = true;
  args.logging_steps = 7;
  const TrainingArguments found = args.resolved();
  EXPECT_EQ(found.eval_strategy, "epoch");
  EXPECT_TRUE(found.do_eval);
  EXPECT_EQ(found.eval_steps, 7);
  EXPECT_EQ(found.metric_for_best_model, "loss");
  EXPECT_EQ(found.greater_is_better, false);
  EXPECT_EQ(found.resolved().to_json(), found.to_json());
}

TEST(TrainingArguments, DeviceIsFilledIn) {
  const auto device = [](const std::string& name, bool use_cpu) {
    TrainingArguments args;
    args.device = name;
    args.use_cpu = use_cpu;
    return args.resolved().device;
  };
  EXPECT_EQ(device("", true), "cpu");
  EXPECT_EQ(device("cpu", true), "cpu");
  EXPECT_EQ(device("cuda", false), "cuda:0");   // whether it is there is the Trainer's question
  EXPECT_EQ(device("simt:1", false), "simt:1");
  EXPECT_EQ(device("", false), Runtime::instance().why_unusable(Device::cuda()).empty() ? "cuda:0" : "cpu");
  testing::expect_usage_error([&] { device("gpu", false); }, "device \"gpu\" is not known; use cpu, cuda");
  testing::expect_usage_error([&] { device("cuda:1", true); },
                              "use_cpu is true, it must not contradict device, which is cuda:1");
}

TEST(TrainingArguments, StepsBelowOneAreShares) {
  EXPECT_EQ(absolute_steps(0.1, 100), 10);
  EXPECT_EQ(absolute_steps(0.101, 100), 11);
  EXPECT_EQ(absolute_steps(1, 100), 1);
  EXPECT_EQ(absolute_steps(500, 100), 500);
  EXPECT_EQ(absolute_steps(0, 100), 0);
}

TEST(TrainingArguments, JsonKeepsEveryField) {
  TrainingArguments args;
  args.output_dir = "here";
  args.lr_scheduler_kwargs = Json::object({{"num_cycles", 2}});
  args.eval_steps = 0.25;
  args.save_total_limit = 3;
  args.metric_for_best_model = "f1";
  args.greater_is_better = false;
  args.label_names = {"a", "b"};
  args.data_seed = 9;
  args.max_steps = -7;
  args.resume_from_checkpoint = "true";
  args.device = "simt:1";
  const Json json = args.to_json();
  EXPECT_EQ(TrainingArguments::from_json(Json::parse(json.dump(), "args.json")).to_json(), json);
  EXPECT_EQ(json.items().size(), 66u);  // a new field belongs into the list of training_arguments_json.cpp
}

TEST(TrainingArguments, JsonIsLaidOverABase) {
  TrainingArguments base;
  base.learning_rate = 1;
  base.save_total_limit = 2;
  const TrainingArguments args =
      TrainingArguments::from_json(Json::parse(R"({"max_steps": 3, "save_total_limit": null})", "args.json"), base);
  EXPECT_EQ(args.learning_rate, 1);
  EXPECT_EQ(args.max_steps, 3);
  EXPECT_FALSE(args.save_total_limit);
}

TEST(TrainingArguments, JsonMistakesAreNamed) {
  const auto read = [](const char* text) { TrainingArguments::from_json(Json::parse(text, "args.json")); };
  testing::expect_usage_error([&] { read(R"({"learning_rat": 1})"); },
                              R"("learning_rat" is no training argument; the nearest one is learning_rate)");
  testing::expect_usage_error([&] { read(R"({"no_cuda": true})"); }, R"("no_cuda" is no training argument)");
  testing::expect_error([&] { read(R"({"learning_rate": "fast"})"); }, ErrorCode::bad_input,
                        R"(args.json: learning_rate is "fast", it must be a number)");
  testing::expect_error([&] { read(R"({"seed": -1})"); }, ErrorCode::bad_input, "seed is -1, it must be");
  testing::expect_error([&] { read(R"({"lr_scheduler_kwargs": 3})"); }, ErrorCode::bad_input,
                        "lr_scheduler_kwargs is 3, it must be an object");
}

}  // namespace
}  // namespace sinter::train
