// Softmax and log-softmax: one row at a time in vectors along the columns, the last one masked.
#include "kernels/softmax.h"

#include <cmath>
#include <limits>

#include "kernels/base/families.h"
#include "kernels/cpu/simd.h"

namespace sinter::kernels::cpu {
namespace {

/// Rows of one task: about 16 K elements, some tens of microseconds.
std::int64_t row_grain(std::int64_t cols) { return std::max<std::int64_t>(1, 16384 / std::max<std::int64_t>(1, cols)); }

template <class T>
T row_max(const T* x, std::int64_t cols) {
  constexpr int W = Vec<T>::size;
  const Vec<T> lowest = Vec<T>::all(-std::numeric_limits<T>::infinity());
  Vec<T> m = lowest;
  std::int64_t c = 0;
  for (; c + W <= cols; c += W) m = max(m, Vec<T>::load(x + c));
  if (c < cols) m = max(m, Vec<T>::load(x + c, cols - c).first_or(cols - c, lowest));
  return reduce_max(m);
}

template <class T>
void softmax_row(const T* x, T* y, std::int64_t cols) {
  constexpr int W = Vec<T>::size;
  const Vec<T> m = Vec<T>::all(row_max(x, cols));
  Vec<T> sum = Vec<T>::all(0);
  std::int64_t c = 0;
  for (; c + W <= cols; c += W) {
    const Vec<T> e = exp(Vec<T>::load(x + c) - m);
    e.store(y + c);
    sum = sum + e;
  }
  if (c < cols) {
    const Vec<T> e = exp(Vec<T>::load(x + c, cols - c) - m);
    e.store(y + c, cols - c);
    sum = sum + e.first_or(cols - c, Vec<T>::all(0));
  }
  const Vec<T> factor = Vec<T>::all(1 / reduce_add(sum));
  for (c = 0; c + W <= cols; c += W) (Vec<T>::load(y + c) * factor).store(y + c);
  if (c < cols) (Vec<T>::load(y + c, cols - c) * factor).store(y + c, cols - c);
}

template <class T>
void log_softmax_row(const T* x, T* y, std::int64_t cols) {
  constexpr int W = Vec<T>::size;
  const Vec<T> m = Vec<T>::all(row_max(x, cols));
  Vec<T> sum = Vec<T>::all(0);
  std::int64_t c = 0;
  for (; c + W <= cols; c += W) sum = sum + exp(Vec<T>::load(x + c) - m);
  if (c < cols) sum = sum + exp(Vec<T>::load(x + c, cols - c) - m).first_or(cols - c, Vec<T>::all(0));
  const Vec<T> log_sum = Vec<T>::all(std::log(reduce_add(sum)));
  for (c = 0; c + W <= cols; c += W) (Vec<T>::load(x + c) - m - log_sum).store(y + c);
  if (c < cols) (Vec<T>::load(x + c, cols - c) - m - log_sum).store(y + c, cols - c);
}

template <class T>
void softmax_backward_row(const T* dy, const T* y, T* dx, std::int64_t cols) {
  constexpr int W = Vec<T>::size;
  Vec<T> dot = Vec<T>::all(0);
  std::int64_t c = 0;
  for (; c + W <= cols; c += W) dot = fma(Vec<T>::load(dy + c), Vec<T>::load(y + c), dot);
  if (c < cols) dot = fma(Vec<T>::load(dy + c, cols - c), Vec<T>::load(y + c, cols - c), dot);
  const Vec<T> total = Vec<T>::all(reduce_add(dot));
  for (c = 0; c + W <= cols; c += W) (Vec<T>::load(y + c) * (Vec<T>::load(dy + c) - total)).store(dx + c);
  if (c < cols) {
    const std::int64_t n = cols - c;
    (Vec<T>::load(y + c, n) * (Vec<T>::load(dy + c, n) - total)).store(dx + c, n);
  }
}

template <class T>
void log_softmax_backward_row(const T* dy, const T* y, T* dx, std::int64_t cols) {
  constexpr int W = Vec<T>::size;
  Vec<T> sum = Vec<T>::all(0);
  std::int64_t c = 0;
  for (; c + W <= cols; c += W) sum = sum + Vec<T>::load(dy + c);
  if (c < cols) sum = sum + Vec<T>::load(dy + c, cols - c);
  const Vec<T> total = Vec<T>::all(reduce_add(sum));
  for (c = 0; c + W <= cols; c += W) (Vec<T>::load(dy + c) - exp(Vec<T>::load(y + c)) * total).store(dx + c);
  if (c < cols) {
    const std::int64_t n = cols - c;
    (Vec<T>::load(dy + c, n) - exp(Vec<T>::load(y + c, n)) * total).store(dx + c, n);
  }
}

template <class T>
void forward(const Softmax& p, Stream stream) {
  const T* x = static_cast<const T*>(p.x);
  T* y = static_cast<T*>(p.y);
  parallel_ranges(stream, p.rows, row_grain(p.cols), [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t r = begin; r < end; ++r) {
      const std::int64_t at = r * p.cols;
      p.log ? log_softmax_row(x + at, y + at, p.cols) : softmax_row(x + at, y + at, p.cols);
    }
  });
}

template <class T>
void backward(const SoftmaxBackward& p, Stream stream) {
  const T* dy = static_cast<const T*>(p.dy);
  const T* y = static_cast<const T*>(p.y);
  T* dx = static_cast<T*>(p.dx);
  parallel_ranges(stream, p.rows, row_grain(p.cols), [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t r = begin; r < end; ++r) {
      const std::int64_t at = r * p.cols;
      p.log ? log_softmax_backward_row(dy + at, y + at, dx + at, p.cols)
            : softmax_backward_row(dy + at, y + at, dx + at, p.cols);
    }
  });
}

template <class P>
Status check_cpu(const P& p) {
  if (p.dtype != Dtype::f32 && p.dtype != Dtype::f64) return unsupported("softmax on the CPU computes in f32 and f64");
  return check(p);
}

Status run_softmax(const Softmax& p, Stream stream) {
  p.dtype == Dtype::f32 ? forward<float>(p, stream) : forward<double>(p, stream);
  return {};
}

Status run_softmax_backward(const SoftmaxBackward& p, Stream stream) {
  p.dtype == Dtype::f32 ? backward<float>(p, stream) : backward<double>(p, stream);
  return {};
}

constexpr Variant softmax_variants[] = {
    {"rows", "vectors along a row, masked tail, own exp", "the only one", erased_run<Softmax, run_softmax>}};
constexpr Variant softmax_backward_variants[] = {{"rows", "vectors along a row, masked tail", "the only one",
                                                  erased_run<SoftmaxBackward, run_softmax_backward>}};

constexpr KernelEntry entries[] = {
    entry<Softmax, check_cpu<Softmax>>(softmax_variants),
    entry<SoftmaxBackward, check_cpu<SoftmaxBackward>>(softmax_backward_variants)};

}  // namespace

extern const Family softmax_family;
const Family softmax_family = family(entries);

}  // namespace sinter::kernels::cpu
