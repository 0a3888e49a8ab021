// Softmax cross-entropy against integer labels.
#pragma once

#include "kernels/base/dtype.h"
#include "kernels/base/kernel.h"

namespace sinter::kernels {

/// loss[n] = (1 - e) * (lse[n] - x[n, label[n]]) + e * (lse[n] - mean_c x[n, c]),   lse = log sum_c exp(x[n, c]),
/// e = label_smoothing; 0 for rows with label == ignore_index. x [rows, classes] contiguous, of dtype; labels i64
/// [rows]; loss, lse [rows] of computed_dtype(dtype). The CPU takes f32 and f64, CUDA all four. For a label outside
/// [0, classes) that is not ignore_index the CPU answers invalid_argument before it writes; on CUDA the kernel stops
/// itself.
struct CrossEntropy {
  static constexpr KernelId id = KernelId::cross_entropy;
  Dtype dtype = Dtype::f32;
  std::int64_t rows = 0, classes = 0;
  std::int64_t ignore_index = -100;
  double label_smoothing = 0;
  const void* x = nullptr;
  const std::int64_t* labels = nullptr;
  void* loss = nullptr;
  void* lse = nullptr;
};

/// dx[n, c] = dloss[n] * (exp(x - lse) - (1 - e) * [c == label] - e / classes); 0 for ignored rows. Overwrites.
/// dx is of dtype, dloss of computed_dtype(dtype); wrong labels as above.
struct CrossEntropyBackward {
  static constexpr KernelId id = KernelId::cross_entropy_backward;
  Dtype dtype = Dtype::f32;
  std::int64_t rows = 0, classes = 0;
  std::int64_t ignore_index = -100;
  double label_smoothing = 0;
  const void* dloss = nullptr;   ///< [rows]
  const void* x = nullptr;
  const std::int64_t* labels = nullptr;
  const void* lse = nullptr;
  void* dx = nullptr;
};

constexpr Status check(const CrossEntropy& p) {
  if (p.rows < 0 || p.classes < 1) return invalid("cross-entropy needs rows >= 0 and at least one class");
  if (!(p.label_smoothing >= 0 && p.label_smoothing <= 1)) return invalid("label_smoothing must lie in [0, 1]");
  return {};
}
constexpr Status check(const CrossEntropyBackward& p) {
  if (p.rows < 0 || p.classes < 1) return invalid("cross-entropy needs rows >= 0 and at least one class");
  return {};
}

/// ok when every label is a class or ignore_index. `labels` must be host memory here; kernels ask before they write.
template <class P>
constexpr Status check_labels(const P& p) {
  for (std::int64_t n = 0; n < p.rows; ++n)
    if (p.labels[n] != p.ignore_index && (p.labels[n] < 0 || p.labels[n] >= p.classes))
      return invalid("a label lies outside [0, classes) and is not ignore_index");
  return {};
}

constexpr Cost cost(const CrossEntropy& p) {
  const double n = static_cast<double>(p.rows * p.classes), size = static_cast<double>(size_of(p.dtype));
  const double rows = static_cast<double>(p.rows), vector_size = static_cast<double>(size_of(computed_dtype(p.dtype)));
  return {n * size + 8.0 * rows, 2 * rows * vector_size, 4 * n};
}
constexpr Cost cost(const CrossEntropyBackward& p) {
  const double n = static_cast<double>(p.rows * p.classes), size = static_cast<double>(size_of(p.dtype));
  const double rows = static_cast<double>(p.rows), vector_size = static_cast<double>(size_of(computed_dtype(p.dtype)));
  return {n * size + rows * (8.0 + 2 * vector_size), n * size, 4 * n};
}

}  // namespace sinter::kernels
