#include "kernels/gemm.h"

#include "kernels/base/by_dtype.cuh"
#include "kernels/base/families.h"
#include "kernels/base/fragments.cuh"
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
  const dim3 grid(walking_blocks(tiles_of_c(p, kTile, kTile), 1));
  return by_floating(p.dtype, [&]<class T>(Type<T>) {
    return launch(multiply_tiled<T>, grid, dim3(kTiledThreads), 0, stream, p);
  });
}

// --- tensor_cores ---

constexpr int kStep = 32;     // of K in a stage
constexpr int kStages = 3;    // of A and B in shared memory: one is multiplied while two are on their way
constexpr int kWarpCols = 32;

/// What a block does: warps beside each other take kWarpCols columns each, two rows of warps share the tile's rows.
template <int rows, int cols>
struct Shape {
  static constexpr int warps_across = cols / kWarpCols;
  static constexpr int threads = 2 * warps_across * kWarp;
  static constexpr int at_once = rows == 128 ? 2 : 1;   // blocks of an SM, so that one multiplies while one waits
  static constexpr int warp_rows = rows / 2;
  static constexpr int m_fragments = warp_rows / 16, n_fragments = kWarpCols / 8;
};

/// An operand's share of a stage: `extent` rows of op(A), or columns of op(B), kStep deep.
template <int extent, bool deep>
struct StagedTile {
  static constexpr int stored_rows = deep ? extent : kStep, stored_cols = deep ? kStep : extent;
  static constexpr int pitch = fragment_pitch(stored_cols);
  static constexpr int elements = stored_rows * pitch;

  /// Starts to copy the tile at (row, col) of the stored matrix [rows, cols]; zeros outside of it.
  template <int threads, class T>
  static __device__ __forceinline__ void fetch(T* tile, const T* x, std::int64_t ld, std::int64_t rows,
                                               std::int64_t cols, std::int64_t row, std::int64_t col) {
    constexpr int across = stored_cols / kVector<T>;
    static_assert(stored_rows * across % threads == 0);
#pragma unroll
    for (int first = 0; first < stored_rows * across; first += threads) {
      const int piece = first + static_cast<int>(threadIdx.x);
      const int r = piece / across, c = piece % across * kVector<T>;
      const std::int64_t left = row + r < rows ? min(cols - col - c, std::int64_t{kVector<T>}) : 0;
      const T* from = left > 0 ? x + (row + r) * ld + col + c : x;
      copy_async_part(tile + r * pitch + c, from, left > 0 ? static_cast<int>(left) * 2 : 0);
    }
  }
};

template <class T, int rows, int cols, bool deep_a, bool deep_b>
struct Stage {
  using A = StagedTile<rows, deep_a>;
  using B = StagedTile<cols, deep_b>;
  T a[A::elements], b[B::elements];

  template <int threads>
  __device__ __forceinline__ void fetch(const Gemm& p, const TileOfC& tile, std::int64_t k) {
    const T* from_a = static_cast<const T*>(p.a) + tile.batch * p.batch_stride_a;
    const T* from_b = static_cast<const T*>(p.b) + tile.batch * p.batch_stride_b;
    A::template fetch<threads>(a, from_a, p.lda, deep_a ? p.m : p.k, deep_a ? p.k : p.m, deep_a ? tile.row : k,
                               deep_a ? k : tile.row);
    B::template fetch<threads>(b, from_b, p.ldb, deep_b ? p.n : p.k, deep_b ? p.k : p.n, deep_b ? tile.col : k,
                               deep_b ? k : tile.col);
  }
};

/// Two neighbours of a row of C; `together` when both have one address that is a multiple of 4.
template <class T>
__device__ __forceinline__ void store_sums(const Gemm& p, T* c, std::int64_t row, std::int64_t col, float first,
                                           float second, bool together) {
  if (row >= p.m) return;
  if (!together || col + 1 >= p.n) {
    if (col < p.n) store_sum(p, c, row, col, first);
    if (col + 1 < p.n) store_sum(p, c, row, col + 1, second);
    return;
  }
  T* place = c + row * p.ldc + col;
  float sums[2] = {first, second};
  if (p.bias != nullptr) {
    sums[0] += static_cast<const float*>(p.bias)[col];
    sums[1] += static_cast<const float*>(p.bias)[col + 1];
  }
  if (p.accumulate) {
    float before[2];
    load_vector(place, before);
    sums[0] += before[0];
    sums[1] += before[1];
  }
  store_vector(place, sums);
}

template <class T, int rows, int cols, bool deep_a, bool deep_b>
__global__ void __launch_bounds__(Shape<rows, cols>::threads, Shape<rows, cols>::at_once) multiply_fragments(Gemm p) {
  using Block = Shape<rows, cols>;
  using Staged = Stage<T, rows, cols, deep_a, deep_b>;
  SINTER_DYNAMIC_SHARED(Staged, stages);
  const int warp = static_cast<int>(threadIdx.x) / kWarp, lane = static_cast<int>(threadIdx.x) % kWarp;
  const int warp_row = warp / Block::warps_across * Block::warp_rows;
  const int warp_col = warp % Block::warps_across * kWarpCols;
  const std::int64_t steps = ceil_div(p.k, kStep);
  const TileOfC tile = tile_of_c(p, blockIdx.x, rows, cols);
  float sum[Block::m_fragments][Block::n_fragments][4] = {};
  for (int s = 0; s < kStages - 1; ++s) {
    if (s < steps) stages[s].template fetch<Block::threads>(p, tile, s * kStep);
    commit_copies();
  }
  for (std::int64_t s = 0; s < steps; ++s) {
    wait_copies<kStages - 2>();
    __syncthreads();   // stage s is there for all, and nobody reads the one that is fetched into now
    const std::int64_t next = s + kStages - 1;
    if (next < steps) stages[next % kStages].template fetch<Block::threads>(p, tile, next * kStep);
    commit_copies();
    const Staged& stage = stages[s % kStages];
#pragma unroll
    for (int k = 0; k < kStep; k += 16) {
      std::uint32_t a[Block::m_fragments][4], b[Block::n_fragments / 2][4];
#pragma unroll
      for (int i = 0; i < Block::m_fragments; ++i)
        load_a<deep_a>(a[i], stage.a, Staged::A::pitch, warp_row + i * 16, k);
#pragma unroll
      for (int j = 0; j < Block::n_fragments / 2; ++j)
        load_b<deep_b>(b[j], stage.b, Staged::B::pitch, warp_col + j * 16, k);
#pragma unroll
      for (int i = 0; i < Block::m_fragments; ++i)
#pragma unroll
        for (int j = 0; j < Block::n_fragments; ++j)
          multiply_add<T>(sum[i][j], a[i], b[j / 2][j % 2 * 2], b[j / 2][j % 2 * 2 + 1]);
    }
  }
  T* c = static_cast<T*>(p.c) + tile.batch * p.batch_stride_c;
  const bool together = reinterpret_cast<std::uintptr_t>(c) % 4 == 0 && p.ldc % 2 == 0;
#pragma unroll
  for (int i = 0; i < Block::m_fragments; ++i)
#pragma unroll
    for (int j = 0; j < Block::n_fragments; ++j) {
      const std::int64_t row = tile.row + warp_row + i * 16 + lane / 4;
      const std::int64_t col = tile.col + warp_col + j * 8 + lane % 4 * 2;
      store_sums(p, c, row, col, sum[i][j][0], sum[i][j][1], together);
      store_sums(p, c, row + 8, col, sum[i][j][2], sum[i][j][3], together);
    }
}

template <class T, int rows, int cols, bool deep_a, bool deep_b>
Status run_fragments(const Gemm& p, Stream stream) {
  constexpr auto kernel = multiply_fragments<T, rows, cols, deep_a, deep_b>;
  constexpr std::size_t bytes = kStages * sizeof(Stage<T, rows, cols, deep_a, deep_b>);
  static_assert(bytes <= kSharedBytesEverywhere);
  if (const Status status = allow_dynamic_shared(kernel, bytes, stream); !status.ok()) return status;
  const dim3 grid(blocks_for(tiles_of_c(p, rows, cols), 1));
  return launch(kernel, grid, dim3(Shape<rows, cols>::threads), bytes, stream, p);
}

template <class T, int rows, int cols>
Status run_layout(const Gemm& p, Stream stream) {
  if (p.transpose_a) return p.transpose_b ? run_fragments<T, rows, cols, false, true>(p, stream)
                                          : run_fragments<T, rows, cols, false, false>(p, stream);
  return p.transpose_b ? run_fragments<T, rows, cols, true, true>(p, stream)
                       : run_fragments<T, rows, cols, true, false>(p, stream);
}

Status check_tensor_cores(const Gemm& p) {
  if (p.dtype != Dtype::f16 && p.dtype != Dtype::bf16) return unsupported("tensor cores serve f16 and bf16");
  const auto aligned = [&](const void* x, std::int64_t ld, std::int64_t batch_stride) {
    return reinterpret_cast<std::uintptr_t>(x) % 16 == 0 && ld % 8 == 0 && (p.batch == 1 || batch_stride % 8 == 0);
  };
  if (!aligned(p.a, p.lda, p.batch_stride_a) || !aligned(p.b, p.ldb, p.batch_stride_b))
    return unsupported("tensor cores read rows of A and B that begin at multiples of 16 bytes");
  if (tiles_of_c(p, 64, 64) > kMostBlocks) return unsupported("there are more tiles than a grid may have blocks");
  return {};
}

template <int rows, int cols>
Status tensor_cores(const Gemm& p, Stream stream) {
  if (const Status status = check_tensor_cores(p); !status.ok()) return status;
  if (is_empty(p)) return {};
  return p.dtype == Dtype::f16 ? run_layout<f16, rows, cols>(p, stream) : run_layout<bf16, rows, cols>(p, stream);
}

// --- The table ---

constexpr Variant variants[] = {
    {"tiled", "a block for 64 x 64 of C, 16 deep tiles of A and B in shared memory, 16 sums a thread",
     "not yet measured; any dtype, any layout", erased_run<Gemm, tiled>},
    {"tensor_cores_64", "m16n8k16 on 64 x 64 of C, a ring of three stages filled by asynchronous copies",
     "not yet measured; f16, bf16, 16-byte rows, products of less than 128 large tiles",
     erased_run<Gemm, tensor_cores<64, 64>>},
    {"tensor_cores_128", "the same on 128 x 128 of C: half the reads of shared memory for a product",
     "not yet measured; f16, bf16, 16-byte rows, products of 128 tiles and more",
     erased_run<Gemm, tensor_cores<128, 128>>},
};

/// About one large tile for each SM of today's GPUs; below it, smaller tiles keep more of them busy. The sums of an
/// element are added in the same order either way.
constexpr std::int64_t kManyTiles = 128;

int select_gemm(const Gemm& p) {
  if (!check_tensor_cores(p).ok()) return 0;
  return tiles_of_c(p, 128, 128) < kManyTiles ? 1 : 2;
}

constexpr KernelEntry entries[] = {
    entry<Gemm, check_floating<Gemm>, no_workspace<Gemm>, select_gemm>(variants),
};

}  // namespace

extern const Family gemm_family;
const Family gemm_family = family(entries);

}  // namespace sinter::kernels::cuda
