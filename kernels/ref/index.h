// Walks every index of a strided iteration space.
#pragma once

#include "kernels/base/strided.h"

namespace sinter::kernels::ref {

/// Offset of the element with row-major number `i` of `extents` in a buffer with these strides.
inline std::int64_t offset(const Extents& extents, const Strides& strides, std::int64_t i) {
  std::int64_t sum = 0;
  for (int d = extents.rank - 1; d >= 0; --d) {
    sum += i % extents.size[d] * strides.step[d];
    i /= extents.size[d];
  }
  return sum;
}

}  // namespace sinter::kernels::ref
