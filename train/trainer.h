// HF's Trainer for BERT classifiers.
#pragma once

#include <filesystem>
#include <functional>
#include <memory>
#include <optional>
#include <string>

#include "core/io/folder_lock.h"
#include "data/collator.h"
#include "data/dataset.h"
#include "data/tokenizer.h"
#include "nn/bert.h"
#include "optim/adamw.h"
#include "optim/schedule.h"
#include "train/checkpoint.h"
#include "train/metrics.h"
#include "train/progress.h"
#include "train/trainer_state.h"
#include "train/training_arguments.h"

namespace sinter::train {

/// What train() returns, as HF's TrainOutput.
struct TrainOutput {
  std::int64_t global_step = 0;
  double training_loss = 0;    ///< mean over updates of the mean loss of their samples
  Metrics metrics;             ///< train_runtime (s), train_samples_per_second, train_steps_per_second, train_loss
  int stopped_by_signal = 0;   ///< SIGINT or SIGTERM, after a checkpoint was saved; 0: ran to the end
};

/// The logits of a data set in its order.
struct PredictionOutput {
  std::vector<float> predictions;        ///< [N, num_labels]
  std::vector<std::int64_t> label_ids;   ///< empty when the data set has none
  Metrics metrics;                       ///< with the given prefix
};

/// Trains and evaluates. One update takes gradient_accumulation_steps micro-batches (the last group of an epoch may be
/// shorter); its loss is the sum over the samples of the whole group divided by their number, so that k micro-batches of b
/// samples equal one batch of k * b. Masks of dropout and the order of the data are functions of (seed, step) and
/// (data_seed, epoch): a run that was resumed ends with the same bits as one that never stopped.
class Trainer {
 public:
  struct Parts {
    nn::BertForSequenceClassification& model;
    TrainingArguments args;
    std::optional<data::Dataset> train_dataset;   ///< with input_ids and labels: data/collator.h names the columns
    std::optional<data::Dataset> eval_dataset;
    const data::BertTokenizer* tokenizer = nullptr;            ///< saved beside the model
    data::DataCollator data_collator;                          ///< packed batches where not given
    ComputeMetrics compute_metrics = accuracy;
  };

  /// Checks the arguments against each other and the data; writes nothing. Error(usage).
  explicit Trainer(Parts parts);

  /// Trains to the end. `resume_from_checkpoint`: a checkpoint folder; "true" for the newest valid one in output_dir.
  TrainOutput train(const std::optional<std::string>& resume_from_checkpoint = std::nullopt);

  /// eval_loss (per-sample mean), the metrics, eval_runtime, eval_samples_per_second, eval_steps_per_second, epoch; logged.
  Metrics evaluate(const std::string& metric_key_prefix = "eval");
  /// Logits and metrics of any data set; nothing is logged.
  PredictionOutput predict(const data::Dataset& dataset, const std::string& metric_key_prefix = "test");

  /// Writes the model and its tokenizer to output_dir, or to `folder`.
  void save_model(const std::optional<std::filesystem::path>& folder = std::nullopt) const;
  /// Writes output_dir/trainer_state.json.
  void save_state() const;
  /// Writes <split>_results.json and merges into all_results.json, in output_dir.
  void save_metrics(const std::string& split, const Metrics& metrics) const;

  const TrainerState& state() const { return state_; }
  /// Called after each update with the state; for tests and tools.
  std::function<void(const TrainerState&)> on_step_end;

 private:
  struct Plan;     // counts that follow from arguments and data
  struct Update;   // what one update found
  Plan make_plan() const;
  std::unique_ptr<FolderLock> take_output_dir(bool resuming) const;
  optim::AdamW make_optimizer() const;
  RunParts run_parts(optim::AdamW& optimizer);
  Update run_update(optim::AdamW& optimizer, const Plan& plan, std::int64_t update_in_epoch,
                    std::span<const std::int64_t> order);
  void after_update(const Update& update, const Plan& plan, bool epoch_ends);
  /// True when a strategy ("no", "steps" with `every`, "epoch") asks for its action after this update.
  bool due(const std::string& strategy, std::int64_t every, bool epoch_ends) const;
  void log_update(const Update& update);
  void log(Json entry);
  void save(optim::AdamW& optimizer);
  PredictionOutput run_prediction(const data::Dataset& dataset, const std::string& prefix);
  TrainOutput finish(const Plan& plan, int signal);

  Parts parts_;
  TrainerState state_;
  std::unique_ptr<Progress> progress_;
};

}  // namespace sinter::train
