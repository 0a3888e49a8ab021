#include "kernels/touched_rows.h"

#include <cstring>

#include "kernels/base/entry.h"
#include "kernels/base/families.h"

namespace sinter::kernels::ref {
namespace {

Status mark_rows(const MarkRows& p, Stream) {
  for (std::int64_t i = 0; i < p.n; ++i)
    if (p.ids[i] < 0 || p.ids[i] >= p.rows) return invalid("ids: every index must lie in [0, rows)");
  for (std::int64_t i = 0; i < p.n; ++i) p.touched[p.ids[i]] = 1;
  return {};
}

Status zero_rows(const ZeroRows& p, Stream) {
  const std::size_t size = size_of(p.dtype);
  for (std::int64_t r = 0; r < p.rows; ++r) {
    if (p.touched[r] != 0)
      for (std::int64_t c = 0; c < p.cols; ++c)
        std::memset(static_cast<char*>(p.table) + static_cast<std::size_t>(r * p.cols + c) * size, 0, size);
    p.touched[r] = 0;
  }
  return {};
}

constexpr Variant mark_variants[] = {
    {"naive", "one id after the other", "the oracle of the tests", erased_run<MarkRows, mark_rows>}};
constexpr Variant zero_variants[] = {
    {"naive", "one element after the other", "the oracle of the tests", erased_run<ZeroRows, zero_rows>}};
constexpr KernelEntry entries[] = {entry<MarkRows, check>(mark_variants), entry<ZeroRows, check>(zero_variants)};

}  // namespace

extern const Family touched_rows_family;
const Family touched_rows_family = family(entries);

}  // namespace sinter::kernels::ref
