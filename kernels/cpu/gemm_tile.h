// The micro-kernel of gemm_packed.cpp: a tile of C held in registers while one chunk of K passes by.
#pragma once

#include <array>
#include <cstdint>
#include <utility>

#include "kernels/cpu/simd.h"

namespace sinter::kernels::cpu::gemm {

/// Size of the register tile. AVX-512: 12 x 2 sums, 2 vectors of B and a broadcast element of A take 27 of 32
/// registers; AVX2: 6 x 2 sums take 15 of 16. Both have more sums than an FMA's latency needs (4 cycles, 2 a cycle).
template <class T>
struct Tile {
#ifdef __AVX512F__
  static constexpr int rows = 12;
#else
  static constexpr int rows = 6;
#endif
  static constexpr int vectors = 2;
  static constexpr int columns = vectors * Vec<T>::size;
  static constexpr int a_width = (rows + 3) / 4 * 4;  ///< lanes of a panel of A: what gemm_pack.h can fill
};

/// What becomes of a tile's sums over one chunk of K:
///   total = partial != null ? partial + sums : sums
///   out   = bias != null ? total + bias : add ? out + total : total
/// `partial` and `out` may be the same memory.
template <class T>
struct TileEnd {
  const T* partial = nullptr;
  std::int64_t partial_ld = 0;
  const T* bias = nullptr;
  bool add = false;
  T* out = nullptr;
  std::int64_t out_ld = 0;
  std::int64_t columns = 0;   ///< valid columns of the tile
};

/// The tile's rows of op(A): element k of row i is data[i * row_step + k * k_step]. A packed panel has row_step 1.
template <class T>
struct TileRows {
  const T* data = nullptr;
  std::int64_t row_step = 1, k_step = Tile<T>::a_width;
};

/// sums[i][j] = fma chain over ascending k of a[i][k] * b[k][j], starting from zero; then `end`.
template <class T, int rows, int vectors>
void multiply_tile(std::int64_t depth, TileRows<T> a, const T* b, const TileEnd<T>& tile_end) {
  using V = Vec<T>;
  V sum[rows][vectors];
#pragma GCC unroll 16
  for (int i = 0; i < rows; ++i)
#pragma GCC unroll 2
    for (int v = 0; v < vectors; ++v) sum[i][v] = V::all(0);
  // One pointer for three rows: the addresses of all rows then need 4 pointers and one step, and stay in registers.
  constexpr int triples = (rows + 2) / 3;
  const std::int64_t row_step = a.row_step;
  const T* row[triples];
#pragma GCC unroll 4
  for (int i = 0; i < triples; ++i) row[i] = a.data + 3 * i * row_step;
#pragma GCC unroll 1
  for (std::int64_t k = 0; k < depth; ++k) {
    V column[vectors];
#pragma GCC unroll 2
    for (int v = 0; v < vectors; ++v) column[v] = V::load(b + v * V::size);
#pragma GCC unroll 16
    for (int i = 0; i < rows; ++i) {
      const V element = V::all(row[i / 3][i % 3 * row_step]);
#pragma GCC unroll 2
      for (int v = 0; v < vectors; ++v) sum[i][v] = fma(element, column[v], sum[i][v]);
    }
#pragma GCC unroll 4
    for (int i = 0; i < triples; ++i) row[i] += a.k_step;
    b += Tile<T>::columns;
  }
  const TileEnd<T> end = tile_end;  // a copy, so that the stores below cannot change it
#pragma GCC unroll 16
  for (int i = 0; i < rows; ++i)
#pragma GCC unroll 2
    for (int v = 0; v < vectors; ++v) {
      const std::int64_t left = end.columns - v * V::size;
      V total = sum[i][v];
      T* out = end.out + i * end.out_ld + v * V::size;
      const T* partial = end.partial + i * end.partial_ld + v * V::size;
      if (left >= V::size) {
        if (end.partial != nullptr) total = V::load(partial) + total;
        if (end.bias != nullptr) total = total + V::load(end.bias + v * V::size);
        if (end.add) total = V::load(out) + total;
        total.store(out);
      } else {
        if (end.partial != nullptr) total = V::load(partial, left) + total;
        if (end.bias != nullptr) total = total + V::load(end.bias + v * V::size, left);
        if (end.add) total = V::load(out, left) + total;
        total.store(out, left);
      }
    }
}

template <class T>
using TileFunction = void (*)(std::int64_t depth, TileRows<T> a, const T* b, const TileEnd<T>& end);

/// The micro-kernel for a tile of 1 .. Tile<T>::rows rows and any number of columns up to Tile<T>::columns.
template <class T>
TileFunction<T> tile_function(std::int64_t rows, std::int64_t columns) {
  static constexpr auto table = []<int... i>(std::integer_sequence<int, i...>) {
    return std::array<std::array<TileFunction<T>, 2>, sizeof...(i)>{
        {{multiply_tile<T, i + 1, 1>, multiply_tile<T, i + 1, 2>}...}};
  }(std::make_integer_sequence<int, Tile<T>::rows>());
  return table[static_cast<std::size_t>(rows - 1)][columns > Vec<T>::size ? 1 : 0];
}

}  // namespace sinter::kernels::cpu::gemm
