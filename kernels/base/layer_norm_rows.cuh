// Rows of a layer normalisation and of its backward, shared by the kernels that contain one. Forward: a row by a block,
// which asks for its elements again and again, or by a warp, which holds it in registers. Backward: a block takes the
// rows of one partial column sum (column_blocks.h), again in a simple form and in one that holds them in registers.
#pragma once

#include "kernels/base/collective.cuh"
#include "kernels/base/column_blocks.h"
#include "kernels/base/grid.cuh"
#include "kernels/base/vec.cuh"

namespace sinter::kernels {

/// Elements side by side that one lane of the register forms owns; a row's length must be a multiple.
inline constexpr int kEight = 8;
/// Longest row of the register forms.
inline constexpr std::int64_t kMostEights = 4, kLongestRow = kMostEights * kWarp * kEight;

template <int n>
struct Count {
  static constexpr int value = n;
};

/// fn(Count<n>{}) with n lanes of a warp times 8 elements for a row of `cols` <= kLongestRow: 1 to 256 columns, 3 to
/// 768 or 4. For launchers.
template <class Fn>
Status by_eights(std::int64_t cols, Fn&& fn) {
  if (cols <= kWarp * kEight) return fn(Count<1>{});
  if (cols <= 3 * kWarp * kEight) return fn(Count<3>{});
  return fn(Count<4>{});
}

/// True when load_vector and store_vector of 8 elements can walk the rows at p. For launchers.
template <class T>
bool rows_of_eights(const T* p, std::int64_t cols) {
  return cols <= kLongestRow && rows_are_aligned<kEight>(p, cols);
}

// --- Forward ---

template <class A>
struct RowStatistics {
  A mean, rstd;

  __device__ __forceinline__ A xhat(A z) const { return (z - mean) * rstd; }
};

/// Of a row whose element c is value(c), by a whole block. Each thread asks twice for the same elements.
template <int threads, class A, class Value>
__device__ __forceinline__ RowStatistics<A> block_row_statistics(std::int64_t cols, A eps, Value&& value) {
  SINTER_SHARED(A, sum_parts, [threads / kWarp]);
  SINTER_SHARED(A, square_parts, [threads / kWarp]);
  const A count = static_cast<A>(cols);
  A sum = 0;
  for (std::int64_t c = threadIdx.x; c < cols; c += threads) sum += value(c);
  const A mean = block_all<Add, threads>(sum, sum_parts) / count;
  A squares = 0;
  for (std::int64_t c = threadIdx.x; c < cols; c += threads) {
    const A deviation = value(c) - mean;
    squares += deviation * deviation;
  }
  return {mean, A{1} / sqrt(block_all<Add, threads>(squares, square_parts) / count + eps)};
}

/// fn(k, c) for each group of 8 elements, at column c, that this lane owns of its warp's row: lane l owns those of
/// groups l, l + 32 ..., `eights` at most. No collective inside fn.
template <int eights, class Fn>
__device__ __forceinline__ void for_eights(std::int64_t cols, Fn&& fn) {
#pragma unroll
  for (int k = 0; k < eights; ++k) {
    const int c = (k * kWarp + static_cast<int>(threadIdx.x % kWarp)) * kEight;
    if (c < cols) fn(k, c);
  }
}

/// Of a row that the warp holds as for_eights deals it out.
template <int eights, class A>
__device__ __forceinline__ RowStatistics<A> warp_row_statistics(const A (&row)[eights][kEight], std::int64_t cols,
                                                               A eps) {
  const A count = static_cast<A>(cols);
  A sum = 0;
  for_eights<eights>(cols, [&](int k, int) {
#pragma unroll
    for (int i = 0; i < kEight; ++i) sum += row[k][i];
  });
  const A mean = warp_all<Add>(sum) / count;
  A squares = 0;
  for_eights<eights>(cols, [&](int k, int) {
#pragma unroll
    for (int i = 0; i < kEight; ++i) squares += (row[k][i] - mean) * (row[k][i] - mean);
  });
  return {mean, A{1} / sqrt(warp_all<Add>(squares) / count + eps)};
}

/// x = (x - mean) * rstd * gamma + beta for the N elements from column c.
template <int N, class A>
__device__ __forceinline__ void normalise(A (&x)[N], const RowStatistics<A>& row, const A* gamma, const A* beta,
                                          std::int64_t c) {
  A gain[N], shift[N];
  load_vector<N>(gamma + c, gain);
  load_vector<N>(beta + c, shift);
#pragma unroll
  for (int i = 0; i < N; ++i) x[i] = row.xhat(x[i]) * gain[i] + shift[i];
}

// --- Backward ---
//
// With xhat = (z - mean) * rstd and g = dy * gamma:  dz = rstd * (g - mean_h(g) - xhat * mean_h(g * xhat)).
// A kernel says where dy comes from and where dz goes:
//
//   struct Fused {
//     template <int N>
//     __device__ void load_dy(std::int64_t r, std::int64_t c, A (&dy)[N]) const;
//     template <int N>
//     __device__ void store_dz(std::int64_t r, std::int64_t c, const A (&dz)[N], A (&term)[N]) const;
//   };
//
// for N elements of row r from column c, N = 1 in the simple form and 8 in the other. `term` is 0 before, and after it
// what the elements add to the column sums of the third quantity.

/// Operands of the backward. Quantities of the column sums: 0 dgamma (terms dy * xhat), 1 dbeta (dy), 2 Fused's own.
template <class T>
struct LayerNormGradient {
  using A = Computed<T>;

  std::int64_t rows, cols;
  const T* z;
  const A* mean;
  const A* rstd;
  const A* gamma;
  A* partial;   ///< [quantity][column_blocks(rows)][cols]; null: no column sums

  __device__ __forceinline__ A* partial_row(int quantity, std::int64_t b) const {
    return partial + (quantity * column_blocks(rows) + b) * cols;
  }
};

/// Column block b by the block's `threads`, row after row. A thread's columns are c, c + threads ... throughout, so
/// that it adds to the partial sums in memory without asking anyone.
template <int threads, int sums, class T, class Fused>
__device__ __forceinline__ void backward_block(const LayerNormGradient<T>& p, const Fused& fused, std::int64_t b) {
  using A = Computed<T>;
  SINTER_SHARED(A, sum_parts, [threads / kWarp]);
  SINTER_SHARED(A, product_parts, [threads / kWarp]);
  const A count = static_cast<A>(p.cols);
  if (p.partial != nullptr)
    for (int q = 0; q < sums; ++q)
      for (std::int64_t c = threadIdx.x; c < p.cols; c += threads) p.partial_row(q, b)[c] = 0;
  for (std::int64_t r = b * kColumnSumRows; r < min(p.rows, (b + 1) * kColumnSumRows); ++r) {
    const RowStatistics<A> row{p.mean[r], p.rstd[r]};
    A sum = 0, product = 0;
    for (std::int64_t c = threadIdx.x; c < p.cols; c += threads) {
      A dy[1];
      fused.load_dy(r, c, dy);
      sum += dy[0] * p.gamma[c];
      product += dy[0] * p.gamma[c] * row.xhat(load(p.z + r * p.cols + c));
    }
    const A g_mean = block_all<Add, threads>(sum, sum_parts) / count;
    const A product_mean = block_all<Add, threads>(product, product_parts) / count;
    for (std::int64_t c = threadIdx.x; c < p.cols; c += threads) {
      const A xhat = row.xhat(load(p.z + r * p.cols + c));
      A dy[1], term[1] = {0};
      fused.load_dy(r, c, dy);
      const A dz[1] = {row.rstd * (dy[0] * p.gamma[c] - g_mean - xhat * product_mean)};
      fused.store_dz(r, c, dz, term);
      if (p.partial == nullptr) continue;
      p.partial_row(0, b)[c] += dy[0] * xhat;
      p.partial_row(1, b)[c] += dy[0];
      if constexpr (sums > 2) p.partial_row(2, b)[c] += term[0];
    }
  }
}

/// The register form: block dim3(warps * 32, groups), where `warps` comes from by_eights. The threads of a group, that
/// is of one threadIdx.y, share a row, 8 columns each, and take some rows at a time: their loads are under way together
/// and share one barrier. As many groups and rows as the registers of `threads` threads hold without spilling.
template <class A, int warps>
struct RegisterBlock {
  static constexpr int groups = sizeof(A) == 8 ? 2 : 4;
  static constexpr int rows_at_once = sizeof(A) == 8 || warps == 4 ? 2 : 4;
  static constexpr int threads = warps * kWarp * groups;
};

/// Sums over the group's threads: x[i] of every thread, for each i. `parts` is free again after the next call's
/// barrier but one: callers alternate between two.
template <int warps, int groups, int N, class A>
__device__ __forceinline__ void group_all(A (&x)[N], A (&parts)[groups][warps][N]) {
#pragma unroll
  for (int i = 0; i < N; ++i) x[i] = warp_all<Add>(x[i]);
  if constexpr (warps == 1) return;
  if (threadIdx.x % kWarp == 0)
#pragma unroll
    for (int i = 0; i < N; ++i) parts[threadIdx.y][threadIdx.x / kWarp][i] = x[i];
  __syncthreads();
#pragma unroll
  for (int i = 0; i < N; ++i) {
    x[i] = parts[threadIdx.y][0][i];
#pragma unroll
    for (int w = 1; w < warps; ++w) x[i] += parts[threadIdx.y][w][i];
  }
}

/// Writes the block's partial sums: the groups' totals, added in ascending order.
template <int warps, int sums, class T, class A>
__device__ __forceinline__ void write_partial_sums(const LayerNormGradient<T>& p, std::int64_t b,
                                                   const A (&total)[sums][kEight]) {
  using Block = RegisterBlock<A, warps>;
  SINTER_SHARED(A, parts, [Block::groups][warps * kWarp * kEight]);
  const int thread = static_cast<int>(threadIdx.y * warps * kWarp + threadIdx.x);
#pragma unroll
  for (int q = 0; q < sums; ++q) {
    __syncthreads();
    store_vector<kEight>(&parts[threadIdx.y][threadIdx.x * kEight], total[q]);
    __syncthreads();
    for (int c = thread; c < p.cols; c += Block::threads) {
      A sum = parts[0][c];
#pragma unroll
      for (int group = 1; group < Block::groups; ++group) sum += parts[group][c];
      p.partial_row(q, b)[c] = sum;
    }
  }
}

/// Column block b. All operands in rows of eights.
template <int warps, int sums, class T, class Fused>
__device__ __forceinline__ void backward_block_in_registers(const LayerNormGradient<T>& p, const Fused& fused,
                                                            std::int64_t b) {
  using A = Computed<T>;
  using Block = RegisterBlock<A, warps>;
  constexpr int R = Block::rows_at_once;
  SINTER_SHARED(A, parts, [2][Block::groups][warps][2 * R]);
  const int c = static_cast<int>(threadIdx.x) * kEight;
  const A count = static_cast<A>(p.cols);
  A gamma[kEight] = {}, total[sums][kEight] = {};
  if (c < p.cols) load_vector<kEight>(p.gamma + c, gamma);
#pragma unroll 1
  for (int step = 0; step < kColumnSumRows / (Block::groups * R); ++step) {
    const std::int64_t first = b * kColumnSumRows + (step * Block::groups + static_cast<int>(threadIdx.y)) * R;
    A dy[R][kEight] = {}, xhat[R][kEight] = {}, rstd[R] = {}, means[2 * R] = {};
#pragma unroll
    for (int i = 0; i < R; ++i) {
      if (c >= p.cols || first + i >= p.rows) continue;
      const RowStatistics<A> row{p.mean[first + i], p.rstd[first + i]};
      fused.load_dy(first + i, c, dy[i]);
      load_vector<kEight>(p.z + (first + i) * p.cols + c, xhat[i]);
      rstd[i] = row.rstd;
#pragma unroll
      for (int e = 0; e < kEight; ++e) {
        xhat[i][e] = row.xhat(xhat[i][e]);
        means[2 * i] += dy[i][e] * gamma[e];
        means[2 * i + 1] += dy[i][e] * gamma[e] * xhat[i][e];
      }
    }
    group_all<warps>(means, parts[step % 2]);
#pragma unroll
    for (int i = 0; i < 2 * R; ++i) means[i] /= count;
#pragma unroll
    for (int i = 0; i < R; ++i) {
      if (c >= p.cols || first + i >= p.rows) continue;
      A dz[kEight], term[kEight] = {};
#pragma unroll
      for (int e = 0; e < kEight; ++e)
        dz[e] = rstd[i] * (dy[i][e] * gamma[e] - means[2 * i] - xhat[i][e] * means[2 * i + 1]);
      fused.store_dz(first + i, c, dz, term);
#pragma unroll
      for (int e = 0; e < kEight; ++e) {
        total[0][e] += dy[i][e] * xhat[i][e];
        total[1][e] += dy[i][e];
        if constexpr (sums > 2) total[2][e] += term[e];
      }
    }
  }
  if (p.partial != nullptr) write_partial_sums<warps>(p, b, total);
}

}  // namespace sinter::kernels
