// Rows of a layer normalisation and of its backward, shared by the kernels that contain one. A row's arithmetic is the
// same whichever rows are computed beside it.
#pragma once

#include <cmath>

#include "kernels/cpu/simd.h"
#include "kernels/cpu/vector_loop.h"

namespace sinter::kernels::cpu {

/// Rows computed together, by how results are written. Measured on Zen 4, 480 x 768, one thread: in cache four rows
/// hide the latency of each other's sums (forward 65 GB/s; two rows 60, one 54; backward 59, 56, 48). In memory one row
/// after the other is what the hardware's prefetcher and the write buffers follow (32768 x 768: forward 29 GB/s, two
/// rows 19, four 16; backward 26, 18, 18); asking for the next rows by instruction gained nothing in either place.
template <Stores S>
inline constexpr int kRowGroup = S == Stores::around ? 1 : 4;

/// Sums over [0, cols) for R rows: sum = add(sum, i, c, lanes) adds the terms of a vector of row i, 0 in lanes that do
/// not take part. Two accumulators a row: their order depends on cols alone, and R rows hide the latency of each
/// other's additions.
template <int R, class T, class Add>
inline void sum_rows(std::int64_t cols, T (&sums)[R], Add&& add) {
  constexpr std::int64_t size = Vec<T>::size;
  Vec<T> even[R], odd[R];
  for (int i = 0; i < R; ++i) even[i] = odd[i] = Vec<T>::all(0);
  std::int64_t c = 0;
  for (; c + 2 * size <= cols; c += 2 * size)
    for (int i = 0; i < R; ++i) {
      even[i] = add(even[i], i, c, AllLanes{});
      odd[i] = add(odd[i], i, c + size, AllLanes{});
    }
  for_vectors<T>(c, cols, [&](std::int64_t tail, auto lanes) {
    for (int i = 0; i < R; ++i) even[i] = add(even[i], i, tail, lanes);
  });
  for (int i = 0; i < R; ++i) sums[i] = reduce_add(even[i] + odd[i]);
}

/// Operands of a normalisation of rows. y may equal z. Null mean and rstd are not stored.
template <class T>
struct LayerNormRows {
  std::int64_t cols;
  double eps;
  const T* z;
  const T* gamma;
  const T* beta;
  T* y;
  T* mean;
  T* rstd;
};

/// y = (z - mean) * rstd * gamma + beta for rows r .. r + R - 1, which stay in the first-level cache between the
/// passes.
template <int R, Stores S, class T>
inline void layer_norm_rows(const LayerNormRows<T>& p, std::int64_t r) {
  const std::int64_t cols = p.cols;
  const T *const gamma = p.gamma, *const beta = p.beta, *const z = p.z + r * cols;
  T* const y = p.y + r * cols;
  const T count = static_cast<T>(cols);
  T mean[R], rstd[R];
  Vec<T> center[R], scale[R];
  sum_rows<R>(cols, mean, [&](Vec<T> sum, int i, std::int64_t c, auto lanes) {
    return sum + load(z + i * cols + c, lanes);
  });
  for (int i = 0; i < R; ++i) center[i] = Vec<T>::all(mean[i] /= count);
  sum_rows<R>(cols, rstd, [&](Vec<T> sum, int i, std::int64_t c, auto lanes) {
    const Vec<T> deviation = only(load(z + i * cols + c, lanes) - center[i], lanes);
    return fma(deviation, deviation, sum);
  });
  for (int i = 0; i < R; ++i) {
    rstd[i] = T{1} / std::sqrt(rstd[i] / count + static_cast<T>(p.eps));
    scale[i] = Vec<T>::all(rstd[i]);
  }
  for_vectors<T>(0, cols, [&](std::int64_t c, auto lanes) {
    const Vec<T> gain = load(gamma + c, lanes), shift = load(beta + c, lanes);
    for (int i = 0; i < R; ++i) {
      const Vec<T> xhat = (load(z + i * cols + c, lanes) - center[i]) * scale[i];
      store<S>(y + i * cols + c, fma(xhat, gain, shift), lanes);
    }
  });
  for (int i = 0; i < R; ++i) {
    if (p.mean != nullptr) p.mean[r + i] = mean[i];
    if (p.rstd != nullptr) p.rstd[r + i] = rstd[i];
  }
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

/// Rows r .. r + R - 1: `sink(i, c, lanes, dz)` receives the gradient of row r + i at column c (with compute_dz), and
/// the rows' terms are added to dgamma and dbeta in ascending order. R rows share the loads of gamma and of the
/// partial sums, and their chains of additions hide each other's latency.
template <int R, class T, class Sink>
inline void layer_norm_backward_rows(const LayerNormGradient<T>& p, std::int64_t r, bool compute_dz, Sink&& sink) {
  const std::int64_t cols = p.cols;
  const T* const gamma_row = p.gamma;
  T *const dgamma_sums = p.dgamma, *const dbeta_sums = p.dbeta;
  Vec<T> center[R], rstd[R], less_mean_g[R], less_mean_gx[R];
  const T *dy[R], *z[R];
  for (int i = 0; i < R; ++i) {
    center[i] = Vec<T>::all(p.mean[r + i]);
    rstd[i] = Vec<T>::all(p.rstd[r + i]);
    less_mean_g[i] = less_mean_gx[i] = Vec<T>::all(0);
    dy[i] = p.dy + (r + i) * cols;
    z[i] = p.z + (r + i) * cols;
  }
  if (compute_dz) {
    for_vectors<T>(0, cols, [&](std::int64_t c, auto lanes) {
      const Vec<T> gamma = load(gamma_row + c, lanes);
      for (int i = 0; i < R; ++i) {
        const Vec<T> g = load(dy[i] + c, lanes) * gamma;
        less_mean_g[i] = less_mean_g[i] + g;
        less_mean_gx[i] = fma(g, load(z[i] + c, lanes) - center[i], less_mean_gx[i]);
      }
    });
    for (int i = 0; i < R; ++i) {
      less_mean_g[i] = Vec<T>::all(-reduce_add(less_mean_g[i]) / static_cast<T>(cols));
      less_mean_gx[i] = Vec<T>::all(-reduce_add(less_mean_gx[i]) / static_cast<T>(cols)) * rstd[i];
    }
  }
  for_vectors<T>(0, cols, [&](std::int64_t c, auto lanes) {
    const Vec<T> gamma = load(gamma_row + c, lanes);
    Vec<T> dgamma = Vec<T>::all(0), dbeta = dgamma;
    if (dgamma_sums != nullptr) {
      dgamma = load(dgamma_sums + c, lanes);
      dbeta = load(dbeta_sums + c, lanes);
    }
    for (int i = 0; i < R; ++i) {
      const Vec<T> g = load(dy[i] + c, lanes);
      const Vec<T> xhat = (load(z[i] + c, lanes) - center[i]) * rstd[i];
      dgamma = fma(g, xhat, dgamma);
      dbeta = dbeta + g;
      if (compute_dz) sink(i, c, lanes, fma(xhat, less_mean_gx[i], g * gamma + less_mean_g[i]) * rstd[i]);
    }
    if (dgamma_sums != nullptr) {
      store(dgamma_sums + c, dgamma, lanes);
      store(dbeta_sums + c, dbeta, lanes);
    }
  });
}

}  // namespace sinter::kernels::cpu
