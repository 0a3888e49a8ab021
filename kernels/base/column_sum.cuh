// Sums over the rows of columns, in two launches. A kernel sums each block of kColumnSumRows rows into its own row of
// the workspace; then `add_column_blocks` adds these. Both in an order that the shape alone decides.
#pragma once

#include "kernels/base/collective.cuh"
#include "kernels/base/column_blocks.h"
#include "kernels/base/dtype.h"
#include "kernels/base/grid.cuh"

namespace sinter::kernels {

/// Bytes of the partial sums of `sums` quantities.
constexpr std::size_t column_sum_bytes(Dtype dtype, int sums, std::int64_t rows, std::int64_t cols) {
  return static_cast<std::size_t>(sums * column_blocks(rows) * cols) * size_of(computed_dtype(dtype));
}

inline constexpr int kMostSums = 3, kSumLanes = 16;

/// Results, one for each quantity; null: not computed.
template <class A>
struct ColumnSums {
  A* out[kMostSums] = {};
};

/// none + the sum over b of column[b * cols], for the threads of row 0 of a block dim3(kWarp, kSumLanes) of which all
/// call it: thread (x, lane) adds the blocks lane, lane + 16, lane + 32 ... to `none`, the first row adds the lanes.
/// `none` is 0 of either sign; columns that are not `mine` are not read.
template <class A>
__device__ __forceinline__ A sum_of_blocks(std::int64_t blocks, std::int64_t cols, const A* column, bool mine, A none) {
  SINTER_SHARED(A, parts, [kSumLanes][kWarp]);
  A sum = none;
  if (mine) {
#pragma unroll 4
    for (std::int64_t b = threadIdx.y; b < blocks; b += kSumLanes) sum += column[b * cols];
  }
  parts[threadIdx.y][threadIdx.x] = sum;
  __syncthreads();
  if (!mine || threadIdx.y != 0) return sum;
#pragma unroll
  for (int lane = 1; lane < kSumLanes; ++lane) sum += parts[lane][threadIdx.x];
  return sum;
}

/// out_q[c] = sum over b of partial[q][b][c], q being blockIdx.y.
template <class A>
__global__ void __launch_bounds__(kWarp * kSumLanes, 1)
    sum_column_blocks(std::int64_t blocks, std::int64_t cols, const A* partial, A* out_0, A* out_1, A* out_2) {
  A* const out = blockIdx.y == 0 ? out_0 : blockIdx.y == 1 ? out_1 : out_2;
  const std::int64_t c = static_cast<std::int64_t>(blockIdx.x) * kWarp + threadIdx.x;
  const bool mine = out != nullptr && c < cols;
  const A sum = sum_of_blocks(blocks, cols, partial + blockIdx.y * blocks * cols + c, mine, A{0});
  if (mine && threadIdx.y == 0) out[c] = sum;
}

/// The second launch: quantity q of block b stands at partial[(q * column_blocks(rows) + b) * cols]. Without rows the
/// sums are 0.
template <class A>
Status add_column_blocks(std::int64_t rows, std::int64_t cols, const A* partial, const ColumnSums<A>& results,
                         Stream stream) {
  unsigned sums = kMostSums;
  while (sums > 0 && results.out[sums - 1] == nullptr) --sums;
  if (sums == 0 || cols == 0) return {};
  return launch(sum_column_blocks<A>, dim3(static_cast<unsigned>(ceil_div(cols, kWarp)), sums), dim3(kWarp, kSumLanes),
                0, stream, column_blocks(rows), cols, partial, results.out[0], results.out[1], results.out[2]);
}

}  // namespace sinter::kernels
