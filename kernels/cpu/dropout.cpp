#include "kernels/dropout.h"

#include "kernels/base/families.h"
#include "kernels/base/stream.h"
#include "kernels/cpu/dropout_rows.h"
#include "kernels/cpu/simd.h"
#include "kernels/cpu/vector_loop.h"

namespace sinter::kernels::cpu {
namespace {

/// Elements of one task: enough to pay for handing it out, few enough for small buffers to be shared.
constexpr std::int64_t kTaskElements = 16384;
/// Rows whose decisions are drawn before the first is used.
constexpr int kRowsAhead = 4;

template <class T>
Status run_typed(const Dropout& p, Stream stream) {
  const auto* x = static_cast<const T*>(p.x);
  auto* y = static_cast<T*>(p.y);
  if (p.rows == 0 || p.cols == 0) return {};
  const DropoutRows dropout(p.dropout, p.map, p.cols);
  const std::int64_t grain = std::max<std::int64_t>(1, kTaskElements / p.cols);
  parallel_ranges(stream, p.rows, grain, [&](std::int64_t begin, std::int64_t end) {
    if (!dropout.active()) {
      const std::size_t bytes = static_cast<std::size_t>((end - begin) * p.cols) * sizeof(T);
      if (x != y) std::memcpy(y + begin * p.cols, x + begin * p.cols, bytes);
      return;
    }
    for_row_groups<kRowsAhead>(begin, end, [&]<int R>(std::integral_constant<int, R>, std::int64_t r) {
      drop_rows<R>(dropout, r, x, y, p.cols);
    });
  });
  return {};
}

Status run_dropout(const Dropout& p, Stream stream) {
  return p.dtype == Dtype::f32 ? run_typed<float>(p, stream) : run_typed<double>(p, stream);
}

Status check_dropout(const Dropout& p) {
  if (p.dtype != Dtype::f32 && p.dtype != Dtype::f64) return unsupported("dropout on the CPU takes f32 and f64");
  return check(p);
}

constexpr Variant variants[] = {{"philox_vectors", "32 Philox blocks at a time give 256 decisions as a bit mask",
                                 "selected always", erased_run<Dropout, run_dropout>}};
constexpr KernelEntry entries[] = {entry<Dropout, check_dropout>(variants)};

}  // namespace

extern const Family dropout_family;
const Family dropout_family = family(entries);

}  // namespace sinter::kernels::cpu
