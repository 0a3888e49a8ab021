// What the arguments accept, refuse and fill in, by table.
#include "train/training_arguments.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstdint>
#include <functional>
#include <string>

#include "tests/core/expect_error.h"

namespace sinter::train {
namespace {

using Change = std::function<void(TrainingArguments&)>;

struct Row {
  const char* says;
  Change change;
};

// Every rule once: the message names the field, its value and the rule.
const Row kRefused[] = {
    {R"(output_dir is "", it must name a folder)", [](auto& a) { a.output_dir = ""; }},
    {"per_device_train_batch_size is 0, it must lie between 1 and 1000000",
     [](auto& a) { a.per_device_train_batch_size = 0; }},
    {"per_device_eval_batch_size is -1, it must", [](auto& a) { a.per_device_eval_batch_size = -1; }},
    {"gradient_accumulation_steps is 0, it must", [](auto& a) { a.gradient_accumulation_steps = 0; }},
    {"num_train_epochs is nan, it must", [](auto& a) { a.num_train_epochs = NAN; }},
    {"max_steps is 4294967296, it must be smaller than 2^32", [](auto& a) { a.max_steps = std::int64_t{1} << 32; }},
    {"seed is 18446744073709551615, it must be smaller than 2^63", [](auto& a) { a.seed = UINT64_MAX; }},
    {"data_seed is 9223372036854775808, it must", [](auto& a) { a.data_seed = std::uint64_t{1} << 63; }},
    {"learning_rate is inf, it must be finite and not negative", [](auto& a) { a.learning_rate = INFINITY; }},
    {"weight_decay is -1, it must", [](auto& a) { a.weight_decay = -1; }},
    {"adam_beta1 is 1, it must lie in [0, 1)", [](auto& a) { a.adam_beta1 = 1; }},
    {"adam_beta2 is -0.1, it must", [](auto& a) { a.adam_beta2 = -0.1; }},
    {"adam_epsilon is 0, it must be finite and positive", [](auto& a) { a.adam_epsilon = 0; }},
    {"max_grad_norm is nan, it must", [](auto& a) { a.max_grad_norm = NAN; }},
    {"label_smoothing_factor is 1, it must lie in [0, 1)", [](auto& a) { a.label_smoothing_factor = 1; }},
    {R"(optim is "lion", it must be adamw_torch, adamw_torch_fused or sgd)", [](auto& a) { a.optim = "lion"; }},
    {R"(optim_args is "momentum=0.9", it must be empty)", [](auto& a) { a.optim_args = "momentum=0.9"; }},
    {R"("momentum=fast" is not known)", [](auto& a) { a.optim = "sgd", a.optim_args = "momentum=fast"; }},
    {"warmup_steps is -1, it must not be negative", [](auto& a) { a.warmup_steps = -1; }},
    {"warmup_steps is 1.5, it must be an integer", [](auto& a) { a.warmup_steps = 1.5; }},
    {"warmup_ratio is 1.1, it must lie in [0, 1]", [](auto& a) { a.warmup_ratio = 1.1; }},
    {R"(lr_scheduler_type is "zigzag", it must be linear, cosine)", [](auto& a) { a.lr_scheduler_type = "zigzag"; }},
    {"the schedule linear has no setting power",
     [](auto& a) {
       a.lr_scheduler_kwargs = Json::object({{"power", 2}});
     }},
    {R"(logging_strategy is "often", it must be no, steps or epoch)", [](auto& a) { a.logging_strategy = "often"; }},
    {R"(eval_strategy is "best", it must be no, steps or epoch)", [](auto& a) { a.eval_strategy = "best"; }},
    {R"(save_strategy is "", it must be no, steps, epoch or best)", [](auto& a) { a.save_strategy = ""; }},
    {R"(evaluation_strategy is "x", it must be)", [](auto& a) { a.evaluation_strategy = "x"; }},
    {R"(evaluation_strategy is "steps", it must not contradict eval_strategy, its newer name, which is epoch)",
     [](auto& a) { a.eval_strategy = "epoch", a.evaluation_strategy = "steps"; }},
    {"logging_steps is 0, it must be at least 1", [](auto& a) { a.logging_steps = 0; }},
    {"logging_steps is 1.5, it must be an integer", [](auto& a) { a.logging_steps = 1.5; }},
    {"eval_steps is -0.5, it must be at least 1", [](auto& a) { a.eval_steps = -0.5; }},
    {"eval_steps is 10.5, it must be an integer", [](auto& a) { a.eval_steps = 10.5; }},
    {"save_steps is nan, it must be at least 1", [](auto& a) { a.save_steps = NAN; }},
    {"eval_delay is -1, it must", [](auto& a) { a.eval_delay = -1; }},
    {"save_strategy is best, it must not be best while eval_strategy is no", [](auto& a) { a.save_strategy = "best"; }},
    {"lr_scheduler_type is reduce_lr_on_plateau, it must not be that while eval_strategy is no",
     [](auto& a) { a.lr_scheduler_type = "reduce_lr_on_plateau"; }},
    {"load_best_model_at_end is true, it must not be set while eval_strategy is no",
     [](auto& a) { a.load_best_model_at_end = true; }},
    {"save_strategy is steps, it must be best or that of the evaluation, epoch",
     [](auto& a) { a.load_best_model_at_end = true, a.eval_strategy = "epoch"; }},
    {"save_steps is 500, it must be a multiple of eval_steps, 300.0",
     [](auto& a) { a.load_best_model_at_end = true, a.eval_strategy = "steps", a.eval_steps = 300; }},
    {"save_steps is 0.25, it must be a multiple of eval_steps, 0.1",
     [](auto& a) {
       a.load_best_model_at_end = true, a.eval_strategy = "steps", a.eval_steps = 0.1, a.save_steps = 0.25;
     }},
    {"save_steps is 500, it must be a count or a share as eval_steps is",
     [](auto& a) { a.load_best_model_at_end = true, a.eval_strategy = "steps", a.eval_steps = 0.1; }},
    {R"(train_sampling_strategy is "sorted", it must be random, sequential or group_by_length)",
     [](auto& a) { a.train_sampling_strategy = "sorted"; }},
    {"group_by_length is true, it must not contradict train_sampling_strategy",
     [](auto& a) { a.group_by_length = true, a.train_sampling_strategy = "sequential"; }},
    {R"(label_names is [""], it must name columns)", [](auto& a) { a.label_names = {""}; }},
    {"fp16 and bf16 are both set, at most one may be", [](auto& a) { a.fp16 = a.bf16 = true; }},
};

TEST(TrainingArguments, Refused) {
  for (const Row& row : kRefused) {
    TrainingArguments args;
    row.change(args);
    testing::expect_usage_error([&] { args.validate(); }, row.says);
  }
}

TEST(TrainingArguments, WhatTheBackendLacksIsRefused) {
  const Row rows[] = {
      {"fp16 is set, but the CPU trains in f32 only; leave fp16 out", [](auto& a) { a.fp16 = true; }},
      {"bf16 is set, but the CPU trains in f32 only; leave bf16 out", [](auto& a) { a.bf16 = true; }},
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
  const Json json = args.to_json();
  EXPECT_EQ(TrainingArguments::from_json(Json::parse(json.dump(), "args.json")).to_json(), json);
  EXPECT_EQ(json.items().size(), 58u);  // a new field belongs into the list of training_arguments_json.cpp
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
