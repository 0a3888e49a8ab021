// The exact (erf) GELU.
#pragma once

#include "core/tensor.h"

namespace sinter {

/// u * (1 + erf(u / sqrt 2)) / 2 with u = x + bias; x [..., H], bias [H] (f32 beside an f16 or bf16 x).
Tensor bias_gelu(const Tensor& x, const Tensor& bias);
Tensor gelu(const Tensor& x);

}  // namespace sinter
