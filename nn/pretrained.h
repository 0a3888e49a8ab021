// Models in HF's folder form: config.json and model.safetensors.
#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "nn/bert.h"

namespace sinter {
class OutputFile;
}

namespace sinter::nn {

/// What the caller wants otherwise than config.json says, under HF's names.
struct PretrainedOptions {
  std::optional<std::int64_t> num_labels;           ///< classes of the head
  std::map<std::int64_t, std::string> id2label;     ///< their names, from 0 on; gives num_labels too
  std::string problem_type;                         ///< as BertConfig's; empty: config.json's
  std::optional<double> hidden_dropout_prob;
  std::optional<double> attention_probs_dropout_prob;
  std::optional<double> classifier_dropout;
  /// A classifier of another number of classes is replaced by a newly initialised one, instead of refused. HF's option
  /// does this to every tensor; sinter only to the classifier, because a random encoder is never what was meant.
  bool ignore_mismatched_sizes = false;
  std::uint64_t seed = 42;                          ///< of what has to be newly initialised
};

/// What loading found.
struct LoadReport {
  std::vector<std::string> newly_initialized;   ///< parameters that the file does not have, or not in this size
  std::vector<std::string> ignored;  ///< tensors of the file that the model does not use (pre-training heads)
};

/// HF's class of this name, for the one architecture that sinter has.
class AutoModelForSequenceClassification {
 public:
  /// A classifier in training mode from a folder or from HF's cache (core/io/hub_cache.h), which holds config.json and
  /// either model.safetensors or model.safetensors.index.json with its shards.
  ///
  /// Weights: f16, bf16, f32 and f64 load into f32. Names with and without the prefix "bert." are accepted, and
  /// LayerNorm.gamma / .beta of the first release. Heads of other tasks (cls.*, qa_outputs.*, and the classifier of a
  /// model for tokens or multiple choice) and position_ids buffers are ignored. A classifier or pooler that is not in
  /// the file is newly initialised and announced in one line; HF would do that to the whole encoder too.
  ///
  /// Errors, each one sentence. not_found: no such folder or name, with the command that fetches it; no weights. usage:
  /// an option breaks a rule of BertConfig. bad_input: config.json breaks one, or is not BERT's; the weights are only
  /// there as a pickle; a tensor of the encoder is missing, unknown, or of another shape or kind; the classifier has
  /// another number of classes than was asked for, without ignore_mismatched_sizes. Nothing that config.json says
  /// makes this take much more memory than the weights' size.
  static std::shared_ptr<BertForSequenceClassification> from_pretrained(const std::string& name_or_path,
                                                                        const PretrainedOptions& options = {},
                                                                        LoadReport* report = nullptr);
};

/// Compares a tokenizer's number of tokens with the rows of the word embedding. Error bad_input when there are more
/// tokens than rows: their ids would have no embedding. A sentence to warn with when there are fewer, which is harmless
/// where rows were added as padding, and else the sign of another model's vocabulary; empty when they are equal.
std::string check_vocabulary(std::int64_t tokens, const BertConfig& config);

/// Fills the parameters of `model` from a safetensors file, after the same rules; for checkpoints (every name must be
/// there: `require_all`).
LoadReport load_weights(BertForSequenceClassification& model, const std::filesystem::path& file, bool require_all);

/// Writes the parameters in the safetensors format, as model.safetensors holds them.
void write_weights(const BertForSequenceClassification& model, OutputFile& out);

/// Writes model.safetensors and config.json into `folder`, which is created where it is missing. HF's tools open it.
/// Each file appears whole or not at all.
void save_pretrained(const BertForSequenceClassification& model, const std::filesystem::path& folder);

}  // namespace sinter::nn
