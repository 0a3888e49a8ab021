// BERT's forward written out with primitive ops on padded [B, S] batches, as HF computes it: masked scores are moved
// so far down that their probability is 0. No dropout.
#pragma once

#include <cmath>

#include "core/ops/elementwise.h"
#include "core/ops/gather.h"
#include "core/ops/matmul.h"
#include "core/ops/reduce.h"
#include "core/ops/softmax.h"
#include "nn/bert.h"

namespace sinter::testing {

class BertReference {
 public:
  explicit BertReference(const nn::BertForSequenceClassification& model) : model_(model), c_(model.config) {}

  /// i64 [B, S] each -> logits [B, num_labels].
  Tensor logits(const Tensor& ids, const Tensor& types, const Tensor& positions, const Tensor& mask) const {
    const NoGradGuard guard;
    const std::int64_t batch = ids.size(0), length = ids.size(1);
    const auto rows = [&](const char* table, const Tensor& index) {
      return index_select(at(std::string("bert.embeddings.") + table + ".weight"), 0, index.reshape({-1}));
    };
    Tensor x = norm(
        rows("word_embeddings", ids) + rows("token_type_embeddings", types) + rows("position_embeddings", positions),
        "bert.embeddings");
    const Tensor kept = mask.to(x.dtype()).reshape({batch, 1, 1, length});
    for (std::int64_t i = 0; i < c_.num_hidden_layers; ++i) {
      const std::string layer = "bert.encoder.layer." + std::to_string(i);
      const auto heads = [&](const char* part) {
        return dense(x, layer + ".attention.self." + part)
            .reshape({batch, length, c_.num_attention_heads, c_.head_size()})
            .permute({0, 2, 1, 3});
      };
      const Tensor scores = matmul(heads("query"), heads("key").transpose(-2, -1)) *
                            (1 / std::sqrt(static_cast<double>(c_.head_size())));
      const Tensor mixed = matmul(softmax(scores + (kept - 1.0) * 1e30), heads("value"));
      const Tensor joined = mixed.permute({0, 2, 1, 3}).reshape({batch * length, c_.hidden_size});
      const Tensor attended = norm(dense(joined, layer + ".attention.output.dense") + x, layer + ".attention.output");
      x = norm(dense(activation(dense(attended, layer + ".intermediate.dense")), layer + ".output.dense") + attended,
               layer + ".output");
    }
    const Tensor first = x.reshape({batch, length, c_.hidden_size}).select(1, 0);
    return dense(tanh(dense(first, "bert.pooler.dense")), "classifier");
  }

 private:
  Tensor at(const std::string& name) const {
    for (const Parameter& p : model_.named_parameters())
      if (p.name == name) return p.tensor;
    return {};
  }
  Tensor dense(const Tensor& x, const std::string& name) const {
    return matmul(x, at(name + ".weight").transpose(0, 1)) + at(name + ".bias");
  }
  Tensor norm(const Tensor& x, const std::string& name) const {
    const Tensor centred = x - mean(x, {-1}, true);
    const Tensor deviation = sqrt(mean(centred * centred, {-1}, true) + c_.layer_norm_eps);
    return centred / deviation * at(name + ".LayerNorm.weight") + at(name + ".LayerNorm.bias");
  }
  Tensor activation(const Tensor& u) const {
    if (c_.hidden_act == "relu") return maximum(u, Tensor::zeros(u.shape(), u.options()));
    if (c_.hidden_act == "silu") return u / (exp(neg(u)) + 1.0);
    if (c_.hidden_act == "gelu") return u * 0.5 * (erf(u * std::sqrt(0.5)) + 1.0);
    const Tensor inner = (u + pow(u, 3) * 0.044715) * std::sqrt(2 / 3.14159265358979323846);
    return u * 0.5 * (tanh(inner) + 1.0);
  }

  const nn::BertForSequenceClassification& model_;
  const nn::BertConfig& c_;
};

}  // namespace sinter::testing
