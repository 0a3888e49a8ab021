#include "kernels/bias_gelu.h"

#include <cmath>
#include <numbers>

#include "kernels/base/families.h"
#include "kernels/ref/element.h"

namespace sinter::kernels::ref {
namespace {

template <class P>
Status check_dtype(const P& p) {
  const Status floating = check_floating(p.dtype);
  return floating.ok() ? check(p) : floating;
}

template <class P>
double biased(const P& p, std::int64_t r, std::int64_t c) {
  return load(p.dtype, p.x, r * p.cols + c) + (p.bias == nullptr ? 0 : load(computed_dtype(p.dtype), p.bias, c));
}

/// Cumulative distribution function of the normal distribution; erfc keeps the relative accuracy of its lower tail.
double normal_cdf(double u) { return 0.5 * std::erfc(-u / std::numbers::sqrt2); }

double normal_density(double u) { return std::exp(-0.5 * u * u) * std::numbers::inv_sqrtpi / std::numbers::sqrt2; }

Status run_forward(const BiasGelu& p, Stream) {
  for (std::int64_t r = 0; r < p.rows; ++r)
    for (std::int64_t c = 0; c < p.cols; ++c) {
      const double u = biased(p, r, c);
      store(p.dtype, p.y, r * p.cols + c, u * normal_cdf(u));
    }
  return {};
}

Status run_backward(const BiasGeluBackward& p, Stream) {
  for (std::int64_t c = 0; c < p.cols; ++c) {
    double dbias = 0;
    for (std::int64_t r = 0; r < p.rows; ++r) {
      const double u = biased(p, r, c);
      const double dx = load(p.dtype, p.dy, r * p.cols + c) * (normal_cdf(u) + u * normal_density(u));
      store(p.dtype, p.dx, r * p.cols + c, dx);
      dbias += dx;
    }
    if (p.dbias != nullptr) store(computed_dtype(p.dtype), p.dbias, c, dbias);
  }
  return {};
}

constexpr Variant forward_variants[] = {
    {"naive", "erfc of libm", "the oracle of the tests", erased_run<BiasGelu, run_forward>}};
constexpr Variant backward_variants[] = {
    {"naive", "erfc and exp of libm", "the oracle of the tests", erased_run<BiasGeluBackward, run_backward>}};
constexpr KernelEntry entries[] = {entry<BiasGelu, check_dtype<BiasGelu>>(forward_variants),
                                   entry<BiasGeluBackward, check_dtype<BiasGeluBackward>>(backward_variants)};

}  // namespace

extern const Family bias_gelu_family;
const Family bias_gelu_family = family(entries);

}  // namespace sinter::kernels::ref
