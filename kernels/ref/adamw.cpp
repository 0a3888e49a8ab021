#include "kernels/adamw.h"

#include <cmath>

#include "kernels/base/families.h"
#include "kernels/ref/element.h"

namespace sinter::kernels::ref {
namespace {

template <class P>
Status check_dtype(const P& p) {
  const Status floating = check_floating(p.dtype);
  return floating.ok() ? check(p) : floating;
}

bool has_low(const LowRanges& ranges, std::int64_t i) {
  bool low = false;
  end_of_side(ranges, i, i + 1, low);
  return low;
}

Status run_squared_norm(const SquaredNorm& p, Stream) {
  double sum = 0;
  bool nonfinite = false;
  for (std::int64_t i = 0; i < p.n; ++i) {
    if (lies_inside(p.table, i, i + 1) && p.table.touched[row_of(p.table, i)] == 0) continue;
    const bool low = p.low_x != nullptr && has_low(p.low_ranges, i);
    const double x = low ? load(p.low_dtype, p.low_x, i) : load(p.dtype, p.x, i);
    sum += x * x;
    nonfinite = nonfinite || !std::isfinite(x);
  }
  *p.sum = sum;
  if (p.nonfinite != nullptr) *p.nonfinite = nonfinite ? 1 : 0;
  return {};
}

void update(const AdamW& p, const AdamWCoefficients& k, double clip, std::int64_t i) {
  const bool low = has_low(p.low_ranges, i);
  const double g = (low && p.low_grad != nullptr ? load(p.low_dtype, p.low_grad, i) : load(p.dtype, p.grad, i)) * clip;
  const double decayed = load(p.dtype, p.param, i) * k.decay;
  const double old_m = load(p.dtype, p.exp_avg, i);
  const double m = old_m + (1 - p.beta1) * (g - old_m);
  const double v = p.beta2 * load(p.dtype, p.exp_avg_sq, i) + (1 - p.beta2) * g * g;
  const double denominator = std::sqrt(v) * k.inverse_root + p.eps;
  store(p.dtype, p.param, i, decayed - k.step_size * m / denominator);
  store(p.dtype, p.exp_avg, i, m);
  store(p.dtype, p.exp_avg_sq, i, v);
  if (p.low != nullptr && low) store(p.low_dtype, p.low, i, load(p.dtype, p.param, i));
}

Status run_adamw(const AdamW& p, Stream) {
  if (p.skip != nullptr && *p.skip != 0) return {};
  const double clip = p.clip == nullptr ? 1 : *p.clip;
  const TouchedRows& table = p.deferred.table;
  for (int k = 0; k < p.group_count; ++k)
    for (std::int64_t i = p.groups[k].begin; i < p.groups[k].end; ++i)
      if (!lies_inside(table, i, i + 1) || table.touched[row_of(table, i)] != 0) update(p, p.coefficients[k], clip, i);
  for (std::int64_t r = 0; table.touched != nullptr && r < table.rows; ++r)
    if (table.touched[r] != 0) p.deferred.current[r] = *p.deferred.step;
  return {};
}

constexpr Variant norm_variants[] = {
    {"naive", "one f64 sum", "the oracle of the tests", erased_run<SquaredNorm, run_squared_norm>}};
constexpr Variant adamw_variants[] = {
    {"naive", "the formula in f64", "the oracle of the tests", erased_run<AdamW, run_adamw>}};
constexpr KernelEntry entries[] = {entry<SquaredNorm, check_dtype<SquaredNorm>>(norm_variants),
                                   entry<AdamW, check_dtype<AdamW>>(adamw_variants)};

}  // namespace

extern const Family adamw_family;
const Family adamw_family = family(entries);

}  // namespace sinter::kernels::ref
