// Scaled dot-product attention over packed sequences.
#pragma once

#include <memory>

#include "core/ops/dropout.h"
#include "core/tensor.h"

namespace sinter {

/// softmax(q k^T / sqrt(D)) v for each sequence of `packing` and each of `heads` heads, with dropout p on the
/// probabilities. q, k, v [T, heads * D] -> [T, heads * D]. Keys masked by packing.key_mask get probability 0.
Tensor attention(const Tensor& q, const Tensor& k, const Tensor& v, const std::shared_ptr<const Packing>& packing,
                 std::int64_t heads, double p, std::uint32_t site);

}  // namespace sinter
