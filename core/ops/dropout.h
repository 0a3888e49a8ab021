// Dropout whose masks are pure functions of (seed, step, site, sample, place).
#pragma once

#include <memory>

#include "core/ops/packing.h"
#include "core/random.h"
#include "core/tensor.h"
#include "kernels/base/philox.h"

namespace sinter {

/// One dropout of one forward, as ops keep it for their backward.
struct DropoutCall {
  std::uint32_t threshold = 0;       ///< p * 65536, rounded; 0: off
  std::uint32_t site = 0;
  StepScope::State step;

  /// p = 0 gives a call that is off and needs no StepScope. p outside [0, 1) is a usage error.
  static DropoutCall make(double p, std::uint32_t site, const char* who);
  /// What the kernels of `device` take. Points to what `step` keeps.
  kernels::Dropout16 kernel(Device device) const;
};

/// Which sample each row of [rows, cols] is, for kernels of `device`: from `packing`, or row r is sample r where there
/// is none.
kernels::RowMap row_map(const std::shared_ptr<const Packing>& packing, Device device);

/// Zeroes elements of x [..., H] with probability p (rounded to k / 65536) and scales the others by 1 / (1 - p). Rows
/// are the leading dimensions: tokens of `packing`, or samples.
Tensor dropout(const Tensor& x, double p, std::uint32_t site, const std::shared_ptr<const Packing>& packing = nullptr);

/// The factors of that dropout as a tensor of x's shape: 0 or 1 / (1 - p).
Tensor dropout_mask(const Tensor& x, const DropoutCall& call, const std::shared_ptr<const Packing>& packing);

}  // namespace sinter
