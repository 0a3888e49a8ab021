// Loops over strided operands: merges dimensions, then hands out runs along the last one.
#pragma once

#include <algorithm>
#include <cstdint>

#include "kernels/base/stream.h"
#include "kernels/base/strided.h"

namespace sinter::kernels::cpu {

/// Elements that one task of a parallel loop takes. Smaller calls stay on the calling thread.
inline constexpr std::int64_t kGrain = 32768;

/// The iteration space of N operands with dimensions of size 1 dropped and neighbours merged where every operand steps
/// through both as through one. Rank is at least 1. `step[k][d]` is operand k's step along dimension d, in elements.
template <int N>
struct LoopNest {
  int rank = 0;
  std::int64_t size[kMaxRank] = {};
  std::int64_t step[N][kMaxRank] = {};

  std::int64_t count() const {
    std::int64_t n = 1;
    for (int d = 0; d < rank; ++d) n *= size[d];
    return n;
  }
  std::int64_t inner_step(int operand) const { return step[operand][rank - 1]; }

  /// Appends a dimension inside the present ones, merging it into the last one where that changes no operand's walk.
  void append(std::int64_t n, const std::int64_t (&steps)[N]) {
    if (n == 1) return;
    if (rank > 0) {
      bool merges = true;
      for (int k = 0; k < N; ++k) merges = merges && step[k][rank - 1] == steps[k] * n;
      if (merges) {
        size[rank - 1] *= n;
        for (int k = 0; k < N; ++k) step[k][rank - 1] = steps[k];
        return;
      }
    }
    size[rank] = n;
    for (int k = 0; k < N; ++k) step[k][rank] = steps[k];
    ++rank;
  }

  /// A nest of one element gets one dimension of size 1 whose steps are 1, so that it looks contiguous.
  void finish() {
    if (rank > 0) return;
    rank = 1;
    size[0] = 1;
    for (int k = 0; k < N; ++k) step[k][0] = 1;
  }
};

template <int N>
LoopNest<N> make_nest(const Extents& extents, const Strides* const (&operands)[N]) {
  LoopNest<N> nest;
  for (int d = 0; d < extents.rank; ++d) {
    std::int64_t steps[N];
    for (int k = 0; k < N; ++k) steps[k] = operands[k]->step[d];
    nest.append(extents.size[d], steps);
  }
  nest.finish();
  return nest;
}

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
