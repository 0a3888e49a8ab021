#include "nn/bert.h"

#include <numbers>

#include "core/error.h"
#include "core/log.h"
#include "core/ops/attention.h"
#include "core/ops/cross_entropy.h"
#include "core/ops/elementwise.h"
#include "core/ops/embedding.h"
#include "core/ops/gather.h"
#include "core/ops/gelu.h"
#include "core/ops/layer_norm.h"
#include "core/ops/matmul.h"
#include "core/ops/reduce.h"

namespace sinter::nn {

using PackingPtr = std::shared_ptr<const Packing>;

// --- Parts --------------------------------------------------------------------------------------------------------

BertEmbeddings::BertEmbeddings(const BertConfig& config)
    : word_embeddings(config.vocab_size, config.hidden_size, config.pad_token_id),
      position_embeddings(config.max_position_embeddings, config.hidden_size),
      token_type_embeddings(config.type_vocab_size, config.hidden_size),
      LayerNorm(config.hidden_size, config.layer_norm_eps),
      dropout(config.hidden_dropout_prob) {
  register_module("word_embeddings", word_embeddings);
  register_module("position_embeddings", position_embeddings);
  register_module("token_type_embeddings", token_type_embeddings);
  register_module("LayerNorm", LayerNorm);
  register_module("dropout", dropout);
}

Tensor BertEmbeddings::operator()(const Tensor& ids, const Tensor& type_ids, const Tensor& position_ids,
                                  const PackingPtr& packing) const {
  return run({ids, type_ids, position_ids}, [&](Inputs in) {
    const bool hooked = word_embeddings.has_hooks() || position_embeddings.has_hooks() ||
                        token_type_embeddings.has_hooks() || LayerNorm.has_hooks() || dropout.has_hooks();
    if (hooked) {
      const Tensor z = word_embeddings(in[0]) + token_type_embeddings(in[1]) + position_embeddings(in[2]);
      return dropout(LayerNorm(z), packing);
    }
    return computed(embedding_layer_norm(
        {word_embeddings.weight, token_type_embeddings.weight, position_embeddings.weight}, in[0], in[1], in[2],
        LayerNorm.weight, LayerNorm.bias, LayerNorm.eps, dropout.active_p(), dropout.site(), packing,
        word_embeddings.padding_idx));
  });
}

BertSelfAttention::BertSelfAttention(const BertConfig& config)
    : query(config.hidden_size, config.hidden_size),
      key(config.hidden_size, config.hidden_size),
      value(config.hidden_size, config.hidden_size),
      dropout(config.attention_probs_dropout_prob),
      heads_(config.num_attention_heads) {
  register_module("query", query);
  register_module("key", key);
  register_module("value", value);
  register_module("dropout", dropout);
}

Tensor BertSelfAttention::operator()(const Tensor& x, const PackingPtr& packing) const {
  if (dropout.has_hooks())
    fail(ErrorCode::unsupported, dropout.path(),
         " has a hook; attention probabilities are never in memory, so it cannot run");
  return run({x}, [&](Inputs in) {
    return attention(query(in[0]), key(in[0]), value(in[0]), packing, heads_, dropout.active_p(), dropout.site());
  });
}

BertSublayerOutput::BertSublayerOutput(std::int64_t in_features, const BertConfig& config)
    : dense(in_features, config.hidden_size),
      LayerNorm(config.hidden_size, config.layer_norm_eps),
      dropout(config.hidden_dropout_prob) {
  register_module("dense", dense);
  register_module("LayerNorm", LayerNorm);
  register_module("dropout", dropout);
}

Tensor BertSublayerOutput::operator()(const Tensor& x, const Tensor& residual, const PackingPtr& packing) const {
  return run({x, residual}, [&](Inputs in) {
    if (dense.has_hooks() || LayerNorm.has_hooks() || dropout.has_hooks())
      return LayerNorm(dropout(dense(in[0]), packing) + in[1]);
    return bias_dropout_residual_layer_norm(dense.product(in[0]), dense.bias, in[1], LayerNorm.weight,
                                            LayerNorm.bias, LayerNorm.eps, dropout.active_p(), dropout.site(), packing);
  });
}

BertAttention::BertAttention(const BertConfig& config) : self(config), output(config.hidden_size, config) {
  register_module("self", self);
  register_module("output", output);
}

Tensor BertAttention::operator()(const Tensor& x, const PackingPtr& packing) const {
  return run({x}, [&](Inputs in) { return output(self(in[0], packing), in[0], packing); });
}

BertIntermediate::BertIntermediate(const BertConfig& config)
    : dense(config.hidden_size, config.intermediate_size), activation_(config.hidden_act) {
  register_module("dense", dense);
}

Tensor BertIntermediate::operator()(const Tensor& x) const {
  return run({x}, [&](Inputs in) {
    if (activation_ == "gelu" && !dense.has_hooks()) return bias_gelu(dense.product(in[0]), dense.bias);
    const Tensor u = dense(in[0]);
    if (activation_ == "gelu") return gelu(u);
    if (activation_ == "relu") return relu(u);
    if (activation_ == "silu") return u * sigmoid(u);
    // gelu_new: Hendrycks and Gimpel, "Gaussian error linear units", the tanh form.
    const double root = std::numbers::sqrt2 * std::numbers::inv_sqrtpi;
    return u * 0.5 * (tanh((u + u * u * u * 0.044715) * root) + 1.0);
  });
}

BertLayer::BertLayer(const BertConfig& config)
    : attention(config), intermediate(config), output(config.intermediate_size, config) {
  register_module("attention", attention);
  register_module("intermediate", intermediate);
  register_module("output", output);
}

Tensor BertLayer::operator()(const Tensor& x, const PackingPtr& packing) const {
  return run({x}, [&](Inputs in) {
    const Tensor attended = attention(in[0], packing);
    return output(intermediate(attended), attended, packing);
  });
}

BertEncoder::BertEncoder(const BertConfig& config) {
  register_module("layer", layers_);
  for (std::int64_t i = 0; i < config.num_hidden_layers; ++i) {
    layer.push_back(std::make_unique<BertLayer>(config));
    layers_.register_module(std::to_string(i), *layer.back());
  }
}

Tensor BertEncoder::operator()(const Tensor& x, const PackingPtr& packing, Tensors* states) const {
  return run({x}, [&](Inputs in) {
    Tensor hidden = in[0];
    if (states != nullptr) states->push_back(hidden);
    for (const auto& each : layer) {
      hidden = (*each)(hidden, packing);
      if (states != nullptr) states->push_back(hidden);
    }
    return hidden;
  });
}

BertPooler::BertPooler(const BertConfig& config) : dense(config.hidden_size, config.hidden_size) {
  register_module("dense", dense);
}

Tensor BertPooler::operator()(const Tensor& x, const Packing& packing) const {
  return run({x}, [&](Inputs in) {
    return tanh(dense(index_select(in[0], 0, packing.on(in[0].device()).first)));
  });
}

Tensor BertInputs::per_item(const Tensor& total) const {
  return item_factor.defined() ? total * item_factor : total * (1 / num_items_in_batch);
}

// --- From [B, S] to tokens and back -------------------------------------------------------------------------------

namespace {

/// The rows of a forward: packed inputs, and where each stood in [B, S].
struct Rows {
  Tensor ids, type_ids, position_ids;
  PackingPtr packing;
  Tensor grid_row;              ///< i64 [T]: b * S + s; undefined for packed inputs
  std::int64_t batch = 0, length = 0;
};

void check_grid(const char* what, const Tensor& tensor, const Shape& shape) {
  if (tensor.defined() && (tensor.shape() != shape || tensor.dtype() != Dtype::i64))
    fail(ErrorCode::usage, what, " is ", name(tensor.dtype()), " ", tensor.shape(), ", it must be i64 ", shape,
         " as input_ids are");
}

Rows packed_rows(const BertInputs& inputs) {
  const Shape shape{inputs.packing->tokens};
  check_grid("input_ids", inputs.input_ids, shape);
  check_grid("token_type_ids", inputs.token_type_ids, shape);
  check_grid("position_ids", inputs.position_ids, shape);
  Rows rows;
  rows.ids = inputs.input_ids;
  rows.type_ids = inputs.token_type_ids.defined() ? inputs.token_type_ids : Tensor::zeros(shape, {Dtype::i64});
  rows.position_ids = inputs.position_ids.defined() ? inputs.position_ids : inputs.packing->position.to(Dtype::i64);
  rows.packing = inputs.packing;
  return rows;
}

/// Number of leading ones of each row of the mask; `prefix` turns false where a 1 follows a 0.
std::vector<std::int64_t> mask_lengths(const Tensor& mask, std::int64_t batch, std::int64_t length, bool& prefix) {
  const std::vector<std::int64_t> values = mask.to_vector<std::int64_t>();
  std::vector<std::int64_t> lengths;
  for (std::int64_t b = 0; b < batch; ++b) {
    std::int64_t ones = 0, leading = 0;
    for (std::int64_t s = 0; s < length; ++s) {
      const std::int64_t value = values[static_cast<std::size_t>(b * length + s)];
      if (value != 0 && value != 1)
        fail(ErrorCode::usage, "attention_mask [", b, ", ", s, "] is ", value, ", it must be 0 or 1");
      if (value == 1 && leading == s) ++leading;
      ones += value;
    }
    if (ones == 0)
      fail(ErrorCode::usage, "attention_mask keeps no token of sample ", b, "; every sample needs at least one");
    prefix = prefix && leading == ones;
    lengths.push_back(ones);
  }
  return lengths;
}

Rows padded_rows(const BertInputs& inputs) {
  const Tensor& ids = inputs.input_ids;
  if (ids.rank() != 2)
    fail(ErrorCode::usage, "input_ids are ", ids.shape(), ", they must be [B, S], or [T] with a packing");
  check_grid("input_ids", ids, ids.shape());
  check_grid("attention_mask", inputs.attention_mask, ids.shape());
  check_grid("token_type_ids", inputs.token_type_ids, ids.shape());
  check_grid("position_ids", inputs.position_ids, ids.shape());
  Rows rows;
  rows.batch = ids.size(0);
  rows.length = ids.size(1);
  std::vector<std::int64_t> lengths(static_cast<std::size_t>(rows.batch), rows.length);
  bool prefix = true;
  if (inputs.attention_mask.defined()) lengths = mask_lengths(inputs.attention_mask, rows.batch, rows.length, prefix);
  if (!prefix) {
    log_once("padded path", "an attention_mask has a 0 before a 1; such batches are computed padded, which is slower");
    lengths.assign(lengths.size(), rows.length);
    rows.packing = Packing::padded(inputs.attention_mask);
  } else {
    rows.packing = Packing::packed(lengths);
  }
  std::vector<std::int64_t> grid;
  for (std::int64_t b = 0; b < rows.batch; ++b)
    for (std::int64_t s = 0; s < lengths[static_cast<std::size_t>(b)]; ++s) grid.push_back(b * rows.length + s);
  rows.grid_row = Tensor::from(grid, {rows.packing->tokens});
  const auto pick = [&](const Tensor& x) { return index_select(x.reshape({-1}), 0, rows.grid_row); };
  rows.ids = pick(ids);
  rows.type_ids = inputs.token_type_ids.defined() ? pick(inputs.token_type_ids)
                                                  : Tensor::zeros({rows.packing->tokens}, {Dtype::i64});
  rows.position_ids = inputs.position_ids.defined() ? pick(inputs.position_ids) : rows.packing->position.to(Dtype::i64);
  return rows;
}

Tensor to_grid(const Tensor& x, const Rows& rows) {
  if (!rows.grid_row.defined()) return x;
  const Tensor empty = Tensor::zeros({rows.batch * rows.length, x.size(1)}, x.options());
  return index_add(empty, 0, rows.grid_row, x).reshape({rows.batch, rows.length, x.size(1)});
}

}  // namespace

// --- Models -------------------------------------------------------------------------------------------------------

void check_lengths(const std::vector<std::int64_t>& lengths, std::int64_t max_positions) {
  for (std::size_t b = 0; b < lengths.size(); ++b) {
    if (lengths[b] > max_positions)
      fail(ErrorCode::usage, "a sequence has ", lengths[b], " tokens, the model has ", max_positions,
           " positions; truncate with max_length = ", max_positions);
    if (lengths[b] == 0) fail(ErrorCode::usage, "sequence ", b, " is empty; it needs at least one token to pool");
  }
}

BertModel::BertModel(const BertConfig& config)
    : embeddings(config), encoder(config), pooler(config), max_positions_(config.max_position_embeddings) {
  register_module("embeddings", embeddings);
  register_module("encoder", encoder);
  register_module("pooler", pooler);
}

BertModel::Result BertModel::operator()(const BertInputs& inputs) const {
  const Rows rows = inputs.packing != nullptr ? packed_rows(inputs) : padded_rows(inputs);
  const Packing& packing = *rows.packing;
  const std::vector<std::int32_t> offsets = packing.offsets.to_vector<std::int32_t>();
  std::vector<std::int64_t> lengths;
  for (std::size_t b = 0; b < static_cast<std::size_t>(packing.sequences - packing.fillers); ++b)
    lengths.push_back(offsets[b + 1] - offsets[b]);
  check_lengths(lengths, max_positions_);
  Result result;
  result.packing = rows.packing;
  Tensors states;
  result.last_hidden_state = run({rows.ids}, [&](Inputs in) {
    const Tensor embedded = embeddings(in[0], rows.type_ids, rows.position_ids, rows.packing);
    return encoder(embedded, rows.packing, inputs.output_hidden_states ? &states : nullptr);
  });
  result.pooler_output = pooler(result.last_hidden_state, packing);
  for (const Tensor& state : states) result.hidden_states.push_back(to_grid(state, rows));
  return result;
}

namespace {

/// HF's rule where the config names none.
std::string problem_type(const BertConfig& config, Dtype labels) {
  if (!config.problem_type.empty()) return config.problem_type;
  if (config.num_labels == 1) return "regression";
  return labels == Dtype::i64 ? "single_label_classification" : "multi_label_classification";
}

}  // namespace

bool BertForSequenceClassification::classifies_one_label() const {
  return problem_type(config, Dtype::i64) == "single_label_classification";
}

BertForSequenceClassification::BertForSequenceClassification(const BertConfig& model_config)
    : config((model_config.validate(), model_config)),
      bert(config),
      dropout(config.classifier_dropout.value_or(config.hidden_dropout_prob)),
      classifier(config.hidden_size, config.num_labels) {
  register_module("bert", bert);
  register_module("dropout", dropout);
  register_module("classifier", classifier);
}

BertOutput BertForSequenceClassification::operator()(const BertInputs& inputs) const {
  BertOutput output;
  output.logits = run({inputs.input_ids}, [&](Inputs in) {
    BertInputs replaced = inputs;
    replaced.input_ids = in[0];
    BertModel::Result encoded = bert(replaced);
    output.hidden_states = std::move(encoded.hidden_states);
    return classifier(dropout(encoded.pooler_output)).to(classifier.weight.dtype());
  });
  if (inputs.labels.defined()) output.loss = loss(output.logits, inputs);
  return output;
}

Tensor BertForSequenceClassification::loss(const Tensor& logits, const BertInputs& inputs) const {
  const Tensor& labels = inputs.labels;
  const std::string type = problem_type(config, labels.dtype());
  const auto reduced = [&](const Tensor& losses) {
    return inputs.has_num_items() ? inputs.per_item(sum(losses)) : mean(losses);
  };
  if (type == "single_label_classification") {
    if (!inputs.has_num_items()) return cross_entropy(logits, labels);
    return inputs.per_item(cross_entropy(logits, labels, {.reduction = Reduction::sum}));
  }
  const bool one_number = type == "regression" && config.num_labels == 1;
  const Tensor scores = one_number ? logits.reshape({-1}) : logits;
  if (labels.shape() != scores.shape())
    fail(ErrorCode::usage, "labels for ", type, " are ", labels.shape(), ", they must be ", scores.shape());
  const Tensor target = upload({&labels, 1}, logits.device())[0].to(logits.dtype());
  if (type == "regression") {
    const Tensor difference = scores - target, squares = difference * difference;
    return reduced(one_number ? squares : mean(squares, {1}));
  }
  // Binary cross-entropy with logits: max(x, 0) - x y + log(1 + exp(-|x|)).
  return reduced(mean(relu(logits) - logits * target + log(exp(neg(abs(logits))) + 1.0), {1}));
}

}  // namespace sinter::nn
