#include "train/training_arguments.h"

#include <cmath>

#include "core/error.h"

namespace sinter::train {
namespace {

template <class T>
void require(bool holds, const char* field, const T& value, const char* rule) {
  if (!holds) fail(ErrorCode::usage, field, " is ", value, ", it must ", rule);
}

void require_strategy(const char* field, const std::string& value) {
  require(value == "no" || value == "steps" || value == "epoch", field, "\"" + value + "\"", "be no, steps or epoch");
}

}  // namespace

void TrainingArguments::validate() const {
  require(!output_dir.empty(), "output_dir", "\"\"", "name a folder");
  const auto require_size = [](const char* field, std::int64_t value) {
    require(value >= 1 && value <= 1'000'000, field, value, "lie between 1 and 1000000");
  };
  require_size("per_device_train_batch_size", per_device_train_batch_size);
  require_size("per_device_eval_batch_size", per_device_eval_batch_size);
  require_size("gradient_accumulation_steps", gradient_accumulation_steps);
  require(num_train_epochs >= 0 && num_train_epochs <= 1e6, "num_train_epochs", num_train_epochs,
          "lie between 0 and 1000000");
  require(max_steps < std::int64_t{1} << 32, "max_steps", max_steps, "be smaller than 2^32");
  require(std::isfinite(learning_rate) && learning_rate >= 0, "learning_rate", learning_rate,
          "be finite and not negative");
  require(std::isfinite(weight_decay) && weight_decay >= 0, "weight_decay", weight_decay, "be finite and not negative");
  require(adam_beta1 >= 0 && adam_beta1 < 1, "adam_beta1", adam_beta1, "lie in [0, 1)");
  require(adam_beta2 >= 0 && adam_beta2 < 1, "adam_beta2", adam_beta2, "lie in [0, 1)");
  require(std::isfinite(adam_epsilon) && adam_epsilon > 0, "adam_epsilon", adam_epsilon, "be finite and positive");
  require(std::isfinite(max_grad_norm) && max_grad_norm >= 0, "max_grad_norm", max_grad_norm,
          "be finite and not negative");
  require(warmup_steps >= 0, "warmup_steps", warmup_steps, "not be negative");
  require(warmup_ratio >= 0 && warmup_ratio <= 1, "warmup_ratio", warmup_ratio, "lie in [0, 1]");
  require_strategy("logging_strategy", logging_strategy);
  require_strategy("eval_strategy", eval_strategy);
  require_strategy("save_strategy", save_strategy);
  require(logging_strategy != "steps" || logging_steps >= 1, "logging_steps", logging_steps, "be at least 1");
  require(eval_steps.value_or(1) >= 1, "eval_steps", eval_steps.value_or(1), "be at least 1");
  require(eval_strategy != "steps" || eval_steps.value_or(logging_steps) >= 1, "logging_steps", logging_steps,
          "be at least 1, as eval_steps is not given");
  require(save_steps >= 1, "save_steps", save_steps, "be at least 1");
  require(save_total_limit.value_or(1) >= 1, "save_total_limit", save_total_limit.value_or(1), "be at least 1");
}

Json TrainingArguments::to_json() const {
  Json json = Json::object({
      {"output_dir", output_dir},
      {"overwrite_output_dir", overwrite_output_dir},
      {"per_device_train_batch_size", per_device_train_batch_size},
      {"per_device_eval_batch_size", per_device_eval_batch_size},
      {"gradient_accumulation_steps", gradient_accumulation_steps},
      {"num_train_epochs", num_train_epochs},
      {"max_steps", max_steps},
      {"dataloader_drop_last", dataloader_drop_last},
      {"learning_rate", learning_rate},
      {"weight_decay", weight_decay},
      {"adam_beta1", adam_beta1},
      {"adam_beta2", adam_beta2},
      {"adam_epsilon", adam_epsilon},
      {"max_grad_norm", max_grad_norm},
      {"lr_scheduler_type", lr_scheduler_type},
      {"warmup_steps", warmup_steps},
      {"warmup_ratio", warmup_ratio},
      {"logging_strategy", logging_strategy},
      {"logging_steps", logging_steps},
      {"eval_strategy", eval_strategy},
      {"eval_steps", eval_steps ? Json(*eval_steps) : Json()},
      {"save_strategy", save_strategy},
      {"save_steps", save_steps},
      {"save_total_limit", save_total_limit ? Json(*save_total_limit) : Json()},
      {"seed", static_cast<std::int64_t>(seed)},
      {"data_seed", data_seed ? Json(static_cast<std::int64_t>(*data_seed)) : Json()},
      {"disable_tqdm", disable_tqdm},
  });
  return json;
}

}  // namespace sinter::train
