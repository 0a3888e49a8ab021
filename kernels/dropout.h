// Dropout with stateless decisions (base/philox.h).
#pragma once

#include "kernels/base/dtype.h"
#include "kernels/base/kernel.h"
#include "kernels/base/philox.h"
#include "kernels/layer_norm.h"

namespace sinter::kernels {

/// y = keep(r, c) ? x * scale : 0.   x, y [rows, cols] contiguous; y may equal x. Its own backward (dx from dy).
/// The CPU computes f32 and f64, CUDA also f16 and bf16. The threshold may be 0: then a copy.
struct Dropout {
  static constexpr KernelId id = KernelId::dropout;
  Dtype dtype = Dtype::f32;
  std::int64_t rows = 0, cols = 0;
  Dropout16 dropout;
  RowMap map;
  const void* x = nullptr;
  void* y = nullptr;
};

constexpr Status check(const Dropout& p) {
  if (p.dropout.active() && p.dropout.step == nullptr) return invalid("dropout needs the global step");
  if (p.rows < 0 || p.cols < 0) return invalid("rows and cols must not be negative");
  return {};
}

constexpr Cost cost(const Dropout& p) {
  const double n = static_cast<double>(p.rows * p.cols), size = static_cast<double>(size_of(p.dtype));
  return {n * size, n * size, n};
}

}  // namespace sinter::kernels
