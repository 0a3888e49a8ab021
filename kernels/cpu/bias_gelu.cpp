#include "kernels/bias_gelu.h"

#include <cmath>
#include <numbers>

#include "kernels/base/families.h"
#include "kernels/base/stream.h"
#include "kernels/cpu/column_sum.h"
#include "kernels/cpu/simd.h"
#include "kernels/cpu/vector_loop.h"

namespace sinter::kernels::cpu {
namespace {

/// Columns that one task walks along: its bias and its partial column sums stay in the first-level cache.
constexpr std::int64_t kTaskColumns = 1024;
/// Rows of one task of the forward.
constexpr std::int64_t kTaskRows = 16;

/// An odd function u * P(2 u^2 / limit^2 - 1), constant beyond |u| = limit. P is a minimax fit (Lawson's iteration in the
/// Chebyshev basis over u^2, then rounded to f32); the shifted argument lies in [-1, 1], which keeps its rounding harmless.
template <int N>
struct OddFit {
  float limit, scale;
  float c[N];
};

/// Phi(u) - 1/2. Largest error of the f32 evaluation 3.7e-7 of max(|u|, 1) after the product with u; it exceeds 1/2 at the
/// limit, so that with a clamp Phi is exactly 0 and 1 beyond it.
constexpr OddFit<13> kNormalCdf = {
    5.2f,
    7.396449894e-02f,
    {1.359499395e-01f, -6.774284691e-02f, 5.002869293e-02f, -3.995570540e-02f, 3.193262964e-02f, -2.449263446e-02f,
     1.823847368e-02f, -1.338409912e-02f, 7.933137007e-03f, -3.170233220e-03f, 2.432252280e-03f, -2.647119807e-03f,
     1.031382708e-03f}};

/// Phi(u) + u * phi(u) - 1/2, the derivative of GELU less 1/2. Largest error of the f32 evaluation 4.3e-7; exactly 1/2 at the
/// limit.
constexpr OddFit<16> kGeluDerivative = {
    5.6f,
    6.377550960e-02f,
    {1.264165789e-01f, -6.428290159e-02f, 5.181610957e-02f, -5.094723403e-02f, 5.650106817e-02f, -6.518480182e-02f,
     7.320133597e-02f, -7.216584682e-02f, 6.003801897e-02f, -5.588266999e-02f, 5.753126368e-02f, -3.216147423e-02f,
     1.844666316e-03f, -6.904593203e-03f, 1.623526774e-02f, -6.769071333e-03f}};

template <int N>
Vec<float> evaluate(const OddFit<N>& fit, Vec<float> u) {
  const Vec<float> inside = max(Vec<float>::all(-fit.limit), min(Vec<float>::all(fit.limit), u));
  const Vec<float> argument = fma(inside * inside, Vec<float>::all(fit.scale), Vec<float>::all(-1));
  return inside * polynomial(argument, fit.c);
}

Vec<float> gelu(Vec<float> u) {
  const Vec<float> half = Vec<float>::all(0.5f);
  return u * (half + max(Vec<float>::all(-0.5f), min(half, evaluate(kNormalCdf, u))));
}
Vec<float> gelu_derivative(Vec<float> u) { return Vec<float>::all(0.5f) + evaluate(kGeluDerivative, u); }

Vec<double> normal_cdf(Vec<double> u) {
  return by_lane(u, [](double x) { return 0.5 * std::erfc(-x / std::numbers::sqrt2); });
}
Vec<double> gelu(Vec<double> u) { return u * normal_cdf(u); }
Vec<double> gelu_derivative(Vec<double> u) {
  const Vec<double> density = by_lane(u, [](double x) {
    return std::exp(-0.5 * x * x) * (std::numbers::inv_sqrtpi / std::numbers::sqrt2);
  });
  return fma(u, density, normal_cdf(u));
}

/// x + bias; a null bias is zero.
template <class T, class Lanes>
Vec<T> biased(const T* x, const T* bias, std::int64_t c, Lanes lanes) {
  const Vec<T> value = load(x + c, lanes);
  return bias == nullptr ? value : value + load(bias + c, lanes);
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
  parallel_tiles(stream, p.rows, kTaskRows, p.cols, [&](std::int64_t block, std::int64_t begin, std::int64_t end) {
    const std::int64_t last = std::min(p.rows, (block + 1) * kTaskRows);
    for (std::int64_t r = block * kTaskRows; r < last; ++r) {
      const T* x = static_cast<const T*>(p.x) + r * p.cols;
      T* y = static_cast<T*>(p.y) + r * p.cols;
      for_vectors<T>(begin, end, [&](std::int64_t c, auto lanes) { store(y + c, gelu(biased(x, bias, c, lanes)), lanes); });
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
      for_vectors<T>(begin, end, [&](std::int64_t c, auto lanes) {
        const Vec<T> gradient = load(dy + c, lanes) * gelu_derivative(biased(x, bias, c, lanes));
        store(dx + c, gradient, lanes);
        if (sums != nullptr) store(sums + c, load(sums + c, lanes) + gradient, lanes);
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
    {"polynomial", "Phi is one odd polynomial, no exp and no division", "selected always", erased_run<BiasGelu, run_forward>}};
constexpr Variant backward_variants[] = {{"polynomial", "the derivative of GELU is one odd polynomial",
                                          "selected always", erased_run<BiasGeluBackward, run_backward>}};
constexpr KernelEntry entries[] = {
    entry<BiasGelu, check_cpu<BiasGelu>>(forward_variants),
    entry<BiasGeluBackward, check_cpu<BiasGeluBackward>, backward_workspace>(backward_variants)};

}  // namespace

extern const Family bias_gelu_family;
const Family bias_gelu_family = family(entries);

}  // namespace sinter::kernels::cpu
