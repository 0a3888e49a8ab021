// Matrix products.
#pragma once

#include "core/tensor.h"

namespace sinter {

/// a [..., M, K] times b [..., K, N], leading dimensions broadcast -> [..., M, N]. Rank 1 on either side is a vector
/// whose dimension does not appear in the result, as in torch. Transposed views are read in place.
Tensor matmul(const Tensor& a, const Tensor& b);

/// x W^T + bias: x [..., K], weight [N, K], bias [N] or undefined -> [..., N]. The bias is f32 beside an f16 or
/// bf16 x.
Tensor linear(const Tensor& x, const Tensor& weight, const Tensor& bias = {});

}  // namespace sinter
