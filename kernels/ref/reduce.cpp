#include "kernels/reduce.h"

#include <cmath>

#include "kernels/base/entry.h"
#include "kernels/base/families.h"
#include "kernels/ref/element.h"
#include "kernels/ref/index.h"

namespace sinter::kernels::ref {
namespace {

/// Is x better than the best so far (max: larger, min: smaller)? The first NaN beats everything.
bool wins(ReduceOp op, double x, double best) {
  if (std::isnan(best)) return false;
  if (std::isnan(x)) return true;
  return op == ReduceOp::max ? x > best : x < best;
}

void reduce_floating(const Reduce& p, const Extents& inner, const Strides& inner_strides, std::int64_t from,
                     std::int64_t to) {
  double sum = 0, best = 0;
  for (std::int64_t k = 0; k < inner.count(); ++k) {
    const double x = load(p.dtype, p.in, from + offset(inner, inner_strides, k));
    sum += x;
    if (k == 0 || wins(p.op, x, best)) best = x;
  }
  store(p.dtype, p.out, to, p.op == ReduceOp::sum ? sum : best);
}

void reduce_integer(const Reduce& p, const Extents& inner, const Strides& inner_strides, std::int64_t from,
                    std::int64_t to) {
  std::uint64_t sum = 0;
  std::int64_t best = 0;
  for (std::int64_t k = 0; k < inner.count(); ++k) {
    const std::int64_t x = load_integer(p.dtype, p.in, from + offset(inner, inner_strides, k));
    sum += static_cast<std::uint64_t>(x);
    if (k == 0 || (p.op == ReduceOp::max ? x > best : x < best)) best = x;
  }
  const Dtype out = p.dtype == Dtype::boolean ? Dtype::i64 : p.dtype;
  store_integer(out, p.out, to, p.op == ReduceOp::sum ? static_cast<std::int64_t>(sum) : best);
}

Status run_reduce(const Reduce& p, Stream) {
  Extents outer, inner;
  Strides outer_strides, inner_strides;
  for (int d = 0; d < p.extents.rank; ++d) {
    const bool reduced = (p.reduced >> d & 1u) != 0;
    Extents& extents = reduced ? inner : outer;
    (reduced ? inner_strides : outer_strides).step[extents.rank] = p.in_strides.step[d];
    extents.size[extents.rank++] = p.extents.size[d];
  }
  for (std::int64_t i = 0; i < outer.count(); ++i) {
    const std::int64_t from = offset(outer, outer_strides, i);
    if (is_floating(p.dtype))
      reduce_floating(p, inner, inner_strides, from, i);
    else
      reduce_integer(p, inner, inner_strides, from, i);
  }
  return {};
}

Status run_arg_reduce(const ArgReduce& p, Stream) {
  for (std::int64_t o = 0; o < p.outer; ++o)
    for (std::int64_t i = 0; i < p.inner; ++i) {
      std::int64_t best = 0;
      for (std::int64_t j = 1; j < p.n; ++j) {
        const std::int64_t x = (o * p.n + j) * p.inner + i, y = (o * p.n + best) * p.inner + i;
        const bool better = is_floating(p.dtype)
                                ? wins(ReduceOp::max, load(p.dtype, p.in, x), load(p.dtype, p.in, y))
                                : load_integer(p.dtype, p.in, x) > load_integer(p.dtype, p.in, y);
        if (better) best = j;
      }
      p.out[o * p.inner + i] = best;
    }
  return {};
}

Status supports_reduce(const Reduce& p) {
  if (p.dtype == Dtype::u8 || (p.dtype == Dtype::boolean && p.op != ReduceOp::sum))
    return unsupported("this reduction has no such dtype");
  return check(p);
}

Status supports_arg_reduce(const ArgReduce& p) {
  if (p.dtype == Dtype::u8 || p.dtype == Dtype::boolean) return unsupported("argmax has no such dtype");
  return check(p);
}

constexpr Variant reduce_variants[] = {{"naive", "one element after the other", "the oracle",
                                        erased_run<Reduce, run_reduce>}};
constexpr Variant arg_reduce_variants[] = {{"naive", "one element after the other", "the oracle",
                                            erased_run<ArgReduce, run_arg_reduce>}};
constexpr KernelEntry entries[] = {entry<Reduce, supports_reduce>(reduce_variants),
                                   entry<ArgReduce, supports_arg_reduce>(arg_reduce_variants)};

}  // namespace

extern const Family reduce_family;
const Family reduce_family = family(entries);

}  // namespace sinter::kernels::ref
