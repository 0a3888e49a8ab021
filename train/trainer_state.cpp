#include "train/trainer_state.h"

namespace sinter::train {

Json TrainerState::to_hf_json() const {
  Json history = Json::array();
  for (const Json& entry : log_history) history.push_back(entry);
  return Json::object({
      {"best_metric", Json()},
      {"best_model_checkpoint", Json()},
      {"epoch", epoch},
      {"eval_steps", eval_steps},
      {"global_step", global_step},
      {"is_hyper_param_search", false},
      {"is_local_process_zero", true},
      {"is_world_process_zero", true},
      {"log_history", history},
      {"logging_steps", logging_steps},
      {"max_steps", max_steps},
      {"num_train_epochs", num_train_epochs},
      {"save_steps", save_steps},
      {"total_flos", 0.0},
      {"train_batch_size", train_batch_size},
      {"trial_name", Json()},
      {"trial_params", Json()},
  });
}

void TrainerState::read_hf_json(const Json& json) {
  epoch = json.get<double>("epoch", 0);
  global_step = json.get<std::int64_t>("global_step", 0);
  max_steps = json.get<std::int64_t>("max_steps", 0);
  num_train_epochs = json.get<std::int64_t>("num_train_epochs", 0);
  train_batch_size = json.get<std::int64_t>("train_batch_size", 1);
  log_history = json.at("log_history").elements();
}

}  // namespace sinter::train
