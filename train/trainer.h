// HF's Trainer.
#pragma once

#include <filesystem>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "core/io/folder_lock.h"
#include "core/process_group.h"
#include "data/collator.h"
#include "data/dataset.h"
#include "data/tokenizer.h"
#include "nn/module.h"
#include "optim/optimizer.h"
#include "train/loss.h"
#include "train/metrics.h"
#include "train/step_runner.h"
#include "train/train_plan.h"
#include "train/trainer_callback.h"
#include "train/trainer_state.h"
#include "train/training_arguments.h"

namespace sinter::train {

/// What train() returns, as HF's TrainOutput.
struct TrainOutput {
  std::int64_t global_step = 0;
  double training_loss = 0;    ///< mean over updates of the mean loss of their samples, earlier sessions included
  /// train_runtime (s), train_samples_per_second, train_steps_per_second, train_loss, total_flos, epoch
  Metrics metrics;
  int stopped_by_signal = 0;   ///< SIGINT, SIGTERM, SIGHUP or SIGUSR1, after a checkpoint was saved; 0: ran to the end
};

/// What predict() returns: the outputs of a model for a whole data set in its order.
struct PredictionOutput {
  std::vector<float> predictions;        ///< the first output, [N, num_labels]
  std::vector<std::int64_t> label_ids;   ///< empty when the data set has none
  Metrics metrics;                       ///< with the given prefix
  Shape shape;                           ///< of predictions
  std::vector<Predictions> more_outputs; ///< of a model that has several
  data::Columns labels;                  ///< every label column
};

/// One's own optimizer and learning rate, instead of those that the arguments describe.
struct Optimizers {
  std::shared_ptr<optim::Optimizer> optimizer;   ///< over the model's parameters; null: args.optim's
  /// Factor of the optimizer's learning rate (that of its construction) after this many updates, on which alone it
  /// depends: CUDA devices are told up to 65,536 of them beforehand. An optim::Schedule is one. Empty:
  /// args.lr_scheduler_type's.
  std::function<double(std::int64_t completed)> lr_lambda;
};

/// Trains and evaluates. One update takes gradient_accumulation_steps micro-batches (the last group of an epoch may be
/// shorter); its loss is the sum over the samples of the whole group divided by their number, so that k micro-batches
/// of b samples equal one batch of k * b. Masks of dropout and the order of the data are functions of (seed, step) and
/// (data_seed, epoch): a run that was resumed ends with the same bits as one that never stopped.
///
/// On a CUDA device an update is decided there (optim/queued_update.h), and a step is captured as a graph for each size
/// of batch and replayed (step_runner.h): the host waits when it logs, evaluates or saves, and learns then of losses,
/// norms and skipped updates; an update that ends the run is known at the next of these, and changes no weight. A
/// compute_loss, an optimizer of one's own, a callback that looks inside steps or a hook keep the host beside every
/// step, which a line says.
///
/// The model is moved to args.device. Batches come from the CPU, where the model's ops take indices and labels from; a
/// compute_loss that makes tensors of its own moves them where they meet the model's. Every device draws the same
/// masks.
///
/// Differs from HF's where that is a trap: an evaluation never drops samples; a new best model is saved at once; the
/// best and the last checkpoint are never deleted; a step whose loss is not finite is never hidden; what a resumed run
/// reports counts the whole run; a metric_for_best_model that compute_metrics does not give is found before step 1.
class Trainer {
 public:
  using PreprocessLogits = std::function<Tensors(Tensors logits, const LossInputs& inputs)>;
  using ModelInit = std::function<std::shared_ptr<nn::Module>(std::uint64_t seed)>;

  struct Parts {
    std::shared_ptr<nn::Module> model;            ///< a BertForSequenceClassification, or any with compute_loss
    TrainingArguments args;
    std::optional<data::Dataset> train_dataset;   ///< with input_ids and labels: data/collator.h names the columns
    std::optional<data::Dataset> eval_dataset;
    std::optional<data::BertTokenizer> tokenizer; ///< saved beside the model
    data::DataCollator data_collator;             ///< packed batches where not given
    ComputeMetrics compute_metrics;               ///< none: an evaluation gives the loss
    ComputeLoss compute_loss;                     ///< classification_loss where not given
    ModelInit model_init;                         ///< instead of model: a fresh one for every train(), from args.seed
    std::vector<std::shared_ptr<TrainerCallback>> callbacks;   ///< between DefaultFlowCallback and the progress
    /// The ranks that train this model together, each with a Trainer of its own and the same data and arguments. Not
    /// given: this process alone.
    std::shared_ptr<ProcessGroup> process_group;
    Optimizers optimizers;
    PreprocessLogits preprocess_logits_for_metrics;   ///< what of a batch's outputs is kept
  };

  /// Checks the arguments against each other and the data; writes nothing. Error(usage).
  explicit Trainer(Parts parts);
  ~Trainer();

  /// Trains to the end. `resume_from_checkpoint`: a checkpoint folder; "true" for the newest valid one in output_dir;
  /// "auto" for that one, or the beginning where there is none, as a launcher needs that starts a job again;
  /// "false" is none.
  TrainOutput train(const std::optional<std::string>& resume_from_checkpoint = std::nullopt);

  /// eval_loss (per-sample mean), the metrics, eval_runtime, eval_samples_per_second, eval_steps_per_second and epoch;
  /// logged. Of eval_dataset, or of another data set.
  Metrics evaluate(const std::string& metric_key_prefix = "eval");
  Metrics evaluate(const data::Dataset& dataset, const std::string& metric_key_prefix = "eval");
  /// Outputs and metrics of any data set; nothing is logged.
  PredictionOutput predict(const data::Dataset& dataset, const std::string& metric_key_prefix = "test");

  /// These write on rank 0 alone, and the others do not wait for it. The model and its tokenizer, to output_dir or to
  /// `folder`.
  void save_model(const std::optional<std::filesystem::path>& folder = std::nullopt);
  /// Writes output_dir/trainer_state.json.
  void save_state() const;
  /// Writes <split>_results.json and merges into all_results.json, in output_dir.
  void save_metrics(const std::string& split, const Metrics& metrics) const;

  /// True for the one rank that writes files and prints.
  bool is_world_process_zero() const { return ranks().rank() == 0; }
  nn::Module& model() const { return *parts_.model; }
  /// Resolved. A change counts from the next train() or evaluate() on.
  TrainingArguments& args() { return parts_.args; }
  const TrainerState& state() const { return state_; }
  TrainerControl& control() { return control_; }
  CallbackHandler& callbacks() { return callbacks_; }

 private:
  struct Sums;  // of what a rank computed for one update
  struct Run;   // one train(): plan, optimizer, schedule, order of the data (train/training_run.h)

  // trainer.cpp
  ProcessGroup& ranks() const { return *parts_.process_group; }
  void check_parts();
  /// Moves the model to the device of the arguments. Error(not_found) where that cannot be used.
  void place_model();
  data::Dataset prepared(const char* what, const data::Dataset& dataset) const;
  void fire(CallbackHandler::Event event, const Metrics* metrics = nullptr, const Json* logs = nullptr);
  void log(Json entry);
  /// The batch of these rows, without arrays when there is nothing to collate.
  data::CollatedBatch collate(const data::Dataset& dataset, std::span<const std::int64_t> rows,
                              std::int64_t first_sample) const;
  ModelOutput compute_loss(const LossInputs& inputs);

  // training_loop.cpp
  std::optional<std::filesystem::path> find_checkpoint(const std::optional<std::string>& resume_from_checkpoint) const;
  std::unique_ptr<FolderLock> take_output_dir(bool resuming);
  TrainOutput train_with(std::int64_t batch_size, const std::optional<std::filesystem::path>& checkpoint);
  std::shared_ptr<optim::Optimizer> make_optimizer() const;
  void start(Run& run, const std::optional<std::filesystem::path>& checkpoint);
  /// Behind load_checkpoint: where the run goes on. True when a callback had stopped it.
  bool resume(const Run& run);
  void run_epoch(Run& run);
  void end_epoch(Run& run);

  /// Lets the device decide and count every update, so that the host does not wait: where it is a CUDA device and
  /// nobody looks inside a step. Says why not.
  void queue_steps(Run& run);
  std::vector<double> next_learning_rates(const Run& run) const;
  void tell_device(Run& run);
  std::string why_one_by_one(const Run& run) const;

  // trainer_ranks.cpp
  std::optional<std::filesystem::path> agree_on_checkpoint(
      const std::optional<std::string>& resume_from_checkpoint) const;
  void check_same_step() const;
  void check_same_facts(Run& run) const;
  void check_same_dataset(const data::Dataset& dataset) const;
  void join_ranks(Run& run);
  /// What a rank said, the first of those that said something; "" where none did.
  std::string first_of_ranks(const std::string& said) const;
  std::string why_not_in_steps() const;
  /// The sizes that the ranks' batches have in common; `rows` are those of the update's last micro-batches.
  std::optional<StepBucket> bucket_of_ranks(const Run& run, std::span<const std::int64_t> rows) const;
  /// Every rank's gradients and sums become those of all ranks together; and a signal that came to one of them.
  void add_up(Run& run, Sums& sums);
  /// Every rank calls it at the same point of a run.
  void agree_on_signal();
  /// Number of the signal that ends this run at the same step on every rank, or 0.
  int stop_signal() const;

  // deferred_embedding.cpp
  /// Where nobody would see the difference, the optimizer updates rows of the word table late.
  void defer_embedding(const Run& run) const;
  /// Before an event whose callbacks may look at weights and optimizer state.
  void flush_before(CallbackHandler::Event event) const;

  // low_copies.cpp
  /// With fp16 and bf16: weights of nn::Linear are rounded where the optimizer writes them, not in every forward.
  void keep_low_copies(const Run& run) const;

  TrainOutput finish(Run& run, int stopped_by_signal);
  void load_best_model();

  // training_step.cpp
  double learning_rate(const Run& run) const;
  void run_update(Run& run);
  /// Forward and backward of one micro-batch; its loss.
  double run_micro_step(Run& run, const data::CollatedBatch& batch, std::span<const std::int64_t> rows,
                        const MicroStep& place);
  /// Clips and takes the optimizer's step, unless loss or gradients are not finite.
  kernels::UpdateRecord apply_update(Run& run, double loss);
  void count_tokens(const Run& run, double tokens);
  /// Takes note of all updates that the device has done meanwhile, and of a signal to any rank; waits for both.
  void settle(Run& run);
  /// Takes note of update number `step`. Error(diverged) where it ends the run.
  void account(Run& run, const kernels::UpdateRecord& record, std::int64_t step);
  void account_skipped(Run& run, const kernels::UpdateRecord& record, std::int64_t step);
  void update_scale(Run& run, const kernels::UpdateRecord& record, std::int64_t step);
  std::string where_nonfinite(Run& run, std::int64_t step) const;
  void count_update(Run& run, std::int64_t end);
  void count_seconds(const Run& run);
  enum class After { step, epoch };
  void log_evaluate_save(Run& run, After after);
  void log_training();
  void save(Run& run);
  /// Deletes the checkpoints of the run that this one replaces, once something of this one is saved.
  void remove_replaced();

  // evaluation_loop.cpp
  /// Nothing when a signal came in before its end: in train() an evaluation does not keep it waiting.
  std::optional<Metrics> evaluate_unless_stopped();
  Metrics evaluate_prepared(const data::Dataset& dataset, const std::string& prefix);
  PredictionOutput run_prediction(const data::Dataset& dataset, const std::string& prefix, bool loss_only,
                                  bool with_events = true);
  ModelOutput evaluate_batch(const data::Dataset& dataset, std::span<const std::int64_t> rows, bool wants_outputs);
  /// Calls compute_metrics, and moves the outputs into `output`.
  void add_metrics(PredictionOutput& output, std::vector<Predictions>& outputs, const std::string& prefix) const;
  void check_metric_name();

  Parts parts_;
  TrainerState state_;
  TrainerControl control_;
  CallbackHandler callbacks_;
  double own_lr_ = 0;                       // of an optimizer that was given, before a schedule changed it
  optim::Optimizer* optimizer_ = nullptr;   // of the current train()
  bool owns_output_dir_ = false;            // an earlier train() of this object wrote there
  bool stops_evaluations_ = false;          // a signal breaks the evaluation off that is under way
  int agreed_signal_ = 0;                   // that came to one of several ranks
  std::vector<std::filesystem::path> replaced_;   // checkpoints of the run that this one replaces
};

}  // namespace sinter::train
