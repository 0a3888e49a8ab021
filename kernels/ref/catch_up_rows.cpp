#include "kernels/catch_up_rows.h"

#include <cmath>

#include "kernels/base/families.h"
#include "kernels/ref/element.h"

namespace sinter::kernels::ref {
namespace {

Status check_dtype(const CatchUpRows& p) {
  const Status floating = check_floating(p.dtype);
  return floating.ok() ? check(p) : floating;
}

void take_step(const CatchUpRows& p, const AdamWCoefficients& k, std::int64_t i) {
  const double m = p.beta1 * load(p.dtype, p.exp_avg, i), v = p.beta2 * load(p.dtype, p.exp_avg_sq, i);
  const double param = load(p.dtype, p.param, i) * k.decay;
  store(p.dtype, p.param, i, param - k.step_size * m / (std::sqrt(v) * k.inverse_root + p.eps));
  store(p.dtype, p.exp_avg, i, m);
  store(p.dtype, p.exp_avg_sq, i, v);
}

Status run_catch_up(const CatchUpRows& p, Stream) {
  for (std::int64_t j = 0; j < (p.ids == nullptr ? p.rows : p.n); ++j) {
    const std::int64_t row = p.ids == nullptr ? j : p.ids[j];
    if (row < 0 || row >= p.rows) return invalid("ids: every index must lie in [0, rows)");
    for (std::int64_t s = p.current[row] + 1; s <= *p.step; ++s)
      for (std::int64_t i = row * p.cols; i < (row + 1) * p.cols; ++i)
        take_step(p, p.history[s % p.history_size * p.history_stride], i);
    for (std::int64_t i = row * p.cols; i < (row + 1) * p.cols && p.current[row] < *p.step; ++i)
      if (p.low != nullptr) store(p.low_dtype, p.low, i, load(p.dtype, p.param, i));
    p.current[row] = *p.step;
  }
  return {};
}

constexpr Variant variants[] = {{"naive", "the formula in f64, one step and one element after the other",
                                 "the oracle of the tests", erased_run<CatchUpRows, run_catch_up>}};
constexpr KernelEntry entries[] = {entry<CatchUpRows, check_dtype>(variants)};

}  // namespace

extern const Family catch_up_rows_family;
const Family catch_up_rows_family = family(entries);

}  // namespace sinter::kernels::ref
