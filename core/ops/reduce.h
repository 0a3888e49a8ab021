// Reductions. `dims` may be negative; none given means all. keepdim leaves sizes of 1.
#pragma once

#include "core/tensor.h"

namespace sinter {

Tensor sum(const Tensor& x);
Tensor sum(const Tensor& x, const std::vector<int>& dims, bool keepdim = false);
Tensor mean(const Tensor& x);
Tensor mean(const Tensor& x, const std::vector<int>& dims, bool keepdim = false);
/// Largest and smallest elements; where several are equal they share the gradient, as in torch.
Tensor amax(const Tensor& x, const std::vector<int>& dims, bool keepdim = false);
Tensor amin(const Tensor& x, const std::vector<int>& dims, bool keepdim = false);
/// Index (i64) of the largest element along d, the first among equals. No gradient.
Tensor argmax(const Tensor& x, int d = -1);

}  // namespace sinter
