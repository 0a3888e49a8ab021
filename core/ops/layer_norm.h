// Layer normalisation.
#pragma once

#include <memory>

#include "core/ops/dropout.h"
#include "core/tensor.h"

namespace sinter {

/// (x - mean) / sqrt(variance + eps) * gamma + beta over the last dimension; x [..., H], gamma and beta [H] (f32 beside
/// an f16 or bf16 x, as the bias below).
Tensor layer_norm(const Tensor& x, const Tensor& gamma, const Tensor& beta, double eps);

/// LayerNorm(dropout(x + bias) + residual): the end of every sublayer of a post-LN encoder, in one pass.
/// x, residual [..., H]; bias, gamma, beta [H]. p = 0: no dropout.
Tensor bias_dropout_residual_layer_norm(const Tensor& x, const Tensor& bias, const Tensor& residual,
                                        const Tensor& gamma, const Tensor& beta, double eps, double p,
                                        std::uint32_t site, const std::shared_ptr<const Packing>& packing = nullptr);

}  // namespace sinter
