#include "nn/layers.h"

#include "core/error.h"
#include "core/low_copy.h"
#include "core/ops/dropout.h"
#include "core/ops/embedding.h"
#include "core/ops/layer_norm.h"
#include "core/ops/matmul.h"
#include "core/random.h"

namespace sinter::nn {

namespace {

bool is_16_bit(Dtype dtype) { return dtype == Dtype::f16 || dtype == Dtype::bf16; }

/// A weight as an operand of a product with `x`.
Tensor beside(const Tensor& x, const Tensor& weight) {
  return is_16_bit(x.dtype()) ? rounded(weight, x.dtype()) : weight;
}

}  // namespace

Linear::Linear(std::int64_t in_features, std::int64_t out_features, bool has_bias)
    : weight(Tensor::zeros({out_features, in_features})) {
  register_parameter("weight", weight);
  if (!has_bias) return;
  bias = Tensor::zeros({out_features});
  register_parameter("bias", bias);
}

Tensor Linear::operator()(const Tensor& x) const {
  return run({x}, [&](Inputs in) { return linear(in[0], beside(in[0], weight), bias); });
}

Tensor Linear::product(const Tensor& x) const { return linear(x, beside(x, weight)); }

Embedding::Embedding(std::int64_t num_embeddings, std::int64_t embedding_dim, std::int64_t padding)
    : padding_idx(padding), weight(Tensor::zeros({num_embeddings, embedding_dim})) {
  register_parameter("weight", weight);
}

Tensor Embedding::operator()(const Tensor& ids) const {
  return run({ids}, [&](Inputs in) { return computed(embedding(weight, in[0], padding_idx)); });
}

LayerNorm::LayerNorm(std::int64_t normalized_shape, double epsilon)
    : eps(epsilon), weight(Tensor::ones({normalized_shape})), bias(Tensor::zeros({normalized_shape})) {
  register_parameter("weight", weight);
  register_parameter("bias", bias);
}

Tensor LayerNorm::operator()(const Tensor& x) const {
  return run({x}, [&](Inputs in) { return layer_norm(in[0], weight, bias, eps); });
}

Dropout::Dropout(double probability) : p(probability) {
  if (!(p >= 0 && p < 1)) fail(ErrorCode::usage, "the dropout probability is ", p, ", it must lie in [0, 1)");
}

Tensor Dropout::operator()(const Tensor& x, const std::shared_ptr<const Packing>& packing) const {
  return run({x}, [&](Inputs in) { return dropout(in[0], active_p(), site(), packing); });
}

std::uint32_t Dropout::site() const { return site_id(path()); }

void init_weights(Module& root, double std, std::uint64_t seed) {
  const NoGradGuard guard;
  for (const auto& [below, module] : root.named_modules()) {
    const std::uint32_t site = site_id(module->path() + ".weight");
    if (auto* linear_module = dynamic_cast<Linear*>(module)) {
      normal_(linear_module->weight, 0, std, seed, site);
      if (linear_module->bias.defined()) linear_module->bias.zero_();
    } else if (auto* table = dynamic_cast<Embedding*>(module)) {
      normal_(table->weight, 0, std, seed, site);
      if (table->padding_idx >= 0) table->weight.select(0, table->padding_idx).zero_();
    } else if (auto* norm = dynamic_cast<LayerNorm*>(module)) {
      norm->weight.fill_(1);
      norm->bias.zero_();
    }
  }
}

}  // namespace sinter::nn
