#include "core/reduce_ranks.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <type_traits>

#include "kernels/base/kernel.h"

namespace sinter {
namespace {

template <class T>
T combine(T a, T b, ReduceKind kind) {
  if constexpr (std::is_floating_point_v<T>) {
    if (kind == ReduceKind::sum || std::isnan(a) || std::isnan(b)) return a + b;
  } else if (kind == ReduceKind::sum) {  // wraps around, as every collective library does
    using Unsigned = std::make_unsigned_t<T>;
    return static_cast<T>(static_cast<Unsigned>(a) + static_cast<Unsigned>(b));
  }
  return std::max(a, b);
}

/// `result` and `x` do not overlap. The kind is a constant, so that sums are a loop without branches.
template <ReduceKind kind, class T>
void combine_all(T* __restrict result, const T* __restrict x, std::int64_t numel) {
  for (std::int64_t i = 0; i < numel; ++i) result[i] = combine(result[i], x[i], kind);
}

template <class T>
void reduce(ReduceKind kind, std::span<const void* const> inputs, std::span<void* const> outputs, std::int64_t numel) {
  // A block is summed beside the operands, so that an output may be an input; it stays in the first cache.
  constexpr std::int64_t kBlock = 8192 / sizeof(T);
  T block[kBlock];
  for (std::int64_t begin = 0; begin < numel; begin += kBlock) {
    const std::int64_t count = std::min(kBlock, numel - begin);
    const std::size_t bytes = static_cast<std::size_t>(count) * sizeof(T);
    std::memcpy(block, static_cast<const T*>(inputs[0]) + begin, bytes);
    for (const void* input : inputs.subspan(1)) {
      const T* const x = static_cast<const T*>(input) + begin;
      if (kind == ReduceKind::sum)
        combine_all<ReduceKind::sum>(block, x, count);
      else
        combine_all<ReduceKind::max>(block, x, count);
    }
    for (void* output : outputs) std::memcpy(static_cast<T*>(output) + begin, block, bytes);
  }
}

}  // namespace

void reduce_ranks(Dtype dtype, ReduceKind kind, std::span<const void* const> inputs, std::span<void* const> outputs,
                  std::int64_t numel) noexcept {
  // Sums must equal those of the kernels that accumulate in one process, and these flush denormals.
  const kernels::FlushDenormals flush;
  switch (dtype) {
    case Dtype::f32: return reduce<float>(kind, inputs, outputs, numel);
    case Dtype::f64: return reduce<double>(kind, inputs, outputs, numel);
    case Dtype::i64: return reduce<std::int64_t>(kind, inputs, outputs, numel);
    default: return reduce<std::int32_t>(kind, inputs, outputs, numel);
  }
}

}  // namespace sinter
