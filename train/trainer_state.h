// Where a run stands: HF's trainer_state.json, and what sinter needs beyond it to resume bit for bit.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "core/io/json.h"

namespace sinter::train {

struct TrainerState {
  double epoch = 0;                   ///< epochs done, with the share of the current one's batches
  std::int64_t global_step = 0;       ///< updates done
  std::int64_t max_steps = 0;
  std::int64_t num_train_epochs = 0;  ///< rounded up
  std::int64_t logging_steps = 500, eval_steps = 500, save_steps = 500;   ///< shares resolved
  std::int64_t train_batch_size = 0;
  std::int64_t num_input_tokens_seen = 0;   ///< of the training batches, without pads
  double total_flos = 0;              ///< 6 operations for each such token and each parameter outside the embeddings
  std::vector<Json> log_history;      ///< one object for each log, with "epoch" and "step"
  std::optional<double> best_metric;  ///< of metric_for_best_model
  std::optional<std::int64_t> best_global_step;
  std::optional<std::string> best_model_checkpoint;   ///< a folder
  Json stateful_callbacks = Json::object();           ///< as CallbackHandler::states gives it

  // Not in HF's file.
  std::int64_t epoch_index = 0;       ///< epochs begun and done, without the current one
  std::int64_t samples_in_epoch = 0;  ///< of the current epoch's order, done
  std::int64_t samples_per_update = 0;
  bool epoch_end_is_due = false;      ///< the epoch's last update is done, what follows an epoch is not
  std::string evaluation_is_due;      ///< a signal broke off the one behind the last "step" or "epoch"; "": none
  bool save_is_due = false;           ///< and a checkpoint was asked for behind it
  std::int64_t scheduler_steps = 0;   ///< updates that were not skipped
  double loss_since_log = 0;          ///< sum over updates of the mean loss of their samples
  std::int64_t updates_since_log = 0; ///< skipped ones too
  std::int64_t nonfinite_since_log = 0;
  double total_loss = 0;              ///< the same since the first step of the run
  std::int64_t nonfinite_steps = 0;   ///< updates that were skipped for a loss or gradient that is inf or NaN
  std::int64_t nonfinite_in_a_row = 0;
  double last_learning_rate = 0;      ///< that the last update used
  double last_grad_norm = 0;          ///< its gradients' norm before clipping
  double seconds = 0;                 ///< of training, earlier sessions included
  std::int64_t gemm_tuning_ends = 0;  ///< the first update that tunes no products (train/tuned_gemm.h)

  /// HF's schema: no key more, as HF's reader takes none, and none less.
  Json to_hf_json() const;
  /// Reads to_hf_json's fields and leaves the others.
  void read_hf_json(const Json& json);

  /// The members that are not in HF's file.
  Json to_sinter_json() const;
  void read_sinter_json(const Json& json);
};

}  // namespace sinter::train
