// Softmax and log-softmax over the last dimension.
#pragma once

#include "kernels/base/dtype.h"
#include "kernels/base/kernel.h"

namespace sinter::kernels {

/// log = false: y[r, c] = exp(x[r, c] - max_r) / sum_c exp(x[r, c] - max_r)
/// log = true:  y[r, c] = x[r, c] - max_r - log sum_c exp(x[r, c] - max_r)
/// x, y contiguous [rows, cols], cols >= 1; y may equal x. A row's bits depend on that row alone. The CPU computes
/// f32 and f64, CUDA also f16 and bf16.
/// A row of -inf gives NaN, as the formula does.
struct Softmax {
  static constexpr KernelId id = KernelId::softmax;
  Dtype dtype = Dtype::f32;
  bool log = false;
  std::int64_t rows = 0, cols = 0;
  const void* x = nullptr;
  void* y = nullptr;
};

/// log = false: dx = y * (dy - sum_c dy * y);   log = true: dx = dy - exp(y) * sum_c dy.   dx = (overwrites).
struct SoftmaxBackward {
  static constexpr KernelId id = KernelId::softmax_backward;
  Dtype dtype = Dtype::f32;
  bool log = false;
  std::int64_t rows = 0, cols = 0;
  const void* dy = nullptr;
  const void* y = nullptr;   ///< the forward's output
  void* dx = nullptr;
};

constexpr Status check(const Softmax& p) {
  if (p.rows < 0 || p.cols < 0) return invalid("a size must not be negative");
  if (p.cols == 0 && p.rows > 0) return invalid("softmax needs at least one column");
  return {};
}
constexpr Status check(const SoftmaxBackward& p) {
  if (p.rows < 0 || p.cols < 0) return invalid("a size must not be negative");
  return {};
}

constexpr Cost cost(const Softmax& p) {
  const double n = static_cast<double>(p.rows * p.cols), size = static_cast<double>(size_of(p.dtype));
  return {n * size, n * size, 4 * n};
}
constexpr Cost cost(const SoftmaxBackward& p) {
  const double n = static_cast<double>(p.rows * p.cols), size = static_cast<double>(size_of(p.dtype));
  return {2 * n * size, n * size, 4 * n};
}

}  // namespace sinter::kernels
