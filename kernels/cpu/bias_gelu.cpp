#include "kernels/bias_gelu.h"

#include <cmath>
#include <numbers>
#include <type_traits>

#include "kernels/base/families.h"
#include "kernels/base/stream.h"
#include "kernels/cpu/column_sum.h"
#include "kernels/cpu/simd.h"
#include "kernels/cpu/vector_loop.h"

namespace sinter::kernels::cpu {
namespace {

/// Elements of one task of the forward.
constexpr std::int64_t kTaskElements = 16384;
/// Columns that one task of the backward walks along: its bias and its partial column sums stay in the first-level
/// cache.
constexpr std::int64_t kTaskColumns = 1024;

/// An odd function u * P(2 u^2 / limit^2 - 1), constant beyond |u| = limit. P is our own minimax fit (Lawson's
/// iteration in the Chebyshev basis over u^2, then rounded to f32); the shifted argument lies in [-1, 1], which keeps
/// its rounding harmless.
template <int N>
struct OddFit {
  float limit, scale;
  float c[N];
};

/// Phi(u) - 1/2. Largest error of the f32 evaluation 3.7e-7 of max(|u|, 1) after the product with u; it exceeds 1/2 at
/// the limit, so that with a clamp Phi is exactly 0 and 1 beyond it.
constexpr OddFit<13> kNormalCdf = {
    5.2f,
    7.396449894e-02f,
    {1.359499395e-01f, -6.774284691e-02f, 5.002869293e-02f, -3.995570540e-02f, 3.193262964e-02f, -2.449263446e-02f,
     1.823847368e-02f, -1.338409912e-02f, 7.933137007e-03f, -3.170233220e-03f, 2.432252280e-03f, -2.647119807e-03f,
     1.031382708e-03f}};

/// Phi(u) + u * phi(u) - 1/2, the derivative of GELU less 1/2. Largest error of the f32 evaluation 4.3e-7; exactly 1/2
/// at the limit.
constexpr OddFit<16> kGeluDerivative = {
    5.6f,
    6.377550960e-02f,
    {1.264165789e-01f, -6.428290159e-02f, 5.181610957e-02f, -5.094723403e-02f, 5.650106817e-02f, -6.518480182e-02f,
     7.320133597e-02f, -7.216584682e-02f, 6.003801897e-02f, -5.588266999e-02f, 5.753126368e-02f, -3.216147423e-02f,
     1.844666316e-03f, -6.904593203e-03f, 1.623526774e-02f, -6.769071333e-03f}};

/// Several vectors at once: their chains of multiply-adds hide each other's latency.
template <class T, int M>
struct Vectors {
  Vec<T> v[M];
};

template <int N, int M>
Vectors<float, M> evaluate(const OddFit<N>& fit, const Vectors<float, M>& u) {
  Vectors<float, M> inside, argument, sum;
  for (int m = 0; m < M; ++m) {
    inside.v[m] = max(Vec<float>::all(-fit.limit), min(Vec<float>::all(fit.limit), u.v[m]));
    argument.v[m] = fma(inside.v[m] * inside.v[m], Vec<float>::all(fit.scale), Vec<float>::all(-1));
    sum.v[m] = Vec<float>::all(fit.c[N - 1]);
  }
#pragma GCC unroll 16
  for (int k = N - 2; k >= 0; --k)
    for (int m = 0; m < M; ++m) sum.v[m] = fma(sum.v[m], argument.v[m], Vec<float>::all(fit.c[k]));
  for (int m = 0; m < M; ++m) sum.v[m] = inside.v[m] * sum.v[m];
  return sum;
}

template <int M>
Vectors<float, M> gelu(const Vectors<float, M>& u) {
  const Vec<float> half = Vec<float>::all(0.5f);
  Vectors<float, M> y = evaluate(kNormalCdf, u);
  for (int m = 0; m < M; ++m) y.v[m] = u.v[m] * (half + max(Vec<float>::all(-0.5f), min(half, y.v[m])));
  return y;
}
template <int M>
Vectors<float, M> gelu_derivative(const Vectors<float, M>& u) {
  Vectors<float, M> derivative = evaluate(kGeluDerivative, u);
  for (Vec<float>& v : derivative.v) v = Vec<float>::all(0.5f) + v;
  return derivative;
}

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

/// fn(constant M, c, lanes) for M consecutive vectors from column c: four where they fit, then one by one.
template <class T, class Fn>
void for_vector_groups(std::int64_t begin, std::int64_t end, Fn&& fn) {
  constexpr int kGroup = 4;
  std::int64_t c = begin;
  for (; c + kGroup * Vec<T>::size <= end; c += kGroup * Vec<T>::size)
    fn(std::integral_constant<int, kGroup>{}, c, AllLanes{});
  for_vectors<T>(c, end, [&](std::int64_t i, auto lanes) { fn(std::integral_constant<int, 1>{}, i, lanes); });
}

/// fn(block, begin, end) for each block of `rows_per_block` rows and each range of columns.
template <class Fn>
void parallel_tiles(Stream stream, std::int64_t rows, std::int64_t rows_per_block, std::int64_t cols, Fn&& fn) {
  const std::int64_t blocks = (rows + rows_per_block - 1) / rows_per_block;
  const std::int64_t ranges = (cols + kTaskColumns - 1) / kTaskColumns;
  parallel_tasks(stream, blocks * ranges, [&](std::int64_t task) {
    const std::int64_t begin = task % ranges * kTaskColumns;
    fn(task / ranges, begin, std::min(cols, begin + kTaskColumns));
  });
}

template <class T>
Status forward(const BiasGelu& p, Stream stream) {
  const auto* bias = static_cast<const T*>(p.bias);
  if (p.rows == 0) return {};
  const std::int64_t rows_per_task = std::max<std::int64_t>(1, kTaskElements / p.cols);
  parallel_ranges(stream, p.rows, rows_per_task, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t r = begin; r < end; ++r) {
      const T* x = static_cast<const T*>(p.x) + r * p.cols;
      T* y = static_cast<T*>(p.y) + r * p.cols;
      for_vector_groups<T>(0, p.cols, [&]<int M>(std::integral_constant<int, M>, std::int64_t c, auto lanes) {
        const Vectors<T, M> result = gelu(biased<M>(x, bias, c, lanes));
        for (int m = 0; m < M; ++m) store(y + c + m * Vec<T>::size, result.v[m], lanes);
      });
    }
  });
  return {};
}

template <class T>
Status backward(const BiasGeluBackward& p, Stream stream) {
  const auto* bias = static_cast<const T*>(p.bias);
  auto* partial = static_cast<T*>(p.workspace);
  const std::int64_t rows_per_block = kColumnSumRows;
  parallel_tiles(stream, p.rows, rows_per_block, p.cols, [&](std::int64_t block, std::int64_t begin, std::int64_t end) {
    T* sums = p.dbias == nullptr ? nullptr : partial + block * p.cols;
    if (sums != nullptr) std::memset(sums + begin, 0, static_cast<std::size_t>(end - begin) * sizeof(T));
    const std::int64_t last = std::min(p.rows, (block + 1) * rows_per_block);
    for (std::int64_t r = block * rows_per_block; r < last; ++r) {
      const T* x = static_cast<const T*>(p.x) + r * p.cols;
      const T* dy = static_cast<const T*>(p.dy) + r * p.cols;
      T* dx = static_cast<T*>(p.dx) + r * p.cols;
      for_vector_groups<T>(begin, end, [&]<int M>(std::integral_constant<int, M>, std::int64_t c, auto lanes) {
        const Vectors<T, M> derivative = gelu_derivative(biased<M>(x, bias, c, lanes));
        for (int m = 0; m < M; ++m) {
          const std::int64_t i = c + m * Vec<T>::size;
          const Vec<T> gradient = load(dy + i, lanes) * derivative.v[m];
          store(dx + i, gradient, lanes);
          if (sums != nullptr) store(sums + i, load(sums + i, lanes) + gradient, lanes);
        }
      });
    }
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
    {"polynomial", "Phi is one odd polynomial, no exp and no division", "selected always",
     erased_run<BiasGelu, run_forward>}};
constexpr Variant backward_variants[] = {{"polynomial", "the derivative of GELU is one odd polynomial",
                                          "selected always", erased_run<BiasGeluBackward, run_backward>}};
constexpr KernelEntry entries[] = {
    entry<BiasGelu, check_cpu<BiasGelu>>(forward_variants),
    entry<BiasGeluBackward, check_cpu<BiasGeluBackward>, backward_workspace>(backward_variants)};

}  // namespace

extern const Family bias_gelu_family;
const Family bias_gelu_family = family(entries);

}  // namespace sinter::kernels::cpu
