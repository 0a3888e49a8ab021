// checkpoint-<step>: a model that HF's tools open, and what resuming needs.
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <vector>

#include "data/dataset.h"
#include "data/tokenizer.h"
#include "nn/module.h"
#include "optim/optimizer.h"
#include "optim/loss_scaler.h"
#include "optim/plateau.h"
#include "train/trainer_state.h"
#include "train/training_arguments.h"
#include "train/tuned_gemm.h"

namespace sinter::train {

/// Everything of a run that a checkpoint keeps. Random numbers have no state (core/random.h), and the order of the data
/// is a function of (data_seed, epoch): TrainerState says where both stand.
struct RunParts {
  nn::Module& model;
  optim::Optimizer& optimizer;
  TrainerState& state;
  const TrainingArguments& args;             ///< resolved
  const data::BertTokenizer* tokenizer;      ///< saved beside the model; null: none
  const data::Dataset& dataset;              ///< that it trains on; checkpoints keep its fingerprint
  optim::ReduceLrOnPlateau* plateau;         ///< null: the schedule has no state
  optim::LossScaler* scaler;                 ///< null: the loss is not scaled
  const TunedGemm* gemm = nullptr;           ///< null: products are not tuned
};

/// SHA-256 of all columns but texts, in hexadecimal.
std::string fingerprint(const data::Dataset& dataset);

/// What must be equal for a run to go on in the order in which it began, by name: seeds, sampling, the data.
Json run_facts(const RunParts& run);

/// What Optimizer::state_tensors() gives.
using OptimizerStates = std::vector<std::pair<std::string, Tensor>>;

/// Files: config.json (of a BERT), model.safetensors, the tokenizer's, optimizer.safetensors, trainer_state.json (HF's
/// schema), training_args.json, sinter_state.json, gemm_table.json (with tune_gemm), manifest.json (sizes and SHA-256
/// of the others); with `only_model` no optimizer.safetensors, sinter_state.json and gemm_table.json. Written to a
/// staging folder, synced, renamed into place: a reader sees all of it or nothing. What stands there and is not ours
/// is moved aside, which a line says.
/// Error(diverged) when a weight is inf or NaN: then nothing is written.
void save_checkpoint(const std::filesystem::path& folder, const RunParts& run, const OptimizerStates& states,
                     bool only_model);

/// Reads a checkpoint into `run`. Error(bad_input) when a file is missing or fails its checksum or the model differs,
/// Error(usage) when the run's seeds, its sampling or its data set differ (both values named) or the checkpoint holds
/// only a model. Every other argument that changes what is computed, and another instruction set, may differ: each is
/// announced in one line.
void load_checkpoint(const std::filesystem::path& folder, const RunParts& run);

/// Fills the model alone from a checkpoint, after its checksums. Error(bad_input).
void load_checkpoint_weights(const std::filesystem::path& folder, nn::Module& model);

/// Saves the model alone (config.json of a BERT, model.safetensors, the tokenizer's files, training_args.json), so that
/// HF's tools and sinter open the folder. Files of another tokenizer go. Error(diverged) as above.
void save_model(const std::filesystem::path& folder, const nn::Module& model, const data::BertTokenizer* tokenizer,
                const TrainingArguments& args);

struct CheckpointFolder {
  std::int64_t step;
  std::filesystem::path path;
};

/// Creates output_dir if needed and tries to write in it, so that a run fails before its first step and not at its
/// first save, and looks for folders in the place of files that it will write. Error(usage) names output_dir and the
/// reason.
void check_output_dir(const std::filesystem::path& output_dir);

/// output_dir/checkpoint-<step>.
std::filesystem::path checkpoint_folder(const std::filesystem::path& output_dir, std::int64_t step);

/// The folders checkpoint-<number> of output_dir, ascending.
std::vector<CheckpointFolder> list_checkpoints(const std::filesystem::path& output_dir);

/// The newest checkpoint whose files pass their checksums, after saying which newer ones did not; nothing where there
/// is none.
std::optional<std::filesystem::path> newest_valid_checkpoint(const std::filesystem::path& output_dir);

/// Deletes what surplus_checkpoints (train/best_model.h) names.
void rotate_checkpoints(const std::filesystem::path& output_dir, std::int64_t limit, std::int64_t current,
                        std::optional<std::int64_t> best);

/// Deletes a checkpoint, as long as it holds nothing but what its manifest lists; else a line says why it stays.
void remove_checkpoint(const std::filesystem::path& folder);

}  // namespace sinter::train
