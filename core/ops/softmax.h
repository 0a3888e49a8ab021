// Softmax.
#pragma once

#include "core/tensor.h"

namespace sinter {

/// exp(x - max) / sum over dimension d, and its logarithm.
Tensor softmax(const Tensor& x, int d = -1);
Tensor log_softmax(const Tensor& x, int d = -1);

}  // namespace sinter
