// The layers that models are made of. A layer computes in the dtype of its input; f16 and bf16 inputs meet weights of a
// wider dtype rounded to theirs. Weights are zeros (LayerNorm: ones) until init_weights or a checkpoint
// fills them.
#pragma once

#include <cstdint>
#include <memory>

#include "core/ops/packing.h"
#include "nn/module.h"

namespace sinter::nn {

/// y = x W^T + b. weight [out, in], bias [out].
class Linear : public Module {
 public:
  Linear(std::int64_t in_features, std::int64_t out_features, bool bias = true);
  /// x [..., in] -> [..., out]
  Tensor operator()(const Tensor& x) const;
  /// x W^T, for layers that fuse the bias into their own kernel. Calls no hooks.
  Tensor product(const Tensor& x) const;

  Tensor weight, bias;
};

/// Rows of a table. weight [num_embeddings, embedding_dim]; the row padding_idx (-1: none) gets no gradient.
class Embedding : public Module {
 public:
  Embedding(std::int64_t num_embeddings, std::int64_t embedding_dim, std::int64_t padding_idx = -1);
  /// ids i64 [...] -> [..., embedding_dim] in the compute dtype
  Tensor operator()(const Tensor& ids) const;

  std::int64_t padding_idx;
  Tensor weight;
};

/// (x - mean) / sqrt(var + eps) * weight + bias over the last dimension. weight and bias [H], 1 and 0 at first.
class LayerNorm : public Module {
 public:
  explicit LayerNorm(std::int64_t normalized_shape, double eps = 1e-12);
  Tensor operator()(const Tensor& x) const;

  double eps;
  Tensor weight, bias;
};

/// Zeroes elements with probability p in training mode. Needs a StepScope there; its site is its path.
class Dropout : public Module {
 public:
  /// p outside [0, 1) is a usage error.
  explicit Dropout(double p = 0.1);
  /// x [..., H]; rows are tokens of `packing`, or samples.
  Tensor operator()(const Tensor& x, const std::shared_ptr<const Packing>& packing = nullptr) const;
  /// p in training mode, else 0. For layers that fuse this dropout into their own kernel.
  double active_p() const { return is_training() ? p : 0; }
  /// The number under which its masks are drawn.
  std::uint32_t site() const;

  double p;
};

/// Fills the parameters of Linear, Embedding and LayerNorm modules below `root` as BERT does: weights ~ N(0, std),
/// padding rows and biases 0, LayerNorm 1 and 0. Each value is a function of (seed, path of the module, place).
void init_weights(Module& root, double std, std::uint64_t seed);

}  // namespace sinter::nn
