// config.json of a BERT model.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>

namespace sinter {
class Json;
}

namespace sinter::nn {

/// HF's BertConfig: same names, same defaults (bert-base).
struct BertConfig {
  std::int64_t vocab_size = 30522;
  std::int64_t hidden_size = 768;
  std::int64_t num_hidden_layers = 12;
  std::int64_t num_attention_heads = 12;
  std::int64_t intermediate_size = 3072;
  std::string hidden_act = "gelu";            ///< gelu, gelu_new, relu or silu
  double hidden_dropout_prob = 0.1;
  double attention_probs_dropout_prob = 0.1;
  std::int64_t max_position_embeddings = 512;
  std::int64_t type_vocab_size = 2;
  double initializer_range = 0.02;
  double layer_norm_eps = 1e-12;
  std::int64_t pad_token_id = 0;
  std::optional<double> classifier_dropout;   ///< hidden_dropout_prob where not set
  std::int64_t num_labels = 2;               ///< at most 2^20
  std::map<std::int64_t, std::string> id2label;   ///< empty: LABEL_0, LABEL_1 ...
  std::string problem_type;  ///< "", regression, single_label_classification, multi_label_classification

  std::int64_t head_size() const { return hidden_size / num_attention_heads; }
  /// Name of a class: id2label, or LABEL_<id>.
  std::string label_name(std::int64_t id) const;

  /// Reads HF's config.json: unknown keys are ignored, missing ones take their defaults; label2id names the classes
  /// where id2label does not. A value that breaks a rule, a model_type or architectures other than BERT's, and what
  /// sinter's BERT does not have (relative positions, decoders, pruned heads) is an Error(bad_input) that names field,
  /// value and rule.
  static BertConfig from_json(const Json& json);
  Json to_json() const;
  /// The rules that from_json checks, for a config made in a program: Error(usage).
  void validate() const;
};

}  // namespace sinter::nn
