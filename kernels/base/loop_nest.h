// The iteration space of strided operands with its dimensions merged, as the launchers of both backends plan with it.
#pragma once

#include <cstdint>

#include "kernels/base/strided.h"

namespace sinter::kernels {

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

/// A nest in another order of dimensions: operand 0's largest step outermost, so that its memory is walked in ascending
/// order. For kernels that may visit the elements in any order.
template <int N>
LoopNest<N> make_ordered_nest(const Extents& extents, const Strides* const (&operands)[N]) {
  int order[kMaxRank];
  for (int d = 0; d < extents.rank; ++d) {
    int place = d;
    for (; place > 0 && operands[0]->step[order[place - 1]] < operands[0]->step[d]; --place)
      order[place] = order[place - 1];
    order[place] = d;
  }
  LoopNest<N> nest;
  for (int i = 0; i < extents.rank; ++i) {
    std::int64_t steps[N];
    for (int k = 0; k < N; ++k) steps[k] = operands[k]->step[order[i]];
    nest.append(extents.size[order[i]], steps);
  }
  nest.finish();
  return nest;
}

}  // namespace sinter::kernels
