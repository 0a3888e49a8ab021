// Loops over the nests of kernels/base/loop_nest.h: hands out runs along the last dimension.
#pragma once

#include <algorithm>
#include <cstdint>

#include "kernels/base/loop_nest.h"
#include "kernels/base/stream.h"

namespace sinter::kernels::cpu {

/// Elements that one task of a parallel loop takes. Smaller calls stay on the calling thread.
inline constexpr std::int64_t kGrain = 32768;

/// Calls run(offsets, n) for the elements with row-major index in [begin, end): n elements along the last dimension
/// that start at element offset offsets[k] of operand k. 0 <= begin < end <= count().
template <int N, class Run>
void for_runs(const LoopNest<N>& nest, std::int64_t begin, std::int64_t end, Run&& run) {
  const int last = nest.rank - 1;
  std::int64_t at[kMaxRank] = {};
  std::int64_t offsets[N] = {};
  if (begin > 0) {
    std::int64_t rest = begin;
    for (int d = last; d >= 0; --d) {
      at[d] = rest % nest.size[d];
      rest /= nest.size[d];
      for (int k = 0; k < N; ++k) offsets[k] += at[d] * nest.step[k][d];
    }
  }
  for (std::int64_t left = end - begin;;) {
    const std::int64_t n = std::min(left, nest.size[last] - at[last]);
    run(offsets, n);
    left -= n;
    if (left == 0) return;
    for (int k = 0; k < N; ++k) offsets[k] -= at[last] * nest.step[k][last];
    at[last] = 0;
    for (int d = last - 1; d >= 0; --d) {
      for (int k = 0; k < N; ++k) offsets[k] += nest.step[k][d];
      if (++at[d] < nest.size[d]) break;
      for (int k = 0; k < N; ++k) offsets[k] -= at[d] * nest.step[k][d];
      at[d] = 0;
    }
  }
}

/// for_runs over the whole nest, on the stream's threads where it is large.
template <int N, class Run>
void parallel_runs(Stream stream, const LoopNest<N>& nest, Run&& run) {
  const std::int64_t count = nest.count();
  if (count == 0) return;
  if (count <= kGrain) return for_runs(nest, 0, count, run);
  parallel_ranges(stream, count, kGrain,
                  [&](std::int64_t begin, std::int64_t end) { for_runs(nest, begin, end, run); });
}

/// Address of element `offset` of an untyped buffer.
inline const char* element(const void* base, std::int64_t offset, std::size_t size) {
  return static_cast<const char*>(base) + offset * static_cast<std::int64_t>(size);
}
inline char* element(void* base, std::int64_t offset, std::size_t size) {
  return static_cast<char*>(base) + offset * static_cast<std::int64_t>(size);
}

}  // namespace sinter::kernels::cpu
