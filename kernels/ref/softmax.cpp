#include "kernels/softmax.h"

#include <cmath>

#include "kernels/base/families.h"
#include "kernels/ref/element.h"

namespace sinter::kernels::ref {
namespace {

Status run_softmax(const Softmax& p, Stream) {
  for (std::int64_t r = 0; r < p.rows; ++r) {
    const auto x = [&](std::int64_t c) { return load(p.dtype, p.x, r * p.cols + c); };
    double max = x(0);
    for (std::int64_t c = 1; c < p.cols; ++c) max = std::max(max, x(c));
    double sum = 0;
    for (std::int64_t c = 0; c < p.cols; ++c) sum += std::exp(x(c) - max);
    for (std::int64_t c = 0; c < p.cols; ++c)
      store(p.dtype, p.y, r * p.cols + c, p.log ? x(c) - max - std::log(sum) : std::exp(x(c) - max) / sum);
  }
  return {};
}

Status run_softmax_backward(const SoftmaxBackward& p, Stream) {
  for (std::int64_t r = 0; r < p.rows; ++r) {
    const auto dy = [&](std::int64_t c) { return load(p.dtype, p.dy, r * p.cols + c); };
    const auto y = [&](std::int64_t c) { return load(p.dtype, p.y, r * p.cols + c); };
    double sum = 0;
    for (std::int64_t c = 0; c < p.cols; ++c) sum += p.log ? dy(c) : dy(c) * y(c);
    for (std::int64_t c = 0; c < p.cols; ++c)
      store(p.dtype, p.dx, r * p.cols + c, p.log ? dy(c) - std::exp(y(c)) * sum : y(c) * (dy(c) - sum));
  }
  return {};
}

template <class P>
Status check_ref(const P& p) {
  if (!is_floating(p.dtype)) return unsupported("softmax needs a floating dtype");
  return check(p);
}

constexpr Variant softmax_variants[] = {{"naive", "the formula", "the oracle", erased_run<Softmax, run_softmax>}};
constexpr Variant softmax_backward_variants[] = {
    {"naive", "the formula", "the oracle", erased_run<SoftmaxBackward, run_softmax_backward>}};

constexpr KernelEntry entries[] = {
    entry<Softmax, check_ref<Softmax>>(softmax_variants),
    entry<SoftmaxBackward, check_ref<SoftmaxBackward>>(softmax_backward_variants)};

}  // namespace

extern const Family softmax_family;
const Family softmax_family = family(entries);

}  // namespace sinter::kernels::ref
