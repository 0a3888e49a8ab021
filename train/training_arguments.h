// What a training run is told. Names, defaults and meanings are those of HF's TrainingArguments.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "core/io/json.h"

namespace sinter::train {

struct TrainingArguments {
  std::string output_dir = "trainer_output";
  bool overwrite_output_dir = false;  ///< accept an earlier run's folder: its checkpoints go, its files are replaced

  std::int64_t per_device_train_batch_size = 8;
  std::int64_t per_device_eval_batch_size = 8;
  std::int64_t gradient_accumulation_steps = 1;   ///< micro-batches of one update; their samples weigh the same
  double num_train_epochs = 3;            ///< may be fractional
  std::int64_t max_steps = -1;            ///< updates; wins over num_train_epochs when positive
  bool dataloader_drop_last = false;      ///< of the training batches; evaluation never drops a sample

  double learning_rate = 5e-5;
  double weight_decay = 0;
  double adam_beta1 = 0.9, adam_beta2 = 0.999, adam_epsilon = 1e-8;
  double max_grad_norm = 1;               ///< 0: no clipping, and no grad_norm in the log
  std::string lr_scheduler_type = "linear";
  std::int64_t warmup_steps = 0;
  double warmup_ratio = 0;                ///< of all updates, rounded up; warmup_steps wins when positive

  std::string logging_strategy = "steps"; ///< no, steps or epoch
  std::int64_t logging_steps = 500;
  std::string eval_strategy = "no";       ///< no, steps or epoch
  std::optional<std::int64_t> eval_steps; ///< logging_steps where not given
  std::string save_strategy = "steps";    ///< no, steps or epoch
  std::int64_t save_steps = 500;
  std::optional<std::int64_t> save_total_limit;   ///< the oldest checkpoints of this run beyond it are deleted

  std::uint64_t seed = 42;                ///< of dropout and of new parameters
  std::optional<std::uint64_t> data_seed; ///< of the order of the data; seed where not given
  bool disable_tqdm = false;              ///< no progress bar; there is none anyway when standard error is no terminal

  /// Error(usage) that names the field, its value and the rule it breaks.
  void validate() const;
  Json to_json() const;
};

}  // namespace sinter::train
