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

template <class T>
void drop_row(const DropoutRows& dropout, std::int64_t r, const T* x, T* y, std::int64_t cols) {
  const Vec<T> scale = Vec<T>::all(dropout.scale<T>());
  KeepBits bits;
  for (std::int64_t begin = 0; begin < cols; begin += kDropoutChunk) {
    const std::int64_t end = std::min(cols, begin + kDropoutChunk);
    dropout.draw(r, begin, end, bits);
    for_vectors<T>(begin, end, [&](std::int64_t c, auto lanes) {
      store(y + c, (load(x + c, lanes) * scale).keep(bits.at(c - begin)), lanes);
    });
  }
}

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
    for (std::int64_t r = begin; r < end; ++r) drop_row(dropout, r, x + r * p.cols, y + r * p.cols, p.cols);
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
