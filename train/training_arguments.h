// What a training run is told. Names, defaults and meanings are those of HF's TrainingArguments; where they differ, the
// member says so.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "core/io/json.h"

namespace sinter::train {

/// Counts of steps are updates, not micro-batches. logging_steps, eval_steps, save_steps and warmup_steps below 1 are
/// shares of all updates, rounded up. The Trainer works on resolved() and never writes to its arguments.
struct TrainingArguments {
  std::string output_dir = "trainer_output";   ///< a leading ~/ is the home folder; made when the first file is written
  bool overwrite_output_dir = false;   ///< accept an earlier run's folder: its checkpoints go, its files are replaced
  bool do_train = false, do_eval = false, do_predict = false;   ///< for programs; the Trainer does what it is told

  double learning_rate = 5e-5;   ///< the peak
  std::int64_t per_device_train_batch_size = 8;
  std::int64_t per_device_eval_batch_size = 8;
  std::int64_t gradient_accumulation_steps = 1;   ///< micro-batches of one update; their samples weigh the same
  double num_train_epochs = 3;                    ///< may be fractional
  std::int64_t max_steps = -1;                    ///< updates; wins over num_train_epochs when positive
  bool auto_find_batch_size = false;   ///< out of memory: start again with nine tenths of the training batch size

  double weight_decay = 0;       ///< not of biases and LayerNorms
  double adam_beta1 = 0.9, adam_beta2 = 0.999, adam_epsilon = 1e-8;
  double max_grad_norm = 1;      ///< 0: no clipping, and no grad_norm in the log
  std::string optim = "adamw_torch";   ///< adamw_torch, adamw_torch_fused (the same here) or sgd
  std::string optim_args;              ///< "momentum=0.9,nesterov=true"; sgd's
  /// Not HF's. With AdamW, rows of the word table that an update does not touch are updated when they are needed
  /// (optim::AdamW::defer_rows): the same bits in less time. False: every row in every update.
  bool deferred_embedding_update = true;
  double label_smoothing_factor = 0;   ///< of the training and of the evaluation loss

  std::string lr_scheduler_type = "linear";           ///< a name of optim/schedule.h
  Json lr_scheduler_kwargs = Json::object();          ///< of that schedule: {"num_cycles": 2}
  double warmup_steps = 0;
  double warmup_ratio = 0;       ///< the older form of a warmup_steps below 1; warmup_steps wins when positive

  std::string eval_strategy = "no";                   ///< no, steps or epoch
  std::optional<std::string> evaluation_strategy;     ///< the older name of eval_strategy
  std::optional<double> eval_steps;                   ///< logging_steps where not given
  double eval_delay = 0;         ///< no evaluation before this update (steps) or this many epochs (epoch)
  bool eval_on_start = false;    ///< one evaluation before the first update
  bool prediction_loss_only = false;   ///< evaluate and predict give the loss and no predictions

  std::string logging_strategy = "steps";             ///< no, steps or epoch
  double logging_steps = 500;
  bool logging_first_step = false;
  /// HF's default is true. False: an update whose loss or gradient is not finite ends the run, Error(diverged), before
  /// the weights are touched. True: such updates are skipped, stay out of the logged loss and are counted in the log as
  /// nonfinite_steps; ten in a row end the run. With fp16 updates whose gradient is not finite are always skipped, and
  /// the run ends where the loss scale would fall below its floor.
  bool logging_nan_inf_filter = false;
  bool disable_tqdm = false;     ///< no progress bar; there is none anyway when standard error is no terminal

  std::string save_strategy = "steps";                ///< no, steps, epoch, or best: at each new best metric
  double save_steps = 500;
  /// Checkpoints that are kept; 0 or less: all. The best (when one is asked for) and the last are kept even beyond it.
  std::optional<std::int64_t> save_total_limit;
  bool save_only_model = false;  ///< checkpoints without optimizer; no run resumes from them
  bool load_best_model_at_end = false;                ///< saves at each new best, and ends with the best weights
  std::optional<std::string> metric_for_best_model;   ///< with or without "eval_"; loss where a best one is asked for
  std::optional<bool> greater_is_better;              ///< where not given: unless the metric's name ends in "loss"

  std::optional<std::string> resume_from_checkpoint;  ///< for programs, which hand it to Trainer::train
  bool ignore_data_skip = false; ///< a resumed run begins its epoch's data anew
  /// HF's default is false. False: callbacks, and the wish of one to stop the run, start afresh in a resumed run.
  bool restore_callback_states_from_checkpoint = true;

  bool dataloader_drop_last = false;    ///< of the training batches; evaluation never drops a sample
  bool remove_unused_columns = true;    ///< the collator sees only the columns that the model reads
  std::vector<std::string> label_names; ///< label columns; label, labels or label_ids where not given
  std::string train_sampling_strategy = "random";     ///< random, sequential or group_by_length
  bool group_by_length = false;         ///< the older form of train_sampling_strategy group_by_length
  std::string length_column_name = "length";          ///< lengths for group_by_length; of input_ids where absent

  std::uint64_t seed = 42;                 ///< of dropout and of new parameters
  std::optional<std::uint64_t> data_seed;  ///< of the order of the data; seed where not given
  bool full_determinism = false;           ///< holds always here, but where tune_gemm chooses anew

  /// Not HF's, which takes the first device that it finds: cpu, cuda, cuda:N, or simt, the CUDA kernels emulated on the
  /// CPU. "": cuda where it can be used, else cpu.
  std::string device;
  bool use_cpu = false;                    ///< HF's way to say device cpu
  /// Mixed precision, on CUDA devices: matrices in 16 bits, parameters and the optimizer in f32; fp16 scales the loss
  /// (optim/loss_scaler.h).
  bool fp16 = false, bf16 = false;
  /// evaluate() and predict() outside train() compute in 16 bits as with fp16 or bf16, however the model was trained.
  bool fp16_full_eval = false, bf16_full_eval = false;
  /// Not HF's: on CUDA devices the steps of each size of batch are captured as a graph and replayed
  /// (train/step_runner.h). False: every kernel is launched; the same bits.
  bool cuda_graphs = true;
  /// Not HF's. On CUDA devices with cuBLASLt: the products of the first updates are timed with each algorithm that the
  /// library proposes, and take the fastest (train/tuned_gemm.h); checkpoints and a cache keep the choices. Without it
  /// products take the heuristic's first algorithm, and runs repeat bit for bit without any file.
  bool tune_gemm = false;
  /// With several ranks: their gradients are added up in ranges of at most so many MiB, each as soon as backward has
  /// completed it (train/ranks/gradient_reducer.h). 0: all of them at once, after backward; the same bits.
  std::int64_t ddp_bucket_cap_mb = 25;
  /// Not HF's, but DeepSpeed's. 1: each rank keeps the optimizer's states of its part of the parameters
  /// (optim::Optimizer::shard_states); the same bits, and no effect on one rank.
  std::int64_t zero_stage = 0;
  bool gradient_checkpointing = false;     ///< refused: BertLayer does not recompute yet

  /// Error(usage) that names the field, its value and the rule it breaks; Error(unsupported) for what sinter does not.
  void validate() const;
  /// What is allowed and has no effect beside another argument, one sentence each.
  std::vector<std::string> warnings() const;
  /// Validated, and with every default that depends on another argument filled in: eval_strategy (from its older name),
  /// eval_steps, do_eval, metric_for_best_model, greater_is_better, train_sampling_strategy, output_dir's ~, device.
  TrainingArguments resolved() const;

  Json to_json() const;
  /// The members of `json` over the defaults, or over `base`. Error(bad_input) for a value of another kind,
  /// Error(usage) for an unknown name, with the nearest known one. Nothing is validated.
  static TrainingArguments from_json(const Json& json);
  static TrainingArguments from_json(const Json& json, TrainingArguments base);

 private:
  void check_texts() const;   ///< every text is UTF-8 without NUL, as the files that repeat it need
};

/// What an update is asked to take; the last of an epoch may take fewer.
std::int64_t samples_per_update(const TrainingArguments& args);
/// A count of steps, or a share of `max_steps` rounded up when it is below 1.
std::int64_t absolute_steps(double steps, std::int64_t max_steps);

}  // namespace sinter::train
