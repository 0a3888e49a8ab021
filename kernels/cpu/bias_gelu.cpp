#include "kernels/bias_gelu.h"

#include <cmath>
#include <numbers>
#include <type_traits>

#include "kernels/base/families.h"
#include "kernels/base/stream.h"
#include "kernels/cpu/column_sum.h"
#include "kernels/cpu/gelu_fit.h"
#include "kernels/cpu/simd.h"
#include "kernels/cpu/vector_loop.h"

namespace sinter::kernels::cpu {
namespace {

/// Elements of one task of the forward.
constexpr std::int64_t kTaskElements = 16384;
/// Columns that one task of the backward walks along: its bias and its partial column sums stay in the first-level
/// cache. Fewer tasks with longer stretches are faster in memory, more of them balance better in cache.
constexpr std::int64_t kTaskColumns = 1024, kStreamedTaskColumns = 3072;
/// How far ahead of the arithmetic a backward that writes around the caches asks for its inputs; one that does not asks
/// for its next row. The forward gains nothing from asking.
constexpr std::int64_t kPrefetchElements = 384;
/// Vectors whose arithmetic overlaps: four, and two where the loads of the backward wait for memory.
constexpr int kGroup = 4, kStreamedBackwardGroup = 2;

double normal_cdf(double u) { return 0.5 * std::erfc(-u / std::numbers::sqrt2); }
double normal_density(double u) { return std::exp(-0.5 * u * u) * (std::numbers::inv_sqrtpi / std::numbers::sqrt2); }
template <int M>
Vectors<double, M> gelu(Vectors<double, M> u) {
  for (Vec<double>& v : u.v) v = v * by_lane(v, normal_cdf);
  return u;
}
template <int M>
Vectors<double, M> gelu_derivative(Vectors<double, M> u) {
  for (Vec<double>& v : u.v) v = fma(v, by_lane(v, normal_density), by_lane(v, normal_cdf));
  return u;
}

/// x + bias of consecutive vectors; a null bias is zero.
template <int M, class T, class Lanes>
Vectors<T, M> biased(const T* x, const T* bias, std::int64_t c, Lanes lanes) {
  Vectors<T, M> u;
  for (int m = 0; m < M; ++m) {
    u.v[m] = load(x + c + m * Vec<T>::size, lanes);
    if (bias != nullptr) u.v[m] = u.v[m] + load(bias + c + m * Vec<T>::size, lanes);
  }
  return u;
}

/// fn(constant M, c, lanes) for M consecutive vectors from column c: N where they fit, then one by one.
template <class T, int N, class Fn>
void for_vector_groups(std::int64_t begin, std::int64_t end, Fn&& fn) {
  std::int64_t c = begin;
  for (; c + N * Vec<T>::size <= end; c += N * Vec<T>::size) fn(std::integral_constant<int, N>{}, c, AllLanes{});
  for_vectors<T>(c, end, [&](std::int64_t i, auto lanes) { fn(std::integral_constant<int, 1>{}, i, lanes); });
}

/// fn(block, begin, end) for each block of kColumnSumRows rows and each range of `width` columns.
template <class Fn>
void parallel_tiles(Stream stream, std::int64_t rows, std::int64_t cols, std::int64_t width, Fn&& fn) {
  const std::int64_t ranges = (cols + width - 1) / width;
  parallel_tasks(stream, column_blocks(rows) * ranges, [&](std::int64_t task) {
    const std::int64_t begin = task % ranges * width;
    fn(task / ranges, begin, std::min(cols, begin + width));
  });
}

template <Stores S, class T>
void forward_rows(const BiasGelu& p, std::int64_t begin, std::int64_t end) {
  const auto* bias = static_cast<const T*>(p.bias);
  for (std::int64_t r = begin; r < end; ++r) {
    const T* x = static_cast<const T*>(p.x) + r * p.cols;
    T* y = static_cast<T*>(p.y) + r * p.cols;
    for_vector_groups<T, kGroup>(0, p.cols, [&]<int M>(std::integral_constant<int, M>, std::int64_t c, auto lanes) {
      const Vectors<T, M> result = gelu(biased<M>(x, bias, c, lanes));
      for (int m = 0; m < M; ++m) store<S>(y + c + m * Vec<T>::size, result.v[m], lanes);
    });
  }
  finish_stores<S>();
}

template <class T>
Status forward(const BiasGelu& p, Stream stream) {
  if (p.rows == 0) return {};
  const std::int64_t rows_per_task = std::max<std::int64_t>(1, kTaskElements / p.cols);
  with_stores(stores_for<T>(p.y, {p.x}, p.rows, p.cols), [&]<Stores S>(StoresTag<S>) {
    parallel_ranges(stream, p.rows, rows_per_task,
                    [&](std::int64_t begin, std::int64_t end) { forward_rows<S, T>(p, begin, end); });
  });
  return {};
}

/// One block of rows of the columns [begin, end), and its terms of dbias in `sums` unless that is null.
template <Stores S, class T>
void backward_tile(const BiasGeluBackward& p, std::int64_t block, std::int64_t begin, std::int64_t end, T* sums) {
  const auto* bias = static_cast<const T*>(p.bias);
  if (sums != nullptr) std::memset(sums + begin, 0, static_cast<std::size_t>(end - begin) * sizeof(T));
  constexpr int kVectors = S == Stores::around ? kStreamedBackwardGroup : kGroup;
  const std::int64_t ahead = S == Stores::around ? kPrefetchElements : p.cols;
  const std::int64_t last = std::min(p.rows, (block + 1) * kColumnSumRows);
  for (std::int64_t r = block * kColumnSumRows; r < last; ++r) {
    const T* x = static_cast<const T*>(p.x) + r * p.cols;
    const T* dy = static_cast<const T*>(p.dy) + r * p.cols;
    T* dx = static_cast<T*>(p.dx) + r * p.cols;
    for_vector_groups<T, kVectors>(begin, end, [&]<int M>(std::integral_constant<int, M>, std::int64_t c, auto lanes) {
      for (int m = 0; m < M; ++m) {
        prefetch(x + c + m * Vec<T>::size, ahead);
        prefetch(dy + c + m * Vec<T>::size, ahead);
      }
      const Vectors<T, M> derivative = gelu_derivative(biased<M>(x, bias, c, lanes));
      for (int m = 0; m < M; ++m) {
        const std::int64_t i = c + m * Vec<T>::size;
        const Vec<T> gradient = load(dy + i, lanes) * derivative.v[m];
        store<S>(dx + i, gradient, lanes);
        if (sums != nullptr) store(sums + i, load(sums + i, lanes) + gradient, lanes);
      }
    });
  }
  finish_stores<S>();
}

template <class T>
Status backward(const BiasGeluBackward& p, Stream stream) {
  auto* partial = static_cast<T*>(p.workspace);
  with_stores(stores_for<T>(p.dx, {p.dy, p.x}, p.rows, p.cols), [&]<Stores S>(StoresTag<S>) {
    constexpr std::int64_t kWidth = S == Stores::around ? kStreamedTaskColumns : kTaskColumns;
    parallel_tiles(stream, p.rows, p.cols, kWidth,
                   [&](std::int64_t block, std::int64_t begin, std::int64_t end) {
                     backward_tile<S, T>(p, block, begin, end,
                                         p.dbias == nullptr ? nullptr : partial + block * p.cols);
                   });
  });
  if (p.dbias != nullptr)
    add_column_blocks(stream, partial, column_blocks(p.rows), p.cols, static_cast<T*>(p.dbias));
  return {};
}

Status run_forward(const BiasGelu& p, Stream stream) {
  return p.dtype == Dtype::f32 ? forward<float>(p, stream) : forward<double>(p, stream);
}
Status run_backward(const BiasGeluBackward& p, Stream stream) {
  return p.dtype == Dtype::f32 ? backward<float>(p, stream) : backward<double>(p, stream);
}

template <class P>
Status check_cpu(const P& p) {
  if (p.dtype != Dtype::f32 && p.dtype != Dtype::f64) return unsupported("bias_gelu on the CPU takes f32 and f64");
  return check(p);
}

std::size_t backward_workspace(const BiasGeluBackward& p) {
  return p.dbias == nullptr ? 0 : static_cast<std::size_t>(column_blocks(p.rows) * p.cols) * size_of(p.dtype);
}

constexpr Variant forward_variants[] = {
    {"polynomial", "Phi is a polynomial (AVX-512: of its interval), no exp and no division", "selected always",
     erased_run<BiasGelu, run_forward>}};
constexpr Variant backward_variants[] = {{"polynomial", "the derivative of GELU is a polynomial, as in the forward",
                                          "selected always", erased_run<BiasGeluBackward, run_backward>}};
constexpr KernelEntry entries[] = {
    entry<BiasGelu, check_cpu<BiasGelu>>(forward_variants),
    entry<BiasGeluBackward, check_cpu<BiasGeluBackward>, backward_workspace>(backward_variants)};

}  // namespace

extern const Family bias_gelu_family;
const Family bias_gelu_family = family(entries);

}  // namespace sinter::kernels::cpu
