// Bias and the exact (erf) GELU of a feed-forward layer. x, y and their gradients are of `dtype`, bias and dbias of
// computed_dtype(dtype). The CPU computes f32 and f64, CUDA also f16 and bf16.
#pragma once

#include "kernels/base/dtype.h"
#include "kernels/base/kernel.h"
#include "kernels/layer_norm.h"

namespace sinter::kernels {

/// u = x + bias;  y = u * (1 + erf(u / sqrt 2)) / 2.   x, y [rows, cols], bias [cols] or null; y may equal x.
/// Error against fp64 below 1e-6 of max(|u|, 1) in f32.
struct BiasGelu {
  static constexpr KernelId id = KernelId::bias_gelu;
  Dtype dtype = Dtype::f32;
  std::int64_t rows = 0, cols = 0;
  const void* x = nullptr;
  const void* bias = nullptr;
  void* y = nullptr;
};

/// dx = dy * (Phi(u) + u * phi(u)),  dbias[h] = sum_n dx (null: not computed). Overwrite; dx may equal dy.
/// dbias takes dx before its rounding to dtype. Column sums as in layer_norm.h; workspace: ceil(rows / 64) * cols
/// elements of computed_dtype(dtype) when dbias is asked for.
struct BiasGeluBackward {
  static constexpr KernelId id = KernelId::bias_gelu_backward;
  Dtype dtype = Dtype::f32;
  std::int64_t rows = 0, cols = 0;
  const void* dy = nullptr;
  const void* x = nullptr;     ///< the forward's input, before the bias
  const void* bias = nullptr;
  void* dx = nullptr;
  void* dbias = nullptr;
  void* workspace = nullptr;
};

constexpr Status check(const BiasGelu& p) { return check_rows_cols(p.rows, p.cols); }
constexpr Status check(const BiasGeluBackward& p) { return check_rows_cols(p.rows, p.cols); }

constexpr Cost cost(const BiasGelu& p) {
  const double n = static_cast<double>(p.rows * p.cols), size = static_cast<double>(size_of(p.dtype));
  return {n * size, n * size, 20 * n};
}
constexpr Cost cost(const BiasGeluBackward& p) {
  const double n = static_cast<double>(p.rows * p.cols), size = static_cast<double>(size_of(p.dtype));
  return {2 * n * size, n * size, 30 * n};
}

}  // namespace sinter::kernels
