#include "kernels/dropout.h"

#include "kernels/base/families.h"
#include "kernels/ref/dropout_decision.h"
#include "kernels/ref/element.h"

namespace sinter::kernels::ref {
namespace {

Status run_dropout(const Dropout& p, Stream) {
  for (std::int64_t r = 0; r < p.rows; ++r)
    for (std::int64_t c = 0; c < p.cols; ++c) {
      const std::int64_t i = r * p.cols + c;
      store(p.dtype, p.y, i, load(p.dtype, p.x, i) * dropout_factor(p.dropout, p.map, p.cols, r, c));
    }
  return {};
}

Status check_dropout(const Dropout& p) {
  const Status floating = check_floating(p.dtype);
  return floating.ok() ? check(p) : floating;
}

constexpr Variant variants[] = {
    {"naive", "one Philox block for each element", "the oracle of the tests", erased_run<Dropout, run_dropout>}};
constexpr KernelEntry entries[] = {entry<Dropout, check_dropout>(variants)};

}  // namespace

extern const Family dropout_family;
const Family dropout_family = family(entries);

}  // namespace sinter::kernels::ref
