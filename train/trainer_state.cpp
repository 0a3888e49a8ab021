#include "train/trainer_state.h"

namespace sinter::train {
namespace {

template <class T>
Json or_null(const std::optional<T>& value) {
  return value ? Json(*value) : Json();
}

template <class T>
std::optional<T> optional(const Json& json, const char* key) {
  const Json* found = json.find(key);
  if (found == nullptr || found->is_null()) return std::nullopt;
  return json.get<T>(key);
}

constexpr std::int64_t kMostSteps = (std::int64_t{1} << 32) - 1;   // a step is one word of the random counter

}  // namespace

Json TrainerState::to_hf_json() const {
  Json history = Json::array();
  for (const Json& entry : log_history) history.push_back(entry);
  return Json::object({
      {"best_global_step", or_null(best_global_step)},
      {"best_metric", or_null(best_metric)},
      {"best_model_checkpoint", or_null(best_model_checkpoint)},
      {"epoch", epoch},
      {"eval_steps", eval_steps},
      {"global_step", global_step},
      {"is_hyper_param_search", false},
      {"is_local_process_zero", true},
      {"is_world_process_zero", true},
      {"log_history", history},
      {"logging_steps", logging_steps},
      {"max_steps", max_steps},
      {"num_input_tokens_seen", num_input_tokens_seen},
      {"num_train_epochs", num_train_epochs},
      {"save_steps", save_steps},
      {"stateful_callbacks", stateful_callbacks},
      {"total_flos", total_flos},
      {"train_batch_size", train_batch_size},
      {"trial_name", Json()},
      {"trial_params", Json()},
  });
}

void TrainerState::read_hf_json(const Json& json) {
  epoch = json.get<double>("epoch", 0);
  global_step = json.get<std::int64_t>("global_step", 0, kMostSteps);
  max_steps = json.get<std::int64_t>("max_steps", 0);
  num_train_epochs = json.get<std::int64_t>("num_train_epochs", 0);
  logging_steps = json.get<std::int64_t>("logging_steps", 0);
  eval_steps = json.get<std::int64_t>("eval_steps", 0);
  save_steps = json.get<std::int64_t>("save_steps", 0);
  train_batch_size = json.get<std::int64_t>("train_batch_size", 1);
  num_input_tokens_seen = json.get<std::int64_t>("num_input_tokens_seen", 0);
  total_flos = json.get<double>("total_flos", 0);
  log_history = json.at("log_history").elements();
  for (const Json& entry : log_history)
    if (!entry.is_object()) json.refuse("log_history", "hold objects");
  best_metric = optional<double>(json, "best_metric");
  best_global_step = optional<std::int64_t>(json, "best_global_step");
  best_model_checkpoint = optional<std::string>(json, "best_model_checkpoint");
  stateful_callbacks = json.at("stateful_callbacks");
}

Json TrainerState::to_sinter_json() const {
  return Json::object({
      {"epoch_index", epoch_index},
      {"samples_in_epoch", samples_in_epoch},
      {"samples_per_update", samples_per_update},
      {"epoch_end_is_due", epoch_end_is_due},
      {"evaluation_is_due", evaluation_is_due},
      {"save_is_due", save_is_due},
      {"scheduler_steps", scheduler_steps},
      {"loss_since_log", loss_since_log},
      {"updates_since_log", updates_since_log},
      {"nonfinite_since_log", nonfinite_since_log},
      {"total_loss", total_loss},
      {"nonfinite_steps", nonfinite_steps},
      {"nonfinite_in_a_row", nonfinite_in_a_row},
      {"last_learning_rate", last_learning_rate},
      {"last_grad_norm", last_grad_norm},
      {"seconds", seconds},
      {"gemm_tuning_ends", gemm_tuning_ends},
  });
}

void TrainerState::read_sinter_json(const Json& json) {
  epoch_index = json.get<std::int64_t>("epoch_index", 0, kMostSteps);
  samples_in_epoch = json.get<std::int64_t>("samples_in_epoch", 0);   // load_checkpoint knows the data set
  samples_per_update = json.get<std::int64_t>("samples_per_update", 1);
  epoch_end_is_due = json.get<bool>("epoch_end_is_due");
  evaluation_is_due = json.get<std::string>("evaluation_is_due");
  save_is_due = json.get<bool>("save_is_due");
  scheduler_steps = json.get<std::int64_t>("scheduler_steps", 0, kMostSteps);
  loss_since_log = json.get<double>("loss_since_log");
  updates_since_log = json.get<std::int64_t>("updates_since_log", 0);
  nonfinite_since_log = json.get<std::int64_t>("nonfinite_since_log", 0);
  total_loss = json.get<double>("total_loss");
  nonfinite_steps = json.get<std::int64_t>("nonfinite_steps", 0);
  nonfinite_in_a_row = json.get<std::int64_t>("nonfinite_in_a_row", 0);
  last_learning_rate = json.get<double>("last_learning_rate");
  last_grad_norm = json.get_or<double>("last_grad_norm", 0);   // null for one that is not finite
  seconds = json.get<double>("seconds");
  gemm_tuning_ends = json.get_or<std::int64_t>("gemm_tuning_ends", 0, 0);   // older checkpoints tuned nothing
}

}  // namespace sinter::train
