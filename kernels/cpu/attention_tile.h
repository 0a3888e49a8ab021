// The small matrix products of attention: packing of the operands, and a register-tiled product.
// Every element of a product is one chain of fused multiply-adds over ascending depth, whatever the tile that it falls
// into, so tiling never changes a bit.
#pragma once

#include <algorithm>
#include <array>
#include <cstdint>
#include <utility>

#include "kernels/cpu/simd.h"

namespace sinter::kernels::cpu {

/// Widest register tile, in vectors. AVX-512: 6 x 4 sums, 4 vectors of B and 1 element of A in 32 registers;
/// AVX2: 6 x 2 sums, 2 and 1 in 16.
#ifdef __AVX512F__
inline constexpr int kTileVectors = 4;
#else
inline constexpr int kTileVectors = 2;
#endif

/// Rows that a tile of `vectors` vectors can hold in registers.
constexpr int tile_rows(int vectors) {
  if constexpr (kTileVectors == 4) return vectors <= 2 ? 12 : 6;
  return vectors == 1 ? 12 : 6;
}

template <class T>
constexpr std::int64_t round_up_to_vector(std::int64_t n) {
  return (n + Vec<T>::size - 1) / Vec<T>::size * Vec<T>::size;
}

/// B in panels of kTileVectors vectors of columns (the last one may be narrower), each stored [depth, its width]
/// without gaps.
template <class T>
struct Panels {
  const T* data = nullptr;
  std::int64_t depth = 0;
  std::int64_t columns = 0;   ///< multiple of the vector size
};

/// One exchange of a transpose: the lanes with bit `step` of a against those without it of b.
template <int step, class T, int... lane>
inline void exchange(Vec<T>& a, Vec<T>& b, std::integer_sequence<int, lane...>) {
  constexpr int size = Vec<T>::size;
  const Vec<T> low = {__builtin_shufflevector(a.v, b.v, ((lane & step) == 0 ? lane : size + lane - step)...)};
  const Vec<T> high = {__builtin_shufflevector(a.v, b.v, ((lane & step) == 0 ? lane + step : size + lane)...)};
  a = low;
  b = high;
}

/// Transposes a square of vectors in registers: log2(size) rounds of exchanging blocks.
template <class T, int step = Vec<T>::size / 2>
inline void transpose(Vec<T> (&r)[Vec<T>::size]) {
  constexpr int size = Vec<T>::size;
#pragma GCC unroll 16
  for (int i = 0; i < size; ++i)
    if ((i & step) == 0) exchange<step>(r[i], r[i + step], std::make_integer_sequence<int, size>{});
  if constexpr (step > 1) transpose<T, step / 2>(r);
}

/// Packs the transpose of [rows, depth]: row r becomes column r. Columns up to a whole vector are zero.
template <class T>
Panels<T> pack_columns(const T* x, std::int64_t stride, std::int64_t rows, std::int64_t depth, T* memory) {
  constexpr std::int64_t size = Vec<T>::size, widest = kTileVectors * size;
  const std::int64_t columns = round_up_to_vector<T>(rows);
  for (std::int64_t r = 0; r < columns; r += size) {
    const std::int64_t panel = r / widest * widest, width = std::min(widest, columns - panel);
    T* to = memory + panel * depth + (r - panel);
    const std::int64_t valid = std::min(size, rows - r);
    for (std::int64_t d = 0; d < depth; d += size) {
      const std::int64_t lanes = std::min(size, depth - d);
      const T* from = x + r * stride + d;
      Vec<T> square[size];
#pragma GCC unroll 16
      for (int i = 0; i < size; ++i) square[i] = Vec<T>::load(from + i * stride, i < valid ? lanes : 0);
      transpose<T>(square);
#pragma GCC unroll 16
      for (int i = 0; i < size; ++i)
        if (i < lanes) square[i].store(to + (d + i) * width);
    }
  }
  return {memory, depth, columns};
}

/// Packs `rows` rows of `columns` elements as they stand: B[r, c] = x[r, c]; columns up to a whole vector are zero.
template <class T>
Panels<T> pack_rows(const T* x, std::int64_t stride, std::int64_t rows, std::int64_t columns, T* memory) {
  constexpr std::int64_t size = Vec<T>::size, widest = kTileVectors * size;
  const std::int64_t padded = round_up_to_vector<T>(columns);
  for (std::int64_t panel = 0; panel < padded; panel += widest) {
    const std::int64_t width = std::min(widest, padded - panel);
    T* to = memory + panel * rows;
    for (std::int64_t r = 0; r < rows; ++r, to += width)
      for (std::int64_t c = 0; c < width; c += size) {
        const T* from = x + r * stride + panel + c;
        const std::int64_t lanes = columns - panel - c;
        (lanes >= size ? Vec<T>::load(from) : Vec<T>::load(from, lanes)).store(to + c);
      }
  }
  return {memory, rows, padded};
}

/// A[m, k] stands at data[m * row + k * column]: read one element at a time, A may be transposed for nothing.
template <class T>
struct Elements {
  const T* data = nullptr;
  std::int64_t row = 0, column = 0;
};

template <class T>
using TileFunction = void (*)(Elements<T> a, const T* b, std::int64_t depth, T* c, std::int64_t stride,
                              std::int64_t last_lanes, bool add);

/// c[rows, vectors] = or += a b; the last vector of c has last_lanes lanes.
template <class T, int rows, int vectors>
void multiply_tile(Elements<T> a, const T* b, std::int64_t depth, T* c, std::int64_t stride, std::int64_t last_lanes,
                   bool add) {
  using V = Vec<T>;
  V sum[rows][vectors];
#pragma GCC unroll 12
  for (int i = 0; i < rows; ++i)
#pragma GCC unroll 4
    for (int v = 0; v < vectors; ++v) {
      const T* at = c + i * stride + v * V::size;
      sum[i][v] = !add ? V::all(0) : v + 1 < vectors || last_lanes == V::size ? V::load(at) : V::load(at, last_lanes);
    }
  for (std::int64_t k = 0; k < depth; ++k, b += vectors * V::size, a.data += a.column) {
    V column[vectors];
#pragma GCC unroll 4
    for (int v = 0; v < vectors; ++v) column[v] = V::load(b + v * V::size);
#pragma GCC unroll 12
    for (int i = 0; i < rows; ++i) {
      const V element = V::all(a.data[i * a.row]);
#pragma GCC unroll 4
      for (int v = 0; v < vectors; ++v) sum[i][v] = fma(element, column[v], sum[i][v]);
    }
  }
#pragma GCC unroll 12
  for (int i = 0; i < rows; ++i)
#pragma GCC unroll 4
    for (int v = 0; v < vectors; ++v) {
      T* at = c + i * stride + v * V::size;
      v + 1 < vectors || last_lanes == V::size ? sum[i][v].store(at) : sum[i][v].store(at, last_lanes);
    }
}

template <class T, int vectors, int... row>
constexpr std::array<TileFunction<T>, 12> tiles_of_width(std::integer_sequence<int, row...>) {
  return {multiply_tile<T, row + 1, vectors>...};
}

/// tile_table<T>[vectors - 1][rows - 1]
template <class T, int... vector>
constexpr auto make_tile_table(std::integer_sequence<int, vector...>) {
  return std::array<std::array<TileFunction<T>, 12>, sizeof...(vector)>{
      tiles_of_width<T, vector + 1>(std::make_integer_sequence<int, tile_rows(vector + 1)>{})...};
}
template <class T>
inline constexpr auto tile_table = make_tile_table<T>(std::make_integer_sequence<int, kTileVectors>{});

/// c[rows, columns] = or += a[rows, depth] b[depth, columns]. The zeros that fill up b are not stored.
/// Rows are dealt out evenly: a last tile of one row would cost as much as one of four.
template <class T>
void multiply(Elements<T> a, std::int64_t rows, const Panels<T>& b, T* c, std::int64_t stride, std::int64_t columns,
              bool add) {
  constexpr std::int64_t size = Vec<T>::size, widest = kTileVectors * size;
  for (std::int64_t panel = 0; panel < columns; panel += widest) {
    const std::int64_t lanes = std::min(widest, columns - panel);
    const auto vectors = static_cast<int>((lanes + size - 1) / size);
    const std::int64_t last_lanes = lanes - (vectors - 1) * size;
    const std::int64_t tiles = (rows + tile_rows(vectors) - 1) / tile_rows(vectors);
    for (std::int64_t t = 0, row = 0; t < tiles; ++t) {
      const std::int64_t count = (rows - row + tiles - t - 1) / (tiles - t);
      const auto function = tile_table<T>[static_cast<std::size_t>(vectors - 1)][static_cast<std::size_t>(count - 1)];
      function({a.data + row * a.row, a.row, a.column}, b.data + panel * b.depth, b.depth, c + row * stride + panel,
               stride, last_lanes, add);
      row += count;
    }
  }
}

}  // namespace sinter::kernels::cpu
