// Arguments as JSON: one list of the fields serves reading and writing.
#include <algorithm>
#include <limits>

#include "core/error.h"
#include "core/io/shown.h"
#include "data/utf8.h"
#include "train/nearest_name.h"
#include "train/training_arguments.h"

namespace sinter::train {
namespace {

/// Calls visit(name, member) for every field, in the order of the struct.
template <class Arguments, class Visit>
void for_each_field(Arguments& a, Visit&& visit) {
  visit("output_dir", a.output_dir);
  visit("overwrite_output_dir", a.overwrite_output_dir);
  visit("do_train", a.do_train);
  visit("do_eval", a.do_eval);
  visit("do_predict", a.do_predict);
  visit("learning_rate", a.learning_rate);
  visit("per_device_train_batch_size", a.per_device_train_batch_size);
  visit("per_device_eval_batch_size", a.per_device_eval_batch_size);
  visit("gradient_accumulation_steps", a.gradient_accumulation_steps);
  visit("num_train_epochs", a.num_train_epochs);
  visit("max_steps", a.max_steps);
  visit("auto_find_batch_size", a.auto_find_batch_size);
  visit("weight_decay", a.weight_decay);
  visit("adam_beta1", a.adam_beta1);
  visit("adam_beta2", a.adam_beta2);
  visit("adam_epsilon", a.adam_epsilon);
  visit("max_grad_norm", a.max_grad_norm);
  visit("optim", a.optim);
  visit("optim_args", a.optim_args);
  visit("deferred_embedding_update", a.deferred_embedding_update);
  visit("label_smoothing_factor", a.label_smoothing_factor);
  visit("lr_scheduler_type", a.lr_scheduler_type);
  visit("lr_scheduler_kwargs", a.lr_scheduler_kwargs);
  visit("warmup_steps", a.warmup_steps);
  visit("warmup_ratio", a.warmup_ratio);
  visit("eval_strategy", a.eval_strategy);
  visit("evaluation_strategy", a.evaluation_strategy);
  visit("eval_steps", a.eval_steps);
  visit("eval_delay", a.eval_delay);
  visit("eval_on_start", a.eval_on_start);
  visit("prediction_loss_only", a.prediction_loss_only);
  visit("logging_strategy", a.logging_strategy);
  visit("logging_steps", a.logging_steps);
  visit("logging_first_step", a.logging_first_step);
  visit("logging_nan_inf_filter", a.logging_nan_inf_filter);
  visit("disable_tqdm", a.disable_tqdm);
  visit("save_strategy", a.save_strategy);
  visit("save_steps", a.save_steps);
  visit("save_total_limit", a.save_total_limit);
  visit("save_only_model", a.save_only_model);
  visit("load_best_model_at_end", a.load_best_model_at_end);
  visit("metric_for_best_model", a.metric_for_best_model);
  visit("greater_is_better", a.greater_is_better);
  visit("resume_from_checkpoint", a.resume_from_checkpoint);
  visit("ignore_data_skip", a.ignore_data_skip);
  visit("restore_callback_states_from_checkpoint", a.restore_callback_states_from_checkpoint);
  visit("dataloader_drop_last", a.dataloader_drop_last);
  visit("remove_unused_columns", a.remove_unused_columns);
  visit("label_names", a.label_names);
  visit("train_sampling_strategy", a.train_sampling_strategy);
  visit("group_by_length", a.group_by_length);
  visit("length_column_name", a.length_column_name);
  visit("seed", a.seed);
  visit("data_seed", a.data_seed);
  visit("full_determinism", a.full_determinism);
  visit("device", a.device);
  visit("use_cpu", a.use_cpu);
  visit("fp16", a.fp16);
  visit("bf16", a.bf16);
  visit("fp16_full_eval", a.fp16_full_eval);
  visit("bf16_full_eval", a.bf16_full_eval);
  visit("cuda_graphs", a.cuda_graphs);
  visit("tune_gemm", a.tune_gemm);
  visit("ddp_bucket_cap_mb", a.ddp_bucket_cap_mb);
  visit("zero_stage", a.zero_stage);
  visit("gradient_checkpointing", a.gradient_checkpointing);
}

template <class T>
Json written(const T& value) {
  return Json(value);
}
Json written(const std::uint64_t& value) { return Json(static_cast<std::int64_t>(value)); }  // validate(): below 2^63
Json written(const std::vector<std::string>& values) {
  Json list = Json::array();
  for (const std::string& value : values) list.push_back(value);
  return list;
}
template <class T>
Json written(const std::optional<T>& value) {
  return value ? written(*value) : Json();
}

template <class T>
void read(const Json& json, const char* name, T& value) {
  value = json.get<T>(name);
}
void read(const Json& json, const char* name, std::int64_t& value) {
  value = json.get<std::int64_t>(name, std::numeric_limits<std::int64_t>::min());
}
void read(const Json& json, const char* name, std::uint64_t& value) {
  value = static_cast<std::uint64_t>(json.get<std::int64_t>(name, 0));
}
void read(const Json& json, const char* name, Json& value) {
  if (!json.at(name).is_object()) json.refuse(name, "be an object");
  value = json.at(name);
}
void read(const Json& json, const char* name, std::vector<std::string>& value) {
  value.clear();
  for (const Json& element : json.elements(name)) value.push_back(element.as<std::string>());
}
template <class T>
void read(const Json& json, const char* name, std::optional<T>& value) {
  if (json.at(name).is_null()) {
    value.reset();
  } else {
    read(json, name, value.emplace());
  }
}

void refuse_unknown(const Json& json) {
  std::vector<std::string> known;
  const TrainingArguments defaults;
  for_each_field(defaults, [&](const char* name, const auto&) { known.emplace_back(name); });
  for (const auto& [key, value] : json.items()) {
    if (std::find(known.begin(), known.end(), key) != known.end()) continue;
    fail(ErrorCode::usage, "\"", key.substr(0, 100), "\" is no training argument", nearest_name_hint(key, known));
  }
}

}  // namespace

void TrainingArguments::check_texts() const {
  const auto check = [](const char* name, const std::string& text) {
    if (data::first_invalid_utf8(text) == text.size() && text.find('\0') == std::string::npos) return;
    fail(ErrorCode::usage, name, " is \"", shown(text), "\", it must be UTF-8 text without NUL");
  };
  for_each_field(*this, [&](const char* name, const auto& value) {
    using T = std::decay_t<decltype(value)>;
    if constexpr (std::is_same_v<T, std::string>) check(name, value);
    if constexpr (std::is_same_v<T, std::optional<std::string>>) check(name, value.value_or(""));
    if constexpr (std::is_same_v<T, std::vector<std::string>>)
      for (const std::string& each : value) check(name, each);
  });
}

Json TrainingArguments::to_json() const {
  Json json = Json::object();
  for_each_field(*this, [&](const char* name, const auto& value) { json.set(name, written(value)); });
  return json;
}

TrainingArguments TrainingArguments::from_json(const Json& json) { return from_json(json, {}); }

TrainingArguments TrainingArguments::from_json(const Json& json, TrainingArguments base) {
  refuse_unknown(json);
  for_each_field(base, [&](const char* name, auto& value) {
    if (json.contains(name)) read(json, name, value);
  });
  return base;
}

}  // namespace sinter::train
