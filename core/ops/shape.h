// Joining and cutting tensors. The views (reshape, permute, narrow ...) are members of Tensor.
#pragma once

#include "core/tensor.h"

namespace sinter {

/// Joins tensors along dimension d; the other sizes and the dtypes must be equal.
Tensor cat(const Tensors& tensors, int d = 0);
/// Stacks tensors of one shape along a new dimension d.
Tensor stack(const Tensors& tensors, int d = 0);
/// Views of consecutive pieces of `size` elements along d; the last one may be smaller.
Tensors split(const Tensor& x, std::int64_t size, int d = 0);
/// Views of consecutive pieces of the given sizes, which must sum to the size of d.
Tensors split(const Tensor& x, const std::vector<std::int64_t>& sizes, int d = 0);

}  // namespace sinter
