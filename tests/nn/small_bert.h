// A BERT of a few thousand random parameters, and batches for it.
#pragma once

#include <memory>

#include "core/autograd/mode.h"
#include "core/random.h"
#include "nn/bert.h"

namespace sinter::testing {

/// 2 layers of 2 heads of 8, 40 words, 12 positions, 2 types; no dropout.
inline nn::BertConfig small_config() {
  nn::BertConfig config;
  config.vocab_size = 40;
  config.hidden_size = 16;
  config.num_hidden_layers = 2;
  config.num_attention_heads = 2;
  config.intermediate_size = 24;
  config.max_position_embeddings = 12;
  config.hidden_dropout_prob = config.attention_probs_dropout_prob = 0;
  return config;
}

/// Every parameter random, biases and LayerNorms too, so that no term of the forward can be lost unseen.
inline std::unique_ptr<nn::BertForSequenceClassification> small_bert(const nn::BertConfig& config = small_config(),
                                                                     Dtype dtype = Dtype::f32) {
  auto model = std::make_unique<nn::BertForSequenceClassification>(config);
  const NoGradGuard guard;
  for (Parameter& p : model->named_parameters())
    normal_(p.tensor, p.name.ends_with("LayerNorm.weight") ? 1 : 0, 0.3, 5, site_id(p.name));
  model->to(dtype);
  return model;
}

inline Tensor grid(std::initializer_list<std::int64_t> values, std::int64_t rows) {
  return Tensor::from<std::int64_t>(values).reshape({rows, -1});
}

/// [B, S] word ids that are all different from the pad token.
inline Tensor random_ids(const Shape& shape, std::uint32_t site = 1) {
  Tensor x = Tensor::empty(shape, {Dtype::f64});
  uniform_(x, 1, 40, 6, site);
  return x.to(Dtype::i64);
}

}  // namespace sinter::testing
