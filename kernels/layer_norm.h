// Layer normalisation over the last dimension, alone and with the sum that stands before it in a post-LN encoder.
//
// Matrices are of `dtype`; vectors (gamma, beta, bias, mean, rstd, the gradients of columns) of computed_dtype(dtype),
// that is f32 beside f16 and bf16. The CPU computes f32 and f64, CUDA all four.
#pragma once

#include "kernels/base/column_blocks.h"
#include "kernels/base/dtype.h"
#include "kernels/base/kernel.h"
#include "kernels/base/philox.h"

namespace sinter::kernels {

/// y[n, h] = (x[n, h] - mean[n]) * rstd[n] * gamma[h] + beta[h],   rstd = 1 / sqrt(biased variance + eps).
/// x, y [rows, cols] contiguous; gamma, beta [cols]; mean, rstd [rows] are outputs for the backward (null: not stored).
/// Statistics by two passes over the row (mean first), in f32 (f64 for f64). Per-row, so batch-invariant.
struct LayerNorm {
  static constexpr KernelId id = KernelId::layer_norm;
  Dtype dtype = Dtype::f32;
  std::int64_t rows = 0, cols = 0;
  double eps = 1e-12;
  const void* x = nullptr;
  const void* gamma = nullptr;
  const void* beta = nullptr;
  void* y = nullptr;
  void* mean = nullptr;
  void* rstd = nullptr;
};

/// With xhat = (x - mean) * rstd and g = dy * gamma:
///   dx = rstd * (g - mean_h(g) - xhat * mean_h(g * xhat))         (overwrites)
///   dgamma[h] = sum_n dy * xhat,  dbeta[h] = sum_n dy              (overwrite)
/// Any of dx, dgamma, dbeta may be null: not computed (dgamma and dbeta: both or neither).
/// Column sums: fixed blocks of 64 rows, partial sums in the workspace, added in an order that the shape alone decides.
/// workspace: 2 * ceil(rows / 64) * cols elements of computed_dtype(dtype).
struct LayerNormBackward {
  static constexpr KernelId id = KernelId::layer_norm_backward;
  Dtype dtype = Dtype::f32;
  std::int64_t rows = 0, cols = 0;
  const void* dy = nullptr;
  const void* x = nullptr;
  const void* mean = nullptr;
  const void* rstd = nullptr;
  const void* gamma = nullptr;
  void* dx = nullptr;
  void* dgamma = nullptr;
  void* dbeta = nullptr;
  void* workspace = nullptr;
};

/// z = dropout(x + bias) + residual, rounded to dtype;  y = LayerNorm(z).   One pass over the row.
/// x, residual, z, y [rows, cols]; bias, gamma, beta [cols]; mean, rstd [rows]; z is an output kept for the backward.
/// Null z, mean, rstd: not kept.
/// Dropout decisions after base/philox.h with RowMap `map`; dropout.threshold = 0 turns it off.
struct BiasDropoutResidualLayerNorm {
  static constexpr KernelId id = KernelId::bias_dropout_residual_layer_norm;
  Dtype dtype = Dtype::f32;
  std::int64_t rows = 0, cols = 0;
  double eps = 1e-12;
  Dropout16 dropout;
  RowMap map;
  const void* x = nullptr;
  const void* bias = nullptr;      ///< may be null: no bias
  const void* residual = nullptr;
  const void* gamma = nullptr;
  const void* beta = nullptr;
  void* z = nullptr;
  void* y = nullptr;
  void* mean = nullptr;
  void* rstd = nullptr;
};

/// dz from LayerNorm's backward at z; dresidual = dz; dx = dropout'(dz) (same decisions); dbias[h] = sum_n dx;
/// dgamma, dbeta as LayerNormBackward. All overwrite. Any of dbias, dgamma, dbeta may be null. Without dropout dx may
/// be null or equal dresidual: then only dresidual is written. dx and dbias stem from dz before its rounding to dtype.
/// workspace: 3 * ceil(rows / 64) * cols elements of computed_dtype(dtype).
struct BiasDropoutResidualLayerNormBackward {
  static constexpr KernelId id = KernelId::bias_dropout_residual_layer_norm_backward;
  Dtype dtype = Dtype::f32;
  std::int64_t rows = 0, cols = 0;
  Dropout16 dropout;
  RowMap map;
  const void* dy = nullptr;
  const void* z = nullptr;
  const void* mean = nullptr;
  const void* rstd = nullptr;
  const void* gamma = nullptr;
  void* dx = nullptr;
  void* dresidual = nullptr;
  void* dbias = nullptr;
  void* dgamma = nullptr;
  void* dbeta = nullptr;
  void* workspace = nullptr;
};

constexpr Status check_rows_cols(std::int64_t rows, std::int64_t cols) {
  if (rows < 0 || cols < 0) return invalid("rows and cols must not be negative");
  if (cols == 0 && rows > 0) return invalid("a row must have at least one element");
  return {};
}
constexpr Status check(const LayerNorm& p) { return check_rows_cols(p.rows, p.cols); }
constexpr Status check(const LayerNormBackward& p) {
  if ((p.dgamma == nullptr) != (p.dbeta == nullptr)) return invalid("dgamma and dbeta: give both or neither");
  return check_rows_cols(p.rows, p.cols);
}
constexpr Status check(const BiasDropoutResidualLayerNorm& p) {
  if (p.dropout.active() && p.dropout.step == nullptr) return invalid("dropout needs the global step");
  return check_rows_cols(p.rows, p.cols);
}
constexpr Status check(const BiasDropoutResidualLayerNormBackward& p) {
  if (p.dropout.active() && p.dropout.step == nullptr) return invalid("dropout needs the global step");
  if (p.dropout.active() && p.rows > 0 && (p.dx == nullptr || p.dx == p.dresidual))
    return invalid("with dropout dx needs its own memory");
  return check_rows_cols(p.rows, p.cols);
}

constexpr Cost cost(const LayerNorm& p) {
  const double n = static_cast<double>(p.rows * p.cols), size = static_cast<double>(size_of(p.dtype));
  return {n * size, n * size, 8 * n};
}
constexpr Cost cost(const LayerNormBackward& p) {
  const double n = static_cast<double>(p.rows * p.cols), size = static_cast<double>(size_of(p.dtype));
  return {2 * n * size, p.dx != nullptr ? n * size : 0, 14 * n};
}
constexpr Cost cost(const BiasDropoutResidualLayerNorm& p) {
  const double n = static_cast<double>(p.rows * p.cols), size = static_cast<double>(size_of(p.dtype));
  return {2 * n * size, 2 * n * size, 11 * n};
}
constexpr Cost cost(const BiasDropoutResidualLayerNormBackward& p) {
  const double n = static_cast<double>(p.rows * p.cols), size = static_cast<double>(size_of(p.dtype));
  return {2 * n * size, (p.dropout.active() ? 2 : 1) * n * size, 16 * n};
}

}  // namespace sinter::kernels
