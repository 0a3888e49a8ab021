// Rows of a layer normalisation and of its backward, shared by the kernels that contain one. A row's arithmetic is the same
// whichever rows are computed beside it.
#pragma once

#include <cmath>

#include "kernels/cpu/simd.h"
#include "kernels/cpu/vector_loop.h"

namespace sinter::kernels::cpu {

/// y = (z - mean) * rstd * gamma + beta for one row, which stays in the first-level cache between the three passes.
/// y may equal z. Null mean and rstd are not stored.
template <class T>
inline void layer_norm_row(const T* z, const T* gamma, const T* beta, T* y, std::int64_t cols, double eps, T* mean,
                           T* rstd) {
  const T count = static_cast<T>(cols);
  const T row_mean = sum_vectors<T>(cols, [&](std::int64_t c, auto lanes) { return load(z + c, lanes); }) / count;
  const Vec<T> center = Vec<T>::all(row_mean);
  const T squares = sum_vectors<T>(cols, [&](std::int64_t c, auto lanes) {
    const Vec<T> deviation = only(load(z + c, lanes) - center, lanes);
    return deviation * deviation;
  });
  const T row_rstd = T{1} / std::sqrt(squares / count + static_cast<T>(eps));
  const Vec<T> scale = Vec<T>::all(row_rstd);
  for_vectors<T>(0, cols, [&](std::int64_t c, auto lanes) {
    const Vec<T> xhat = (load(z + c, lanes) - center) * scale;
    store(y + c, fma(xhat, load(gamma + c, lanes), load(beta + c, lanes)), lanes);
  });
  if (mean != nullptr) *mean = row_mean;
  if (rstd != nullptr) *rstd = row_rstd;
}

template <class T>
struct LayerNormGradient {
  std::int64_t cols;
  const T* dy;
  const T* z;
  const T* mean;
  const T* rstd;
  const T* gamma;
  T* dgamma;   ///< partial sums of the block of rows, already initialised; null: not computed
  T* dbeta;
};

/// Rows r .. r + R - 1: `sink(i, c, lanes, dz)` receives the gradient of row r + i at column c (with compute_dz), and the
/// rows' terms are added to dgamma and dbeta in ascending order. R rows share the loads of gamma and of the partial sums,
/// and their chains of additions hide each other's latency.
template <int R, class T, class Sink>
inline void layer_norm_backward_rows(const LayerNormGradient<T>& p, std::int64_t r, bool compute_dz, Sink&& sink) {
  Vec<T> center[R], rstd[R], mean_g[R], mean_gx[R];
  const T *dy[R], *z[R];
  for (int i = 0; i < R; ++i) {
    center[i] = Vec<T>::all(p.mean[r + i]);
    rstd[i] = Vec<T>::all(p.rstd[r + i]);
    mean_g[i] = mean_gx[i] = Vec<T>::all(0);
    dy[i] = p.dy + (r + i) * p.cols;
    z[i] = p.z + (r + i) * p.cols;
  }
  if (compute_dz) {
    for_vectors<T>(0, p.cols, [&](std::int64_t c, auto lanes) {
      const Vec<T> gamma = load(p.gamma + c, lanes);
      for (int i = 0; i < R; ++i) {
        const Vec<T> g = load(dy[i] + c, lanes) * gamma;
        mean_g[i] = mean_g[i] + g;
        mean_gx[i] = fma(g, (load(z[i] + c, lanes) - center[i]) * rstd[i], mean_gx[i]);
      }
    });
    for (int i = 0; i < R; ++i) {
      mean_g[i] = Vec<T>::all(reduce_add(mean_g[i]) / static_cast<T>(p.cols));
      mean_gx[i] = Vec<T>::all(reduce_add(mean_gx[i]) / static_cast<T>(p.cols));
    }
  }
  for_vectors<T>(0, p.cols, [&](std::int64_t c, auto lanes) {
    const Vec<T> gamma = load(p.gamma + c, lanes);
    Vec<T> dgamma = Vec<T>::all(0), dbeta = dgamma;
    if (p.dgamma != nullptr) {
      dgamma = load(p.dgamma + c, lanes);
      dbeta = load(p.dbeta + c, lanes);
    }
    for (int i = 0; i < R; ++i) {
      const Vec<T> g = load(dy[i] + c, lanes);
      const Vec<T> xhat = (load(z[i] + c, lanes) - center[i]) * rstd[i];
      dgamma = fma(g, xhat, dgamma);
      dbeta = dbeta + g;
      if (compute_dz) sink(i, c, lanes, (g * gamma - mean_g[i] - xhat * mean_gx[i]) * rstd[i]);
    }
    if (p.dgamma != nullptr) {
      store(p.dgamma + c, dgamma, lanes);
      store(p.dbeta + c, dbeta, lanes);
    }
  });
}

}  // namespace sinter::kernels::cpu
