// Every element of C is the same chain of operations, whatever tile, block, thread or instruction set computes it: in
// each chunk of kChunk values of k an FMA chain from zero over ascending k, the chunks' sums added in ascending order,
// then the bias, or one addition to C. That is why blocks may follow the number of threads and the size of M here
// without changing a bit.
#include <algorithm>

#include "kernels/cpu/gemm_pack.h"
#include "kernels/cpu/gemm_tile.h"
#include "kernels/cpu/gemm_variants.h"

namespace sinter::kernels::cpu {
namespace {

/// Sizes of what stays in cache, in bytes the same for f32 and f64.
template <class T>
struct Blocking {
  static constexpr std::int64_t chunk = 2048 / sizeof(T);                 ///< of K; part of the result's bits
  static constexpr std::int64_t panels = 256 / Tile<T>::columns;          ///< of B at once: 512 KiB (f32), half of L2
  static constexpr std::int64_t panel_size = chunk * Tile<T>::columns + 64 / sizeof(T);  ///< not a multiple of 4 KiB
  static constexpr std::int64_t partial_rows = 120 * 4 / static_cast<std::int64_t>(sizeof(T));
};

/// A thread's packed operands, and the unfinished sums of a block of C where C itself cannot hold them (accumulate).
template <class T>
struct Scratch {
  T a[Blocking<T>::chunk * Tile<T>::a_width];
  T b[Blocking<T>::panels * Blocking<T>::panel_size];
  T partial[Blocking<T>::partial_rows * Blocking<T>::panels * Tile<T>::columns];
};

union AnyScratch {
  Scratch<float> f32;
  Scratch<double> f64;
};
alignas(64) thread_local AnyScratch thread_scratch;

template <class T>
Scratch<T>& scratch() {
  if constexpr (sizeof(T) == 4)
    return thread_scratch.f32;
  else
    return thread_scratch.f64;
}

/// A block of C that one task computes, in elements.
struct Block {
  std::int64_t row_begin, row_end, column_begin, column_end;
};

template <class T>
void pack_a(const Gemm& p, const T* a, std::int64_t row, std::int64_t rows, std::int64_t k, std::int64_t depth, T* dst) {
  constexpr int width = Tile<T>::a_width;
  if (p.transpose_a)
    pack_rows<width>(a + k * p.lda + row, p.lda, rows, depth, dst);
  else
    pack_columns<width>(a + row * p.lda + k, p.lda, rows, depth, dst);
}

template <class T>
void pack_b(const Gemm& p, const T* b, std::int64_t column, std::int64_t columns, std::int64_t k, std::int64_t depth,
            T* dst) {
  constexpr int width = Tile<T>::columns;
  if (p.transpose_b)
    pack_columns<width>(b + column * p.ldb + k, p.ldb, columns, depth, dst);
  else
    pack_rows<width>(b + k * p.ldb + column, p.ldb, columns, depth, dst);
}

template <class T>
void compute_block(const Gemm& p, std::int64_t matrix, Block block) {
  constexpr std::int64_t tile_columns = Tile<T>::columns, chunk = Blocking<T>::chunk;
  constexpr std::int64_t partial_ld = Blocking<T>::panels * tile_columns;
  const T* a = static_cast<const T*>(p.a) + matrix * p.batch_stride_a;
  const T* b = static_cast<const T*>(p.b) + matrix * p.batch_stride_b;
  T* c = static_cast<T*>(p.c) + matrix * p.batch_stride_c;
  Scratch<T>& s = scratch<T>();
  std::int64_t k = 0;
  do {  // once for K = 0, which gives zeros
    const std::int64_t depth = std::min(chunk, p.k - k);
    const bool last = k + depth == p.k;
    for (std::int64_t j = block.column_begin; j < block.column_end; j += tile_columns)
      pack_b(p, b, j, std::min(tile_columns, p.n - j), k, depth,
             s.b + (j - block.column_begin) / tile_columns * Blocking<T>::panel_size);
    for (std::int64_t i = block.row_begin; i < block.row_end; i += Tile<T>::rows) {
      const std::int64_t rows = std::min<std::int64_t>(Tile<T>::rows, block.row_end - i);
      pack_a(p, a, i, rows, k, depth, s.a);
      for (std::int64_t j = block.column_begin; j < block.column_end; j += tile_columns) {
        const std::int64_t columns = std::min(tile_columns, block.column_end - j);
        T* const out = c + i * p.ldc + j;
        T* const own = s.partial + (i - block.row_begin) * partial_ld + (j - block.column_begin);
        TileEnd<T> end;
        end.columns = columns;
        end.out = last || !p.accumulate ? out : own;
        end.out_ld = last || !p.accumulate ? p.ldc : partial_ld;
        end.partial = k == 0 ? nullptr : p.accumulate ? own : out;
        end.partial_ld = p.accumulate ? partial_ld : p.ldc;
        end.bias = last && p.bias != nullptr ? static_cast<const T*>(p.bias) + j : nullptr;
        end.add = last && p.accumulate;
        tile_function<T>(rows, columns)(
            depth, s.a, s.b + (j - block.column_begin) / tile_columns * Blocking<T>::panel_size, end);
      }
    }
    k += depth;
  } while (k < p.k);
}

struct Split {
  std::int64_t row_blocks = 1, column_blocks = 1;
};

constexpr std::int64_t ceil_div(std::int64_t a, std::int64_t b) { return (a + b - 1) / b; }

/// The split of C into blocks that the slowest thread finishes first, when packing an element costs as much as
/// kPackCost multiply-adds.
template <class T>
Split choose_split(const Gemm& p, std::int64_t threads) {
  constexpr std::int64_t kPackCost = 6;
  const std::int64_t row_tiles = ceil_div(p.m, Tile<T>::rows), panels = ceil_div(p.n, Tile<T>::columns);
  const bool own_partial = p.accumulate && p.k > Blocking<T>::chunk;
  const std::int64_t fewest_rows = own_partial ? ceil_div(row_tiles, Blocking<T>::partial_rows / Tile<T>::rows) : 1;
  const std::int64_t fewest_columns = ceil_div(panels, Blocking<T>::panels);
  Split best;
  std::int64_t best_cost = INT64_MAX;
  for (std::int64_t g = fewest_columns; g <= std::min(panels, fewest_columns + threads); ++g)
    for (std::int64_t rounds = 1; rounds <= 2; ++rounds) {
      const std::int64_t r = std::clamp(ceil_div(rounds * threads, g * p.batch), fewest_rows, std::max(fewest_rows, row_tiles));
      const std::int64_t m = ceil_div(row_tiles, r) * Tile<T>::rows, n = ceil_div(panels, g) * Tile<T>::columns;
      const std::int64_t cost = ceil_div(r * g * p.batch, threads) * (m * n + kPackCost * (m + n));
      if (cost < best_cost) {
        best_cost = cost;
        best = {r, g};
      }
    }
  return best;
}

template <class T>
Status run_typed(const Gemm& p, Stream stream) {
  const Split split = choose_split<T>(p, thread_count(stream));
  const std::int64_t row_tiles = ceil_div(p.m, Tile<T>::rows), panels = ceil_div(p.n, Tile<T>::columns);
  const std::int64_t blocks = split.row_blocks * split.column_blocks;
  parallel_tasks(stream, p.batch * blocks, [&](std::int64_t task) {
    const std::int64_t r = task % blocks / split.column_blocks, g = task % split.column_blocks;
    const Block block = {row_tiles * r / split.row_blocks * Tile<T>::rows,
                         std::min(p.m, row_tiles * (r + 1) / split.row_blocks * Tile<T>::rows),
                         panels * g / split.column_blocks * Tile<T>::columns,
                         std::min(p.n, panels * (g + 1) / split.column_blocks * Tile<T>::columns)};
    compute_block<T>(p, task / blocks, block);
  });
  return {};
}

}  // namespace

Status run_gemm_packed(const Gemm& p, Stream stream) {
  if (p.m == 0 || p.n == 0 || p.batch == 0) return {};
  return p.dtype == Dtype::f64 ? run_typed<double>(p, stream) : run_typed<float>(p, stream);
}

}  // namespace sinter::kernels::cpu
