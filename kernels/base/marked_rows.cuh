// Walks the marked ones of a table's rows, 32 at a time (kernels/touched_rows.h).
#pragma once

#include <cstdint>

#include "kernels/base/collective.cuh"

namespace sinter::kernels {

/// Bit r is set when row first + r has a mark. For whole warps; all of a block get the same.
__device__ __forceinline__ unsigned marked_rows(const std::int32_t* touched, std::int64_t first, std::int64_t rows) {
  const std::int64_t row = first + threadIdx.x % kWarp;
  return __ballot_sync(kWholeWarp, row < rows && touched[row] != 0);
}

/// fn(row) for each row that marked_rows() found, ascending.
template <class Fn>
__device__ __forceinline__ void for_marked_rows(unsigned marked, std::int64_t first, Fn&& fn) {
  for (; marked != 0; marked &= marked - 1) fn(first + __ffs(static_cast<int>(marked)) - 1);
}

}  // namespace sinter::kernels
