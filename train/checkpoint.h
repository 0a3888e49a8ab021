// checkpoint-<step>: a model that HF's tools open, and what resuming needs.
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <vector>

#include "data/dataset.h"
#include "data/tokenizer.h"
#include "nn/bert.h"
#include "optim/adamw.h"
#include "train/trainer_state.h"
#include "train/training_arguments.h"

namespace sinter::train {

/// Everything of a run that a checkpoint keeps. Random numbers have no state (core/random.h), and the order of the data is a
/// function of (data_seed, epoch), so global_step says both.
struct RunParts {
  nn::BertForSequenceClassification& model;
  optim::AdamW& optimizer;
  TrainerState& state;
  const TrainingArguments& args;
  const data::BertTokenizer* tokenizer = nullptr;   ///< its vocabulary is saved beside the model when given
  const data::Dataset& dataset;   ///< that it trains on; checkpoints keep its fingerprint
};

/// Files: config.json, model.safetensors, vocab.txt, tokenizer_config.json, optimizer.safetensors, trainer_state.json (HF's
/// schema), training_args.json, sinter_state.json, manifest.json (sizes and SHA-256 of the others). Written to a staging
/// folder, synced, renamed into place: a reader sees all of it or nothing.
void save_checkpoint(const std::filesystem::path& folder, const RunParts& run);

/// Reads a checkpoint into `run`. Error(bad_input) when a file is missing or fails its checksum, when the run's batch size,
/// accumulation, seeds or data set differ (both values named), or when the model does. Every other argument that changes
/// what is computed, and another instruction set, may differ: each is announced in one line.
void load_checkpoint(const std::filesystem::path& folder, const RunParts& run);

/// Saves the model alone (config.json, model.safetensors, tokenizer files) so that HF's tools and sinter open the folder.
void save_model(const std::filesystem::path& folder, const nn::BertForSequenceClassification& model,
                const data::BertTokenizer* tokenizer);

struct CheckpointFolder {
  std::int64_t step;
  std::filesystem::path path;
};

/// The folders checkpoint-<number> of output_dir, ascending.
std::vector<CheckpointFolder> list_checkpoints(const std::filesystem::path& output_dir);

/// The newest checkpoint whose files pass their checksums, after saying which newer ones did not; nothing where there is
/// none.
std::optional<std::filesystem::path> newest_valid_checkpoint(const std::filesystem::path& output_dir);

/// Deletes all but the newest `limit` checkpoints. Each victim is renamed first, so that a kill leaves no half checkpoint.
void rotate_checkpoints(const std::filesystem::path& output_dir, std::int64_t limit);

}  // namespace sinter::train
