// Cross-entropy: one row at a time; many classes go in vectors, a few fill one masked vector.
#include "kernels/cross_entropy.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "kernels/base/families.h"
#include "kernels/cpu/simd.h"

namespace sinter::kernels::cpu {
namespace {

std::int64_t row_grain(std::int64_t classes) { return std::max<std::int64_t>(1, 16384 / classes); }

template <class T>
struct RowSums {
  T max, log_sum;   ///< lse = max + log_sum
  T mean_below;     ///< mean of x - max; sums of x itself would lose the digits of rows far from zero
};

template <class T>
RowSums<T> row_sums(const T* x, std::int64_t classes) {
  constexpr int W = Vec<T>::size;
  const Vec<T> lowest = Vec<T>::all(-std::numeric_limits<T>::infinity()), zero = Vec<T>::all(0);
  Vec<T> max_lanes = lowest;
  std::int64_t c = 0;
  for (; c + W <= classes; c += W) max_lanes = max(max_lanes, Vec<T>::load(x + c));
  const std::int64_t rest = classes - c;
  if (rest > 0) max_lanes = max(max_lanes, Vec<T>::load(x + c, rest).first_or(rest, lowest));
  const T row_max = reduce_max(max_lanes);
  const Vec<T> m = Vec<T>::all(row_max);
  Vec<T> sum = zero, below = zero;
  for (c = 0; c + W <= classes; c += W) {
    const Vec<T> z = Vec<T>::load(x + c) - m;
    below = below + z;
    sum = sum + exp(z);
  }
  if (rest > 0) {
    const Vec<T> z = Vec<T>::load(x + c, rest) - m;
    below = below + z.first_or(rest, zero);
    sum = sum + exp(z).first_or(rest, zero);
  }
  return {row_max, std::log(reduce_add(sum)), reduce_add(below) / static_cast<T>(classes)};
}

template <class T>
void forward(const CrossEntropy& p, Stream stream) {
  const T* x = static_cast<const T*>(p.x);
  T* loss = static_cast<T*>(p.loss);
  T* lse = static_cast<T*>(p.lse);
  const T e = static_cast<T>(p.label_smoothing);
  parallel_ranges(stream, p.rows, row_grain(p.classes), [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t n = begin; n < end; ++n) {
      const T* row = x + n * p.classes;
      const RowSums<T> s = row_sums(row, p.classes);
      lse[n] = s.max + s.log_sum;
      T value = 0;
      if (p.labels[n] != p.ignore_index) {
        // Terms with weight 0 are left out: an infinite logit would make them NaN.
        if (e < 1) value += (1 - e) * (s.log_sum - (row[p.labels[n]] - s.max));
        if (e > 0) value += e * (s.log_sum - s.mean_below);
      }
      loss[n] = value;
    }
  });
}

template <class T>
void backward_row(const T* x, T* dx, std::int64_t classes, T dloss, T lse, T everywhere) {
  constexpr int W = Vec<T>::size;
  const Vec<T> lse_lanes = Vec<T>::all(lse), factor = Vec<T>::all(dloss), shift = Vec<T>::all(everywhere);
  std::int64_t c = 0;
  for (; c + W <= classes; c += W) (factor * (exp(Vec<T>::load(x + c) - lse_lanes) - shift)).store(dx + c);
  if (c < classes) {
    const std::int64_t rest = classes - c;
    (factor * (exp(Vec<T>::load(x + c, rest) - lse_lanes) - shift)).store(dx + c, rest);
  }
}

template <class T>
void backward(const CrossEntropyBackward& p, Stream stream) {
  const T* dloss = static_cast<const T*>(p.dloss);
  const T* x = static_cast<const T*>(p.x);
  const T* lse = static_cast<const T*>(p.lse);
  T* dx = static_cast<T*>(p.dx);
  const T e = static_cast<T>(p.label_smoothing), everywhere = e / static_cast<T>(p.classes);
  parallel_ranges(stream, p.rows, row_grain(p.classes), [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t n = begin; n < end; ++n) {
      const T* row = x + n * p.classes;
      T* d_row = dx + n * p.classes;
      const std::int64_t label = p.labels[n];
      if (label == p.ignore_index) {
        std::fill(d_row, d_row + p.classes, T{0});
        continue;
      }
      backward_row(row, d_row, p.classes, dloss[n], lse[n], everywhere);
      const T probability = Vec<T>{exp(Vec<T>::all(row[label] - lse[n]))}.v[0];
      d_row[label] = dloss[n] * (probability - everywhere - (1 - e));
    }
  });
}

template <class P>
Status check_cpu(const P& p) {
  if (p.dtype != Dtype::f32 && p.dtype != Dtype::f64)
    return unsupported("cross-entropy on the CPU computes in f32 and f64");
  return check(p);
}

Status run_cross_entropy(const CrossEntropy& p, Stream stream) {
  if (const Status status = check_labels(p); !status.ok()) return status;
  p.dtype == Dtype::f32 ? forward<float>(p, stream) : forward<double>(p, stream);
  return {};
}

Status run_cross_entropy_backward(const CrossEntropyBackward& p, Stream stream) {
  if (const Status status = check_labels(p); !status.ok()) return status;
  p.dtype == Dtype::f32 ? backward<float>(p, stream) : backward<double>(p, stream);
  return {};
}

constexpr Variant cross_entropy_variants[] = {
    {"rows", "vectors along a row, masked tail, own exp", "the only one", erased_run<CrossEntropy, run_cross_entropy>}};
constexpr Variant cross_entropy_backward_variants[] = {
    {"rows", "vectors along a row, the label's element corrected afterwards", "the only one",
     erased_run<CrossEntropyBackward, run_cross_entropy_backward>}};

constexpr KernelEntry entries[] = {
    entry<CrossEntropy, check_cpu<CrossEntropy>>(cross_entropy_variants),
    entry<CrossEntropyBackward, check_cpu<CrossEntropyBackward>>(cross_entropy_backward_variants)};

}  // namespace

extern const Family cross_entropy_family;
const Family cross_entropy_family = family(entries);

}  // namespace sinter::kernels::cpu
