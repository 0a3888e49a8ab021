// Where a run stands: HF's trainer_state.json, and what sinter needs beyond it to resume bit for bit.
#pragma once

#include <cstdint>
#include <vector>

#include "core/io/json.h"

namespace sinter::train {

struct TrainerState {
  double epoch = 0;                   ///< epochs done, with the fraction of the current one
  std::int64_t global_step = 0;       ///< updates done
  std::int64_t max_steps = 0;
  std::int64_t num_train_epochs = 0;  ///< rounded up
  std::int64_t logging_steps = 500, eval_steps = 500, save_steps = 500;
  std::int64_t train_batch_size = 0;
  std::vector<Json> log_history;      ///< one object for each log, with "epoch" and "step"

  // Not in HF's file.
  double loss_since_log = 0;          ///< sum over updates of the mean loss of their samples
  std::int64_t updates_since_log = 0;
  double total_loss = 0;              ///< the same since the first step of the run
  double seconds = 0;                 ///< of training, earlier sessions included

  /// HF's schema: no key more, as HF's reader takes none, and none less.
  Json to_hf_json() const;
  /// Reads to_hf_json's fields and leaves the others.
  void read_hf_json(const Json& json);
};

}  // namespace sinter::train
