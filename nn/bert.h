// BERT, as HF's modeling_bert.py computes it, on packed tokens.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "core/ops/packing.h"
#include "nn/bert_config.h"
#include "nn/layers.h"
#include "nn/module.h"

namespace sinter::nn {

/// What a model reads. Either padded: input_ids [B, S] and, optional, attention_mask and token_type_ids [B, S] (all
/// i64); or packed: `packing`, input_ids, and optional token_type_ids and position_ids [T].
///
/// Padding is an interface, not a layout: a padded batch is packed before the embeddings, and [B, S] comes back only
/// for outputs that were asked for. A mask with a 0 before a 1 cannot be packed by dropping its tail; it takes the
/// padded path (same results, more arithmetic) and says so once.
struct BertInputs {
  Tensor input_ids;
  Tensor attention_mask;
  Tensor token_type_ids;
  Tensor position_ids;
  std::shared_ptr<const Packing> packing;
  /// i64 [B]; f32/f64 [B] for regression, [B, num_labels] for multi-label. Undefined: no loss.
  Tensor labels;
  /// The loss is the sum over samples divided by this; 0: by the samples of this batch (the mean).
  double num_items_in_batch = 0;
  /// 1 / num_items_in_batch as a scalar on the model's device and in the parameters' dtype, for a captured step, in
  /// which it changes from batch to batch. Wins over num_items_in_batch.
  Tensor item_factor;
  bool output_hidden_states = false;

  /// True when one of the two says what the sum over samples is divided by.
  bool has_num_items() const { return item_factor.defined() || num_items_in_batch > 0; }
  /// `total`, a sum over samples, divided by it.
  Tensor per_item(const Tensor& total) const;
};

struct BertOutput {
  Tensor loss;                  ///< scalar, when labels were given
  Tensor logits;                ///< [B, num_labels], in the dtype of the parameters
  Tensors hidden_states;        ///< num_hidden_layers + 1 of [B, S, H] (packed: [T, H]), dropped pads 0, when asked for
};

/// Throws a usage error for an empty sequence, which has no token to pool, and for one of more than `max_positions`.
void check_lengths(const std::vector<std::int64_t>& lengths, std::int64_t max_positions);

/// word + token type + position embeddings, LayerNorm, dropout.
class BertEmbeddings : public Module {
 public:
  explicit BertEmbeddings(const BertConfig& config);
  Tensor operator()(const Tensor& ids, const Tensor& type_ids, const Tensor& position_ids,
                    const std::shared_ptr<const Packing>& packing) const;

  Embedding word_embeddings, position_embeddings, token_type_embeddings;
  nn::LayerNorm LayerNorm;
  nn::Dropout dropout;
};

class BertSelfAttention : public Module {
 public:
  explicit BertSelfAttention(const BertConfig& config);
  Tensor operator()(const Tensor& x, const std::shared_ptr<const Packing>& packing) const;

  Linear query, key, value;
  nn::Dropout dropout;

 private:
  std::int64_t heads_;
};

/// LayerNorm(dropout(dense(x)) + residual): the end of both sublayers.
class BertSublayerOutput : public Module {
 public:
  BertSublayerOutput(std::int64_t in_features, const BertConfig& config);
  Tensor operator()(const Tensor& x, const Tensor& residual, const std::shared_ptr<const Packing>& packing) const;

  Linear dense;
  nn::LayerNorm LayerNorm;
  nn::Dropout dropout;
};

class BertAttention : public Module {
 public:
  explicit BertAttention(const BertConfig& config);
  Tensor operator()(const Tensor& x, const std::shared_ptr<const Packing>& packing) const;

  BertSelfAttention self;
  BertSublayerOutput output;
};

class BertIntermediate : public Module {
 public:
  explicit BertIntermediate(const BertConfig& config);
  Tensor operator()(const Tensor& x) const;

  Linear dense;

 private:
  std::string activation_;
};

class BertLayer : public Module {
 public:
  explicit BertLayer(const BertConfig& config);
  Tensor operator()(const Tensor& x, const std::shared_ptr<const Packing>& packing) const;

  BertAttention attention;
  BertIntermediate intermediate;
  BertSublayerOutput output;
};

class BertEncoder : public Module {
 public:
  explicit BertEncoder(const BertConfig& config);
  /// Appends the input and every layer's output to `states` where that is not null.
  Tensor operator()(const Tensor& x, const std::shared_ptr<const Packing>& packing, Tensors* states = nullptr) const;

  std::vector<std::unique_ptr<BertLayer>> layer;

 private:
  struct Layers : Module {
    using Module::register_module;
  };
  Layers layers_;
};

class BertPooler : public Module {
 public:
  explicit BertPooler(const BertConfig& config);
  /// tanh(dense(first token of each sequence)) [B, H].
  Tensor operator()(const Tensor& x, const Packing& packing) const;

  Linear dense;
};

class BertModel : public Module {
 public:
  explicit BertModel(const BertConfig& config);

  struct Result {
    Tensor last_hidden_state;   ///< [T, H]
    Tensor pooler_output;       ///< [B, H]
    Tensors hidden_states;      ///< as BertOutput
    std::shared_ptr<const Packing> packing;
  };
  Result operator()(const BertInputs& inputs) const;

  BertEmbeddings embeddings;
  BertEncoder encoder;
  BertPooler pooler;

 private:
  std::int64_t max_positions_;
};

class BertForSequenceClassification : public Module {
 public:
  explicit BertForSequenceClassification(const BertConfig& config);
  BertOutput operator()(const BertInputs& inputs) const;
  /// True when integer labels are classes of a cross entropy (HF's rule for an empty config.problem_type).
  bool classifies_one_label() const;

  BertConfig config;
  BertModel bert;
  nn::Dropout dropout;
  Linear classifier;

 private:
  Tensor loss(const Tensor& logits, const BertInputs& inputs) const;
};

}  // namespace sinter::nn
