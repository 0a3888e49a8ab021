// Gradient clipping by the global norm.
#pragma once

#include "core/flat_parameters.h"

namespace sinter::optim {

struct GradNorm {
  double norm = 0;           ///< L2 norm of all gradients, before clipping
  double coefficient = 1;    ///< min(1, max_norm / (norm + 1e-6)) / scale, NaN when the norm is; for AdamW::step
  bool nonfinite = false;    ///< a gradient is inf or NaN
};

/// Norm and coefficient of torch's clip_grad_norm_. The gradients themselves are not touched: the optimizer applies the
/// coefficient in its own pass. The gradients are those of a loss times `scale`, which norm and coefficient undo.
/// max_norm may be infinite. Waits for the device. Error(usage) unless max_norm > 0.
GradNorm clip_grad_norm(FlatParameters& parameters, double max_norm, double scale = 1);

}  // namespace sinter::optim
