// Models in HF's folder form: config.json and model.safetensors.
#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "nn/bert.h"

namespace sinter {
class OutputFile;
}

namespace sinter::nn {

struct PretrainedOptions {
  std::optional<std::int64_t> num_labels;   ///< classes of the head; the config's where not given
  std::uint64_t seed = 42;                  ///< of what has to be newly initialised
};

/// What loading found.
struct LoadReport {
  std::vector<std::string> newly_initialized;   ///< parameters that the file does not have (the classifier's)
  std::vector<std::string> ignored;  ///< tensors of the file that the model does not use (pre-training heads)
};

/// Reads `folder`/config.json and `folder`/model.safetensors. Names with and without the prefix "bert." are accepted,
/// and LayerNorm.gamma / .beta of the first release; pre-training heads and position_ids buffers are ignored. f16,
/// bf16, f32 and f64 files load into f32. A missing encoder tensor, a tensor of another shape or an unknown name is an
/// Error(bad_input); a missing classifier is initialised and announced in one line.
std::unique_ptr<BertForSequenceClassification> bert_from_pretrained(const std::filesystem::path& folder,
                                                                    const PretrainedOptions& options = {},
                                                                    LoadReport* report = nullptr);

/// Fills the parameters of `model` from a safetensors file, after the same rules; for checkpoints (every name must be
/// there: `require_all`).
LoadReport load_weights(BertForSequenceClassification& model, const std::filesystem::path& file, bool require_all);

/// Writes the parameters in the safetensors format, as model.safetensors holds them.
void write_weights(const BertForSequenceClassification& model, OutputFile& out);

/// Writes config.json and model.safetensors into `folder`, which is created where it is missing. HF's tools open it.
void save_pretrained(const BertForSequenceClassification& model, const std::filesystem::path& folder);

}  // namespace sinter::nn
