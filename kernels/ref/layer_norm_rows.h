// Layer normalisation of one row in f64, shared by the reference kernels that contain one.
#pragma once

#include <cmath>

#include "kernels/ref/element.h"

namespace sinter::kernels::ref {

/// The operands of a layer normalisation whose input row was stored at `z`. Null mean and rstd are not stored.
struct LayerNormRows {
  Dtype dtype;
  std::int64_t cols;
  double eps;
  const void* z;
  const void* gamma;
  const void* beta;
  void* y;
  void* mean;
  void* rstd;
};

inline void layer_norm_row(const LayerNormRows& p, std::int64_t r) {
  double sum = 0;
  for (std::int64_t c = 0; c < p.cols; ++c) sum += load(p.dtype, p.z, r * p.cols + c);
  const double mean = sum / static_cast<double>(p.cols);
  double squares = 0;
  for (std::int64_t c = 0; c < p.cols; ++c) {
    const double deviation = load(p.dtype, p.z, r * p.cols + c) - mean;
    squares += deviation * deviation;
  }
  const double rstd = 1 / std::sqrt(squares / static_cast<double>(p.cols) + p.eps);
  const Dtype vectors = computed_dtype(p.dtype);
  for (std::int64_t c = 0; c < p.cols; ++c) {
    const double xhat = (load(p.dtype, p.z, r * p.cols + c) - mean) * rstd;
    store(p.dtype, p.y, r * p.cols + c, xhat * load(vectors, p.gamma, c) + load(vectors, p.beta, c));
  }
  if (p.mean != nullptr) store(vectors, p.mean, r, mean);
  if (p.rstd != nullptr) store(vectors, p.rstd, r, rstd);
}

/// The backward of a row. `dy(c)` is the gradient of the row's output, `dz(c, value)` receives that of its input.
struct LayerNormRowsBackward {
  Dtype dtype;
  std::int64_t cols;
  const void* z;
  const void* mean;
  const void* rstd;
  const void* gamma;

  double xhat(std::int64_t r, std::int64_t c) const {
    const Dtype statistics = computed_dtype(dtype);
    return (load(dtype, z, r * cols + c) - load(statistics, mean, r)) * load(statistics, rstd, r);
  }

  template <class Dy, class Dz>
  void row(std::int64_t r, Dy&& dy, Dz&& dz) const {
    double sum = 0, product = 0;
    for (std::int64_t c = 0; c < cols; ++c) {
      const double g = dy(c) * load(computed_dtype(dtype), gamma, c);
      sum += g;
      product += g * xhat(r, c);
    }
    const double n = static_cast<double>(cols);
    const double rstd_r = load(computed_dtype(dtype), rstd, r);
    for (std::int64_t c = 0; c < cols; ++c) {
      const double g = dy(c) * load(computed_dtype(dtype), gamma, c);
      dz(c, rstd_r * (g - sum / n - xhat(r, c) * product / n));
    }
  }
};

}  // namespace sinter::kernels::ref
