#include "kernels/gemm.h"

#include "kernels/base/by_dtype.cuh"
#include "kernels/base/families.h"
#include "kernels/base/grid.cuh"
#include "kernels/base/vec.cuh"

namespace sinter::kernels::cuda {
namespace {

/// A block's share of C: a tile of the matrix `batch`. Blocks walk over tiles, first along a row of them.
struct TileOfC {
  std::int64_t batch, row, col;
};
__device__ __forceinline__ TileOfC tile_of_c(const Gemm& p, std::int64_t tile, std::int64_t tile_rows,
                                             std::int64_t tile_cols) {
  const std::int64_t across = ceil_div(p.n, tile_cols), down = ceil_div(p.m, tile_rows);
  return {tile / (across * down), tile / across % down * tile_rows, tile % across * tile_cols};
}
constexpr std::int64_t tiles_of_c(const Gemm& p, std::int64_t tile_rows, std::int64_t tile_cols) {
  return ceil_div(p.n, tile_cols) * ceil_div(p.m, tile_rows) * p.batch;
}

/// What becomes of the finished sum of element (row, col).
template <class T>
__device__ __forceinline__ void store_sum(const Gemm& p, T* c, std::int64_t row, std::int64_t col, Computed<T> sum) {
  T* place = c + row * p.ldc + col;
  if (p.bias != nullptr) sum += static_cast<const Computed<T>*>(p.bias)[col];
  if (p.accumulate) sum += load(place);
  store(place, sum);
}

// --- tiled ---

constexpr int kTile = 64;        // rows and columns of C in a block
constexpr int kDepth = 16;       // of K in shared memory at a time
constexpr int kSide = 16;        // threads along each side of the tile
constexpr int kEach = kTile / kSide;
constexpr int kPitch = kTile + 2;   // kDepth threads that write a column each then meet different banks
constexpr int kTiledThreads = kSide * kSide;

/// Stages tile[k][i] for the rows of op(A), or the columns of op(B), from `first` on, of which there are `extent`;
/// zeros outside. `deep` says that K runs along the stored rows. Neighbouring threads read neighbours either way.
template <class T>
__device__ __forceinline__ void stage(const T* x, std::int64_t ld, bool deep, std::int64_t extent, std::int64_t first,
                                      std::int64_t depth, std::int64_t k0, Computed<T> (*tile)[kPitch]) {
  for (int e = static_cast<int>(threadIdx.x); e < kDepth * kTile; e += kTiledThreads) {
    const int k = deep ? e % kDepth : e / kTile;
    const int i = deep ? e / kDepth : e % kTile;
    const bool inside = first + i < extent && k0 + k < depth;
    const std::int64_t place = deep ? (first + i) * ld + k0 + k : (k0 + k) * ld + first + i;
    tile[k][i] = inside ? load(x + place) : Computed<T>{0};
  }
}

template <class T>
__global__ void __launch_bounds__(kTiledThreads, 1) multiply_tiled(Gemm p) {
  using Sum = Computed<T>;
  SINTER_SHARED(Sum, a_tile, [kDepth][kPitch]);
  SINTER_SHARED(Sum, b_tile, [kDepth][kPitch]);
  const int x = static_cast<int>(threadIdx.x) % kSide, y = static_cast<int>(threadIdx.x) / kSide;
  for (std::int64_t t = blockIdx.x; t < tiles_of_c(p, kTile, kTile); t += gridDim.x) {
    const TileOfC tile = tile_of_c(p, t, kTile, kTile);
    const T* a = static_cast<const T*>(p.a) + tile.batch * p.batch_stride_a;
    const T* b = static_cast<const T*>(p.b) + tile.batch * p.batch_stride_b;
    Sum sum[kEach][kEach] = {};
    for (std::int64_t k0 = 0; k0 < p.k; k0 += kDepth) {
      stage(a, p.lda, !p.transpose_a, p.m, tile.row, p.k, k0, a_tile);
      stage(b, p.ldb, p.transpose_b, p.n, tile.col, p.k, k0, b_tile);
      __syncthreads();
#pragma unroll
      for (int k = 0; k < kDepth; ++k)
#pragma unroll
        for (int i = 0; i < kEach; ++i)
#pragma unroll
          for (int j = 0; j < kEach; ++j) sum[i][j] += a_tile[k][y + i * kSide] * b_tile[k][x + j * kSide];
      __syncthreads();
    }
    T* c = static_cast<T*>(p.c) + tile.batch * p.batch_stride_c;
#pragma unroll
    for (int i = 0; i < kEach; ++i)
#pragma unroll
      for (int j = 0; j < kEach; ++j) {
        const std::int64_t row = tile.row + y + i * kSide, col = tile.col + x + j * kSide;
        if (row < p.m && col < p.n) store_sum(p, c, row, col, sum[i][j]);
      }
  }
}

constexpr bool is_empty(const Gemm& p) { return p.m == 0 || p.n == 0 || p.batch == 0; }

Status tiled(const Gemm& p, Stream stream) {
  if (is_empty(p)) return {};
  const dim3 grid(blocks_for(tiles_of_c(p, kTile, kTile), 1));
  return by_floating(p.dtype, [&]<class T>(Type<T>) {
    return launch(multiply_tiled<T>, grid, dim3(kTiledThreads), 0, stream, p);
  });
}

constexpr Variant variants[] = {
    {"tiled", "a block for 64 x 64 of C, 16 deep tiles of A and B in shared memory, 16 sums a thread",
     "not yet measured; any dtype, any layout", erased_run<Gemm, tiled>},
};

constexpr KernelEntry entries[] = {entry<Gemm, check_floating<Gemm>>(variants)};

}  // namespace

extern const Family gemm_family;
const Family gemm_family = family(entries);

}  // namespace sinter::kernels::cuda
