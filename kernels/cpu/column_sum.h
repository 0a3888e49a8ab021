// Column sums over rows in the fixed blocks of base/column_blocks.h: each block's partial sums stand in the workspace, and are
// added in ascending order. Tasks are the blocks, so the borders depend on the shape alone.
#pragma once

#include <algorithm>
#include <cstring>

#include "kernels/base/column_blocks.h"
#include "kernels/base/stream.h"
#include "kernels/cpu/simd.h"
#include "kernels/cpu/vector_loop.h"

namespace sinter::kernels::cpu {

/// out[c] = sum over b of partial[b * cols + c], b ascending; 0 without blocks.
template <class T>
void add_column_blocks(Stream stream, const T* partial, std::int64_t blocks, std::int64_t cols, T* out) {
  constexpr std::int64_t kGrain = 256;  // columns of one task
  const auto add = [&](std::int64_t begin, std::int64_t end) {
    for_vectors<T>(begin, end, [&](std::int64_t c, auto lanes) {
      Vec<T> sum = Vec<T>::all(0);
      if (blocks > 0) sum = load(partial + c, lanes);
      for (std::int64_t b = 1; b < blocks; ++b) sum = sum + load(partial + b * cols + c, lanes);
      store(out + c, sum, lanes);
    });
  };
  if (blocks * cols <= 4 * kGrain * kGrain) {
    add(0, cols);  // cheaper than waking threads; the bits are the same
    return;
  }
  parallel_ranges(stream, cols, kGrain, add);
}

}  // namespace sinter::kernels::cpu
