// A parameter's copy in 16 bits, for products in mixed precision.
#pragma once

#include <cstdint>

#include "core/tensor.h"

namespace sinter {

/// Belongs to a leaf whose memory is flat (FlatParameters::keep_low_copy).
struct LowCopy {
  Tensor values;               ///< the leaf, rounded; an optimizer's pass or refresh() writes it
  std::uint64_t version = 0;   ///< of the leaf's storage when `values` was written
  Tensor grad;                 ///< the leaf's gradient in 16 bits; undefined: it has none but in its own dtype
  bool grad_stale = true;      ///< as Meta::grad_stale, of `grad`

  /// Rounds the leaf again, one launch, where somebody wrote it since.
  void refresh(const Tensor& leaf);
};

/// x in `dtype`, as x.to(dtype), but a leaf's LowCopy of that dtype where it has one: then without a launch, unless the
/// leaf was written since. Not to be written to. The gradient is that of a cast: ops that write gradients of leaves in
/// place put it into LowCopy::grad where that is defined; otherwise (hooks, anomaly mode, other ops) it arrives in the
/// leaf's dtype.
Tensor rounded(const Tensor& x, Dtype dtype);

}  // namespace sinter
