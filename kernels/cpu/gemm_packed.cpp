// Every element of C is the same chain of operations, whatever tile, block, thread or instruction set computes it: in
// each chunk of K (Blocking::chunk) an FMA chain from zero over ascending k, the chunks' sums added in ascending order,
// then the bias, or one addition to C. That is why blocks may follow the number of threads and M here without changing
// a bit. A thread packs into memory of its own (Scratch, 0.7 MB), so there is no workspace.
#include <algorithm>

#include "kernels/cpu/gemm_pack.h"
#include "kernels/cpu/gemm_tile.h"
#include "kernels/cpu/gemm_variants.h"

namespace sinter::kernels::cpu {
namespace gemm {
namespace {

constexpr std::int64_t ceil_div(std::int64_t a, std::int64_t b) { return (a + b - 1) / b; }

/// Sizes of what stays in cache; f32 and f64 take the same number of bytes.
template <class T>
struct Blocking {
  static constexpr std::int64_t chunk = 2048 / sizeof(T);                 ///< of K; part of the result's bits
  static constexpr std::int64_t panels = 192 / Tile<T>::columns;          ///< of B at once: 384 KiB of 1 MiB of L2
  static constexpr std::int64_t panel_size = chunk * Tile<T>::columns + 64 / sizeof(T);  ///< not a multiple of 4 KiB
  static constexpr std::int64_t tiles = 4;                                ///< panels of A at once
  static constexpr std::int64_t tile_size = chunk * Tile<T>::a_width;
  static constexpr std::int64_t partial_rows = 960 / sizeof(T);          ///< of the block of C in Scratch
};

/// A thread's packed operands, and the unfinished sums of a block of C where C itself cannot hold them (accumulate).
template <class T>
struct Scratch {
  T a[Blocking<T>::tiles * Blocking<T>::tile_size];
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

/// True when the micro-kernel may read the rows of A where they lie: they are contiguous, and do not all fall into the
/// same sets of L1. Saves 2 to 4 % of the time.
template <class T>
bool reads_a_in_place(const Gemm& p) {
  const auto step = static_cast<std::uint64_t>(p.lda) * sizeof(T) % 4096;
  return !p.transpose_a && step >= 64 && step <= 4096 - 64;
}

/// Rows `row` .. `row + rows` of op(A), elements k .. k + depth, into panels of the tile's height.
template <class T>
void pack_a(const Gemm& p, const T* a, std::int64_t row, std::int64_t rows, std::int64_t k, std::int64_t depth,
            T* dst) {
  constexpr int width = Tile<T>::rows, stride = Tile<T>::a_width;
  if (p.transpose_a)
    pack_rows<width, stride>(a + k * p.lda + row, p.lda, rows, depth, dst, Blocking<T>::tile_size);
  else
    pack_columns<width, stride>(a + row * p.lda + k, p.lda, rows, depth, dst, Blocking<T>::tile_size);
}

/// The same of op(B)'s columns.
template <class T>
void pack_b(const Gemm& p, const T* b, std::int64_t column, std::int64_t columns, std::int64_t k, std::int64_t depth,
            T* dst) {
  constexpr int width = Tile<T>::columns;
  if (p.transpose_b)
    pack_columns<width, width>(b + column * p.ldb + k, p.ldb, columns, depth, dst, Blocking<T>::panel_size);
  else
    pack_rows<width, width>(b + k * p.ldb + column, p.ldb, columns, depth, dst, Blocking<T>::panel_size);
}

/// Brings every `parts`-th row of a tile of A, beginning with row `part`, into L2.
template <class T>
void prefetch_rows(const TileRows<T>& a, std::int64_t rows, std::int64_t depth, std::int64_t part, std::int64_t parts) {
  constexpr std::int64_t line = 64 / sizeof(T);
  for (std::int64_t i = part; i < rows; i += parts)
    for (std::int64_t k = 0; k < depth; k += line) __builtin_prefetch(a.data + i * a.row_step + k, 0, 2);
}

/// One chunk of K of a block of C.
struct Chunk {
  std::int64_t begin, depth;
  bool first, last;
};

/// Tiles of rows [row, row + rows) of the block. B is packed; `a` is the first tile's rows, `a_step` leads to the next.
template <class T>
void multiply_panels(const Gemm& p, T* c, Block block, Chunk chunk, std::int64_t row, std::int64_t rows, TileRows<T> a,
                     std::int64_t a_step, Scratch<T>& s) {
  constexpr std::int64_t partial_ld = Blocking<T>::panels * Tile<T>::columns;
  for (std::int64_t i = row; i < row + rows; i += Tile<T>::rows, a.data += a_step) {
    // While a tile of rows meets the panels of B one after the other, the next tile's rows come nearer, a few a panel.
    const bool in_place = a.k_step == 1;
    const std::int64_t rows_below = std::clamp<std::int64_t>(block.row_end - i - Tile<T>::rows, 0, Tile<T>::rows);
    const TileRows<T> next = {a.data + a_step, a.row_step, a.k_step};
    const std::int64_t panels = ceil_div(block.column_end - block.column_begin, Tile<T>::columns);
    const T* b = s.b;
    std::int64_t panel = 0;
    for (std::int64_t j = block.column_begin; j < block.column_end; j += Tile<T>::columns) {
      if (in_place) prefetch_rows(next, rows_below, chunk.depth, panel++, panels);
      T* const out = c + i * p.ldc + j;
      T* const own = s.partial + (i - block.row_begin) * partial_ld + (j - block.column_begin);
      TileEnd<T> end;
      end.columns = std::min<std::int64_t>(Tile<T>::columns, block.column_end - j);
      end.out = chunk.last || !p.accumulate ? out : own;
      end.out_ld = chunk.last || !p.accumulate ? p.ldc : partial_ld;
      end.partial = chunk.first ? nullptr : p.accumulate ? own : out;
      end.partial_ld = p.accumulate ? partial_ld : p.ldc;
      end.bias = chunk.last && p.bias != nullptr ? static_cast<const T*>(p.bias) + j : nullptr;
      end.add = chunk.last && p.accumulate;
      tile_function<T>(std::min<std::int64_t>(Tile<T>::rows, row + rows - i), end.columns)(chunk.depth, a, b, end);
      b += Blocking<T>::panel_size;
    }
  }
}

template <class T>
void compute_block(const Gemm& p, std::int64_t matrix, Block block) {
  const T* a = static_cast<const T*>(p.a) + matrix * p.batch_stride_a;
  const T* b = static_cast<const T*>(p.b) + matrix * p.batch_stride_b;
  T* c = static_cast<T*>(p.c) + matrix * p.batch_stride_c;
  Scratch<T>& s = scratch<T>();
  const bool in_place = reads_a_in_place<T>(p);
  std::int64_t k = 0;
  do {  // once for K = 0, which gives zeros
    const std::int64_t depth = std::min(Blocking<T>::chunk, p.k - k);
    const Chunk chunk = {k, depth, k == 0, k + depth == p.k};
    pack_b(p, b, block.column_begin, block.column_end - block.column_begin, k, depth, s.b);
    constexpr std::int64_t group = Blocking<T>::tiles * Tile<T>::rows;
    for (std::int64_t i = block.row_begin; i < block.row_end; i += group) {
      const std::int64_t rows = std::min(group, block.row_end - i);
      if (in_place) {
        multiply_panels(p, c, block, chunk, i, rows, {a + i * p.lda + k, p.lda, 1}, Tile<T>::rows * p.lda, s);
      } else {
        pack_a(p, a, i, rows, k, depth, s.a);
        multiply_panels(p, c, block, chunk, i, rows, {s.a}, Blocking<T>::tile_size, s);
      }
    }
    k += depth;
  } while (k < p.k);
}

struct Split {
  std::int64_t row_blocks = 1, column_blocks = 1;
};

/// The split of C into blocks with which the slowest thread ends first. A thread that starts late or is disturbed makes
/// the others wait for a part of one block, estimated as an eighth: that favours several blocks a thread.
template <class T>
Split choose_split(const Gemm& p, std::int64_t threads) {
  // Packing an element costs as much time as so many multiply-adds.
  constexpr std::int64_t pack_b_cost = 6;
  const std::int64_t pack_a_cost = reads_a_in_place<T>(p) ? 1 : 6;
  const std::int64_t row_tiles = ceil_div(p.m, Tile<T>::rows), panels = ceil_div(p.n, Tile<T>::columns);
  const bool own_partial = p.accumulate && p.k > Blocking<T>::chunk;
  constexpr std::int64_t partial_tiles = Blocking<T>::partial_rows / Tile<T>::rows;
  const std::int64_t fewest_rows = own_partial ? ceil_div(row_tiles, partial_tiles) : 1;
  const std::int64_t fewest_columns = ceil_div(panels, Blocking<T>::panels);
  Split best;
  std::int64_t best_cost = INT64_MAX;
  for (std::int64_t g = fewest_columns; g <= std::min(panels, fewest_columns + threads); ++g)
    for (std::int64_t rounds = 1; rounds <= 3; ++rounds) {
      const std::int64_t r = std::clamp(ceil_div(rounds * threads, g * p.batch), fewest_rows, row_tiles);
      const std::int64_t m = ceil_div(row_tiles, r) * Tile<T>::rows, n = ceil_div(panels, g) * Tile<T>::columns;
      const std::int64_t block_cost = m * n + pack_a_cost * m + pack_b_cost * n;
      const std::int64_t wait = threads > 1 ? block_cost / 8 : 0;
      const std::int64_t cost = ceil_div(r * g * p.batch, threads) * block_cost + wait;
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
}  // namespace gemm

Status run_gemm_packed(const Gemm& p, Stream stream) {
  if (p.m == 0 || p.n == 0 || p.batch == 0) return {};
  return p.dtype == Dtype::f64 ? gemm::run_typed<double>(p, stream) : gemm::run_typed<float>(p, stream);
}

}  // namespace sinter::kernels::cpu
