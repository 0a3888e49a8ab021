// Training arguments, command lines and files of --config that are refused, and what the refusal says.
#pragma once

#include <cmath>
#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "train/training_arguments.h"

namespace sinter::testing {

struct ArgumentsChange {
  const char* says;
  std::function<void(train::TrainingArguments&)> change;
};

/// Every rule once: the message names the field, its value and the rule.
inline const ArgumentsChange kRefusedArguments[] = {
    {"ddp_bucket_cap_mb is -1, it must lie between 0 and 1000000", [](auto& a) { a.ddp_bucket_cap_mb = -1; }},
    {"zero_stage is 2, it must be 0 or 1", [](auto& a) { a.zero_stage = 2; }},
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
    {"learning_rate is 1e+39, it must fit an f32", [](auto& a) { a.learning_rate = 1e39; }},
    {"warmup_steps is 4.29497e+09, it must be smaller than 2^32", [](auto& a) { a.warmup_steps = 4294967296.0; }},
    {"logging_steps is 4.29497e+09, it must be smaller than 2^32", [](auto& a) { a.logging_steps = 4294967296.0; }},
    {"length_column_name is", [](auto& a) { a.length_column_name = std::string("a\0b", 3); }},
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
    {"fp16_full_eval and bf16_full_eval are both set, at most one may be",
     [](auto& a) { a.fp16_full_eval = a.bf16_full_eval = true; }},
};

struct BadCommandLine {
  std::vector<std::string> words;
  std::string says;
};

inline std::vector<BadCommandLine> bad_command_lines() {
  return {
      {{"--learning_rat", "1"}, "--learning_rat is no option; the nearest one is --learning_rate"},
      {{"--num_train_epoch=1"}, "--num_train_epoch is no option; the nearest one is --num_train_epochs"},
      {{"SST-2"}, "\"SST-2\" belongs to no option (quote a value with spaces)"},
      {{"--batch_size", "4"}, "--batch_size is no option; the nearest one is --per_device_train_batch_size"},
      {{"--lr", "1"}, "--lr is no option; sst2 --help lists all"},
      {{"--learning_rate", "fast"}, "--learning_rate is \"fast\", it must be a number"},
      {{"--learning_rate"}, "--learning_rate needs a value after it"},
      {{"--do_train", "false"}, "--do_train is false, and nothing else is asked for"},
      {{"--sentence", ""}, "--sentence is \"\", it must be a text that is not empty"},
      {{"--seed", "-1"}, "--seed"},
      {{"--seed", "1", "--seed", "2"}, "--seed is given more than once"},
      {{"--overwrite_output_dir=2"}, "--overwrite_output_dir is \"2\", it must be true or false"},
      {{"--greater_is_better", "5"}, "--greater_is_better is \"5\", it must be true or false"},
      {{"--config="}, "--config is empty"},
      {{"--optim", "\x1b[31mred\n"}, "optim is"},
      {{"--output_dir", "o\xffut"}, "output_dir is \"o\xffut\", it must be UTF-8 text without NUL"},
      {{"--model_name_or_path", "m", "--sentence", "a", "--data_dir", "d"}, "--data_dir has no part in classifying"},
      {{"--model_name_or_path", "m", "--sentence", "a", "--learning_rate", "1"}, "--learning_rate has no part"},
      {{"--seed", ""}, "--seed is \"\", it must be an integer of at least 0"},
      {{"--max_steps", "9223372036854775808"}, "--max_steps"},
      {{"--learning_rate", "1e999"}, "--learning_rate"},
      {{"--max_seq_length", "2"}, "max_seq_length is 2, it must be at least 3"},
      {{"--max_train_samples", "0"}, "max_train_samples is 0, it must be at least 1"},
      {{"--cpu_isa", "sse"}, "cpu_isa is \"sse\", it must be avx2 or avx512"},
      {{"--device", "gpu"}, "device \"gpu\" is not known; use cpu, cuda, cuda:N or simt"},
      {{"--device", "cuda", "--no_cuda"}, "use_cpu is true, it must not contradict device, which is cuda:0"},
      {{"--num_threads", "257"}, "num_threads is 257, it must lie between 1 and 256"},
      {{"--data_dir", "SST-2"}, "--data_dir needs --model_name_or_path"},
      {{"--do_predict"}, "--do_predict labels the test split of --data_dir"},
      {{"--sentence", "a"}, "to classify sentences give a fine-tuned model as --model_name_or_path"},
      {{"--model_name_or_path", "m", "--sentence", "a", "--do_eval"}, "classify with a model that is there"},
      {{"--do_eval", "--resume_from_checkpoint", "true"}, "resume_from_checkpoint goes on training"},
      {{"--lr_scheduler_kwargs", "{"}, "--lr_scheduler_kwargs"},
  };
}

struct BadConfigFile {
  const char* json;
  const char* says;
};

inline constexpr BadConfigFile kBadConfigFiles[] = {
      {R"({"learning_rat": 1e-4})", "\"learning_rat\" is no training argument; the nearest one is learning_rate"},
      {R"({"max_seq_length": "64"})", "max_seq_length is \"64\", it must be an integer"},
      {R"({"learning_rate": true})", "learning_rate"},
    {R"({"label_names": "label"})", "label_names is \"label\", it must be an array"},
    {R"({"output_dir": "nul\u0000b"})", "output_dir is \"nul?b\", it must be UTF-8 text without NUL"},
    {R"({"sentence": "a"})", "sentence is \"a\", it must be an array"},
      {R"([1])", "object"},
      {R"({"seed": 1, "seed": 2})", "seed"},
};

}  // namespace sinter::testing
