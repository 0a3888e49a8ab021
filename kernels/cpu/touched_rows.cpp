#include "kernels/touched_rows.h"

#include <cstring>

#include "kernels/base/entry.h"
#include "kernels/base/families.h"
#include "kernels/base/stream.h"

namespace sinter::kernels::cpu {
namespace {

/// Rows of one task.
constexpr std::int64_t kTaskRows = 2048;

/// Serial: a batch has a few hundred ids.
Status mark_rows(const MarkRows& p, Stream) {
  for (std::int64_t i = 0; i < p.n; ++i)
    if (static_cast<std::uint64_t>(p.ids[i]) >= static_cast<std::uint64_t>(p.rows))
      return invalid("ids: every index must lie in [0, rows)");
  for (std::int64_t i = 0; i < p.n; ++i) p.touched[p.ids[i]] = 1;
  return {};
}

Status zero_rows(const ZeroRows& p, Stream stream) {
  const std::size_t bytes = static_cast<std::size_t>(p.cols) * size_of(p.dtype);
  auto* const table = static_cast<unsigned char*>(p.table);
  parallel_ranges(stream, p.rows, kTaskRows, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t r = begin; r < end; ++r)
      if (p.touched[r] != 0) std::memset(table + static_cast<std::size_t>(r) * bytes, 0, bytes);
    std::memset(p.touched + begin, 0, static_cast<std::size_t>(end - begin) * sizeof *p.touched);
  });
  return {};
}

constexpr Variant mark_variants[] = {
    {"serial", "one mark an id, by the calling thread", "selected always", erased_run<MarkRows, mark_rows>}};
constexpr Variant zero_variants[] = {
    {"by_row", "walks the marks", "selected always", erased_run<ZeroRows, zero_rows>}};
constexpr KernelEntry entries[] = {entry<MarkRows, check>(mark_variants), entry<ZeroRows, check>(zero_variants)};

}  // namespace

extern const Family touched_rows_family;
const Family touched_rows_family = family(entries);

}  // namespace sinter::kernels::cpu
