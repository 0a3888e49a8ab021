// Shapes and strides as kernels see them.
#pragma once

#include <cstdint>

namespace sinter::kernels {

inline constexpr int kMaxRank = 6;

/// Row-major iteration space of `rank` dimensions; rank 0 is one element.
struct Extents {
  int rank = 0;
  std::int64_t size[kMaxRank] = {};

  constexpr std::int64_t count() const {
    std::int64_t n = 1;
    for (int d = 0; d < rank; ++d) n *= size[d];
    return n;
  }
};

/// Elements to step along each dimension of an Extents; 0 repeats (broadcast).
struct Strides {
  std::int64_t step[kMaxRank] = {};
};

constexpr Strides contiguous_strides(const Extents& extents) {
  Strides strides;
  std::int64_t step = 1;
  for (int d = extents.rank - 1; d >= 0; --d) {
    strides.step[d] = step;
    step *= extents.size[d];
  }
  return strides;
}

}  // namespace sinter::kernels
