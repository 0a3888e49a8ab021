// The exact (erf) GELU.
#pragma once

#include "core/tensor.h"

namespace sinter {

/// u * (1 + erf(u / sqrt 2)) / 2 with u = x + bias; x [..., H], bias [H].
Tensor bias_gelu(const Tensor& x, const Tensor& bias);
Tensor gelu(const Tensor& x);

}  // namespace sinter
