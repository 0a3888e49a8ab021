#include "kernels/cross_entropy.h"

#include <algorithm>
#include <cmath>

#include "kernels/base/families.h"
#include "kernels/ref/element.h"

namespace sinter::kernels::ref {
namespace {

Status run_cross_entropy(const CrossEntropy& p, Stream) {
  if (const Status status = check_labels(p); !status.ok()) return status;
  const double e = p.label_smoothing;
  for (std::int64_t n = 0; n < p.rows; ++n) {
    const auto x = [&](std::int64_t c) { return load(p.dtype, p.x, n * p.classes + c); };
    double max = x(0);
    for (std::int64_t c = 1; c < p.classes; ++c) max = std::max(max, x(c));
    double sum = 0, mean = 0;
    for (std::int64_t c = 0; c < p.classes; ++c) {
      sum += std::exp(x(c) - max);
      mean += x(c) / static_cast<double>(p.classes);
    }
    const double lse = max + std::log(sum);
    const bool ignored = p.labels[n] == p.ignore_index;
    store(computed_dtype(p.dtype), p.lse, n, lse);
    double loss = 0;
    if (!ignored && e < 1) loss += (1 - e) * (lse - x(p.labels[n]));
    if (!ignored && e > 0) loss += e * (lse - mean);
    store(computed_dtype(p.dtype), p.loss, n, loss);
  }
  return {};
}

Status run_cross_entropy_backward(const CrossEntropyBackward& p, Stream) {
  if (const Status status = check_labels(p); !status.ok()) return status;
  const double e = p.label_smoothing;
  for (std::int64_t n = 0; n < p.rows; ++n) {
    const Dtype vectors = computed_dtype(p.dtype);
    const double dloss = load(vectors, p.dloss, n), lse = load(vectors, p.lse, n);
    for (std::int64_t c = 0; c < p.classes; ++c) {
      const double target = (c == p.labels[n] ? 1 - e : 0) + e / static_cast<double>(p.classes);
      const double dx = dloss * (std::exp(load(p.dtype, p.x, n * p.classes + c) - lse) - target);
      store(p.dtype, p.dx, n * p.classes + c, p.labels[n] == p.ignore_index ? 0 : dx);
    }
  }
  return {};
}

template <class P>
Status check_ref(const P& p) {
  if (!is_floating(p.dtype)) return unsupported("cross-entropy needs a floating dtype");
  return check(p);
}

constexpr Variant cross_entropy_variants[] = {
    {"naive", "the formula", "the oracle", erased_run<CrossEntropy, run_cross_entropy>}};
constexpr Variant cross_entropy_backward_variants[] = {
    {"naive", "the formula", "the oracle", erased_run<CrossEntropyBackward, run_cross_entropy_backward>}};

constexpr KernelEntry entries[] = {
    entry<CrossEntropy, check_ref<CrossEntropy>>(cross_entropy_variants),
    entry<CrossEntropyBackward, check_ref<CrossEntropyBackward>>(cross_entropy_backward_variants)};

}  // namespace

extern const Family cross_entropy_family;
const Family cross_entropy_family = family(entries);

}  // namespace sinter::kernels::ref
