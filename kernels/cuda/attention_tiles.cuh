// What the attention kernels on tensor cores share: tiles of a head's rows in shared memory, decisions of dropout for a
// tile, and what a warp makes of 16 rows. Included by kernels/cuda/attention_*.cu only.
//
// Fragments are those of kernels/base/fragments.cuh, with g = lane / 4.
#pragma once

#include <cstdint>
#include <utility>

#include "kernels/base/by_dtype.cuh"
#include "kernels/base/collective.cuh"
#include "kernels/base/fragments.cuh"
#include "kernels/base/grid.cuh"
#include "kernels/base/vec.cuh"
#include "kernels/cuda/attention.cuh"

namespace sinter::kernels::cuda {

inline constexpr float kLog2E = 1.4426950408889634f, kLn2 = 0.6931471805599453f;

// --- Tiles ---

/// Elements between the rows of a tile of heads of D elements.
template <int D>
inline constexpr int kPitch = fragment_pitch(D);

/// Starts to copy rows [first, first + rows) of a head: `x` is its element 0 of the sequence's first token. Rows behind
/// `length` become zeros. All threads of the block share the work.
template <int D, class T>
__device__ __forceinline__ void fetch_rows(T* tile, const T* x, std::int64_t stride, std::int64_t first, int rows,
                                           std::int64_t length) {
  constexpr int across = D / kVector<T>;
  for (int piece = static_cast<int>(threadIdx.x); piece < rows * across; piece += static_cast<int>(blockDim.x)) {
    const int r = piece / across, c = piece % across * kVector<T>;
    const bool inside = first + r < length;
    copy_async_16(tile + r * kPitch<D> + c, inside ? x + (first + r) * stride + c : x, inside);
  }
}

/// True when the positions of a sequence's tokens are consecutive from a multiple of 8 on: the eight decisions of one
/// draw are then those of eight keys. Every thread of the block must call it.
template <class P>
__device__ bool positions_are_consecutive(const P& p, const Sequence& sequence) {
  if (p.position == nullptr) return true;
  const std::int32_t* position = p.position + sequence.begin;
  bool consecutive = position[0] % 8 == 0;
  for (std::int64_t t = threadIdx.x; t < sequence.length; t += blockDim.x)
    consecutive = consecutive && position[t] == position[0] + t;
  return __syncthreads_and(consecutive) != 0;
}

/// What dropout needs to know of a sequence and head.
struct DropoutRows {
  std::int64_t head;
  std::uint32_t step, ordinal;
  bool consecutive;
};
template <class P>
__device__ __forceinline__ DropoutRows dropout_rows(const P& p, const Sequence& sequence, std::int64_t head) {
  if (!p.dropout.active()) return {};
  return {head, *p.dropout.step, ordinal_of(p, sequence.index), positions_are_consecutive(p, sequence)};
}

/// The decisions of the query at `q` and the eight keys from `k` on (places in the sequence, k a multiple of 8), bit i
/// that of key k + i; those of keys behind the sequence mean nothing.
template <class P>
__device__ std::uint32_t draw_keys(const P& p, const DropoutRows& rows, const Sequence& sequence, std::int64_t q,
                                   std::int64_t k) {
  const std::uint64_t row = static_cast<std::uint64_t>(rows.head) * kAttentionDropoutStride +
                            position_of(p, sequence.begin + q, q);
  const std::uint64_t base = row * kAttentionDropoutStride;
  if (rows.consecutive) {
    const std::uint64_t first = p.position == nullptr ? 0 : static_cast<std::uint64_t>(p.position[sequence.begin]);
    const auto block = static_cast<std::uint32_t>((base + first + static_cast<std::uint64_t>(k)) / 8);
    return dropout_keep8(p.dropout, rows.step, rows.ordinal, block);
  }
  std::uint32_t keep = 0;
  for (std::int64_t i = 0; i < 8 && k + i < sequence.length; ++i) {
    const std::uint64_t element = base + position_of(p, sequence.begin + k + i, k + i);
    const std::uint32_t bits =
        dropout_keep8(p.dropout, rows.step, rows.ordinal, static_cast<std::uint32_t>(element / 8));
    keep |= (bits >> (element % 8) & 1u) << i;
  }
  return keep;
}

/// Draws a tile of decisions: keep[i * pitch + j], for the query q0 + i, has the bits of the keys k0 + 8 j and on.
/// `keys` is a multiple of 8. All threads of the block share the work.
template <class P>
__device__ void draw_tile(const P& p, const DropoutRows& rows, const Sequence& sequence, std::int64_t q0, int queries,
                          std::int64_t k0, int keys, std::uint8_t* keep, int pitch) {
  const int across = keys / 8;
  for (int e = static_cast<int>(threadIdx.x); e < queries * across; e += static_cast<int>(blockDim.x)) {
    const std::int64_t q = q0 + e / across, k = k0 + e % across * 8;
    const bool inside = q < sequence.length && k < sequence.length;
    keep[e / across * pitch + e % across] =
        static_cast<std::uint8_t>(inside ? draw_keys(p, rows, sequence, q, k) : 0u);
  }
}

/// kept[j] tells whether key k0 + j exists and is not masked.
template <class P>
__device__ __forceinline__ void fill_kept(const P& p, const Sequence& sequence, std::int64_t k0, int keys,
                                          bool* kept) {
  for (int j = static_cast<int>(threadIdx.x); j < keys; j += static_cast<int>(blockDim.x)) {
    const std::int64_t k = k0 + j;
    kept[j] = k < sequence.length && (p.key_mask == nullptr || p.key_mask[sequence.begin + k] != 0);
  }
}

/// Writes a fragment of A, 16 x 16, row by row.
template <class T>
__device__ __forceinline__ void store_fragment(T* at, int pitch, const std::uint32_t (&a)[4]) {
  const int lane = static_cast<int>(threadIdx.x) % kWarp;
#pragma unroll
  for (int r = 0; r < 4; ++r)
    *reinterpret_cast<std::uint32_t*>(at + (lane / 4 + r % 2 * 8) * pitch + r / 2 * 8 + lane % 4 * 2) = a[r];
}

/// Two neighbours of a row, at an address that is a multiple of 4 bytes.
template <class T>
__device__ __forceinline__ void store_pair(T* at, float first, float second) {
  *reinterpret_cast<std::uint32_t*>(at) = pack<T>(first, second);
}

/// Rows g and g + 8 of 16 (g = lane / 4) of a head's gradient or output, from fragments of D / 8 times eight columns,
/// each times `factor`: `x` is the head's element 0 of the sequence's first token.
template <int D, class T>
__device__ __forceinline__ void store_rows(T* x, std::int64_t stride, std::int64_t first, std::int64_t length,
                                           const float (&sum)[D / 8][4], float factor, float factor_of_second) {
  const int lane = static_cast<int>(threadIdx.x) % kWarp;
  const std::int64_t row = first + lane / 4;
#pragma unroll
  for (int j = 0; j < D / 8; ++j) {
    T* at = x + row * stride + j * 8 + lane % 4 * 2;
    if (row < length) store_pair(at, sum[j][0] * factor, sum[j][1] * factor);
    if (row + 8 < length)
      store_pair(at + 8 * stride, sum[j][2] * factor_of_second, sum[j][3] * factor_of_second);
  }
}

// --- Forward ---

/// s = Q K^T of 16 queries and all keys; the fragments of keys from `rows` on stay 0.
template <class T, int D, int fragments>
__device__ __forceinline__ void all_scores(float (&s)[fragments][4], const T* q, const T* k, int query0, int rows) {
#pragma unroll
  for (int x = 0; x < D / 16; ++x) {
    std::uint32_t a[4], b[4];
    load_a<true>(a, q, kPitch<D>, query0, x * 16);
#pragma unroll
    for (int j = 0; j < fragments; j += 2) {
      if (j * 8 >= rows) continue;
      load_b<true>(b, k, kPitch<D>, j * 8, x * 16);
      multiply_add<T>(s[j], a, b[0], b[1]);
      multiply_add<T>(s[j + 1], a, b[2], b[3]);
    }
  }
}

/// The softmax of 16 queries so far, of the rows g and g + 8 of a lane: the largest score in units of ln 2 and the sum
/// of the exponentials, over all keys that were seen.
struct RowSoftmax {
  float largest[2] = {Max::identity<float>(), Max::identity<float>()}, total[2] = {};

  /// Adds the keys of a tile and replaces their scores by exp(scale * s - largest), 0 where no key is kept. What was
  /// summed with the exponentials of earlier tiles must be multiplied by `shrink`. scale2 = scale / ln 2.
  template <int fragments>
  __device__ __forceinline__ void add(float (&s)[fragments][4], const bool* kept, float scale2, float (&shrink)[2]) {
    const int lane = static_cast<int>(threadIdx.x) % kWarp;
    float now[2] = {largest[0], largest[1]}, sum[2] = {};
#pragma unroll
    for (int j = 0; j < fragments; ++j)
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        s[j][i] = kept[j * 8 + lane % 4 * 2 + i % 2] ? s[j][i] * scale2 : Max::identity<float>();
        now[i / 2] = Max::of(now[i / 2], s[j][i]);
      }
#pragma unroll
    for (int row = 0; row < 2; ++row) {
      now[row] = warp_all<Max, 4>(now[row]);
      const float base = now[row] == Max::identity<float>() ? 0.0f : now[row];   // no key was kept so far
      shrink[row] = exp2f(largest[row] - base);
      largest[row] = now[row];
#pragma unroll
      for (int j = 0; j < fragments; ++j)
#pragma unroll
        for (int i = 2 * row; i < 2 * row + 2; ++i) {
          s[j][i] = exp2f(s[j][i] - base);
          sum[row] += s[j][i];
        }
      total[row] = total[row] * shrink[row] + warp_all<Add, 4>(sum[row]);
    }
  }

  /// Writes lse of the rows that exist, for 16 queries from `first` on; `lse` is that of the sequence's first token.
  __device__ __forceinline__ void store_lse(float* lse, std::int64_t first, std::int64_t length) const {
    const int lane = static_cast<int>(threadIdx.x) % kWarp;
#pragma unroll
    for (int row = 0; row < 2; ++row) {
      const std::int64_t place = first + lane / 4 + row * 8;
      if (lane % 4 == 0 && place < length) lse[place] = largest[row] * kLn2 + logf(total[row]);
    }
  }
  /// `scale` / total, or 0 where no key is kept.
  __device__ __forceinline__ float share(int row, float scale) const {
    return total[row] == 0 ? 0.0f : scale / total[row];
  }
};

/// Zeros what dropout drops of 16 queries, whose decisions begin at `keep`.
template <int fragments>
__device__ __forceinline__ void drop(float (&s)[fragments][4], const std::uint8_t* keep, int pitch) {
  const int lane = static_cast<int>(threadIdx.x) % kWarp;
#pragma unroll
  for (int j = 0; j < fragments; ++j)
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      const std::uint32_t bits = keep[(lane / 4 + i / 2 * 8) * pitch + j];
      if ((bits >> (lane % 4 * 2 + i % 2) & 1u) == 0) s[j][i] = 0;
    }
}

/// o += s V.
template <class T, int D, int fragments>
__device__ __forceinline__ void add_values(float (&o)[D / 8][4], const float (&s)[fragments][4], const T* v, int rows) {
#pragma unroll
  for (int x = 0; x < fragments / 2; ++x) {
    if (x * 16 >= rows) continue;
    const std::uint32_t a[4] = {pack<T>(s[2 * x][0], s[2 * x][1]), pack<T>(s[2 * x][2], s[2 * x][3]),
                                pack<T>(s[2 * x + 1][0], s[2 * x + 1][1]), pack<T>(s[2 * x + 1][2], s[2 * x + 1][3])};
#pragma unroll
    for (int n = 0; n < D / 8; n += 2) {
      std::uint32_t b[4];
      load_b<false>(b, v, kPitch<D>, n * 8, x * 16);
      multiply_add<T>(o[n], a, b[0], b[1]);
      multiply_add<T>(o[n + 1], a, b[2], b[3]);
    }
  }
}

// --- Backward ---

/// rowsum(dO * O) of queries [first, first + rows) of a head, 0 behind the sequence, and their lse in units of ln 2. As
/// many lanes share a row as it has vectors; rows is a multiple of 16. All threads of the block share the work.
template <class T, int D>
__device__ void fill_row_statistics(const AttentionBackward& p, const Sequence& sequence, std::int64_t head,
                                    std::int64_t first, int rows, float* row_sums, float* lse2) {
  constexpr int across = D / kVector<T>, per_warp = kWarp / across;
  const int warp = static_cast<int>(threadIdx.x) / kWarp, lane = static_cast<int>(threadIdx.x) % kWarp;
  const T* o = head_of(p, static_cast<const T*>(p.o), p.stride_o, sequence, head);
  const T* d_o = head_of(p, static_cast<const T*>(p.d_o), p.stride_do, sequence, head);
  const float* lse = static_cast<const float*>(p.lse) + head * p.tokens + sequence.begin;
  for (int begin = warp * per_warp; begin < rows; begin += static_cast<int>(blockDim.x) / kWarp * per_warp) {
    const int place = begin + lane / across, c = lane % across * kVector<T>;
    const std::int64_t row = first + place;
    float sum = 0;
    if (row < sequence.length) {
      float x[kVector<T>], y[kVector<T>];
      load_vector(o + row * p.stride_o + c, x);
      load_vector(d_o + row * p.stride_do + c, y);
#pragma unroll
      for (int i = 0; i < kVector<T>; ++i) sum += x[i] * y[i];
    }
    sum = warp_all<Add, across>(sum);
    if (lane % across == 0) {
      row_sums[place] = sum;
      lse2[place] = row < sequence.length ? lse[row] * kLog2E : 0.0f;
    }
  }
}

/// The decisions of a tile, as a warp that has the 16 keys from key0 of it on reads them.
struct DropoutTile {
  bool active;
  float scale;
  const std::uint8_t* keep;
  int pitch;

  __device__ DropoutTile(const Dropout16& dropout, const std::uint8_t* decisions, int pitch_of_decisions, int key0)
      : active(dropout.active()), scale(active ? static_cast<float>(dropout.scale()) : 1.0f),
        keep(decisions + key0 / 8), pitch(pitch_of_decisions) {}
  /// Whether the key lane / 4 + 8 * half of the 16 is kept for a query of the tile.
  __device__ __forceinline__ bool keeps(int query, int half) const {
    const int lane = static_cast<int>(threadIdx.x) % kWarp;
    return (keep[query * pitch + half] >> (lane / 4) & 1u) != 0;
  }
};

/// A warp's 16 keys in the backward, their dK and dV: S^T = K Q^T and dP^T = V dO^T, 16 queries at a time.
template <class T, int D>
struct KeyGradients {
  std::uint32_t k[D / 16][4], v[D / 16][4];
  bool kept[2];   // of keys g and g + 8
  float dk[D / 8][4] = {}, dv[D / 8][4] = {};

  /// For keys key0 and on of tiles of K and V, and of the tile's kept[].
  __device__ KeyGradients(const T* k_tile, const T* v_tile, const bool* kept_keys, int key0) {
    const int lane = static_cast<int>(threadIdx.x) % kWarp;
#pragma unroll
    for (int x = 0; x < D / 16; ++x) {
      load_a<true>(k[x], k_tile, kPitch<D>, key0, x * 16);
      load_a<true>(v[x], v_tile, kPitch<D>, key0, x * 16);
    }
    kept[0] = kept_keys[key0 + lane / 4];
    kept[1] = kept_keys[key0 + lane / 4 + 8];
  }

  /// Adds what the 16 queries from query0 of a tile on contribute, and answers their dS^T / scale as a fragment of A.
  /// `row_sums` and `lse2` (in units of ln 2) are of the tile's queries; scale2 = scale / ln 2.
  __device__ __forceinline__ void add_queries(const T* q, const T* d_o, const float* row_sums, const float* lse2,
                                              int query0, float scale2, const DropoutTile& dropout,
                                              std::uint32_t (&ds)[4]) {
    float s[2][4] = {}, dp[2][4] = {};
    std::uint32_t b[4], dropped[4];
#pragma unroll
    for (int x = 0; x < D / 16; ++x) {
      load_b<true>(b, q, kPitch<D>, query0, x * 16);
      multiply_add<T>(s[0], k[x], b[0], b[1]);
      multiply_add<T>(s[1], k[x], b[2], b[3]);
      load_b<true>(b, d_o, kPitch<D>, query0, x * 16);
      multiply_add<T>(dp[0], v[x], b[0], b[1]);
      multiply_add<T>(dp[1], v[x], b[2], b[3]);
    }
    const int lane = static_cast<int>(threadIdx.x) % kWarp;
#pragma unroll
    for (int f = 0; f < 2; ++f)
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        const int query = query0 + f * 8 + lane % 4 * 2 + i % 2;
        const float probability = kept[i / 2] ? exp2f(s[f][i] * scale2 - lse2[query]) : 0.0f;
        const bool keeps = !dropout.active || dropout.keeps(query, i / 2);
        s[f][i] = keeps ? probability : 0.0f;
        dp[f][i] = probability * ((keeps ? dp[f][i] * dropout.scale : 0.0f) - row_sums[query]);
      }
#pragma unroll
    for (int r = 0; r < 4; ++r) {
      dropped[r] = pack<T>(s[r / 2][r % 2 * 2], s[r / 2][r % 2 * 2 + 1]);
      ds[r] = pack<T>(dp[r / 2][r % 2 * 2], dp[r / 2][r % 2 * 2 + 1]);
    }
#pragma unroll
    for (int n = 0; n < D / 8; n += 2) {
      load_b<false>(b, d_o, kPitch<D>, n * 8, query0);
      multiply_add<T>(dv[n], dropped, b[0], b[1]);
      multiply_add<T>(dv[n + 1], dropped, b[2], b[3]);
      load_b<false>(b, q, kPitch<D>, n * 8, query0);
      multiply_add<T>(dk[n], ds, b[0], b[1]);
      multiply_add<T>(dk[n + 1], ds, b[2], b[3]);
    }
  }
};

// --- Launchers ---

/// Whether rows can be copied 16 bytes at a time.
inline bool rows_can_be_copied(const void* x, std::int64_t stride) {
  return reinterpret_cast<std::uintptr_t>(x) % 16 == 0 && stride % 8 == 0;
}
/// Whether neighbours can be written together.
inline bool pairs_can_be_stored(const void* x, std::int64_t stride) {
  return reinterpret_cast<std::uintptr_t>(x) % 4 == 0 && stride % 2 == 0;
}

inline Status check_outputs(const Attention& p) {
  if (!pairs_can_be_stored(p.o, p.stride_o)) return unsupported("tensor cores write o four bytes at a time");
  return {};
}
inline Status check_outputs(const AttentionBackward& p) {
  if (!rows_can_be_copied(p.o, p.stride_o) || !rows_can_be_copied(p.d_o, p.stride_do))
    return unsupported("tensor cores read rows of o and d_o that begin at multiples of 16 bytes");
  if (!pairs_can_be_stored(p.dq, p.stride_dq) || !pairs_can_be_stored(p.dk, p.stride_dk) ||
      !pairs_can_be_stored(p.dv, p.stride_dv))
    return unsupported("tensor cores write dq, dk and dv four bytes at a time");
  return {};
}
/// The rules that all kernels on tensor cores have in common.
template <class P>
Status check_tensor_core_attention(const P& p) {
  if (p.dtype != Dtype::f16 && p.dtype != Dtype::bf16) return unsupported("tensor cores serve f16 and bf16");
  if (p.head_size != 32 && p.head_size != 64) return unsupported("tensor cores serve heads of 32 and 64 elements");
  if (!rows_can_be_copied(p.q, p.stride_q) || !rows_can_be_copied(p.k, p.stride_k) ||
      !rows_can_be_copied(p.v, p.stride_v))
    return unsupported("tensor cores read rows of q, k and v that begin at multiples of 16 bytes");
  return check_outputs(p);
}

/// fn(Type<T>{}, integral_constant<int, head_size>{}) of params that check_tensor_core_attention takes.
template <class P, class Fn>
Status by_head(const P& p, Fn&& fn) {
  const auto by_size = [&](auto type) {
    return p.head_size == 32 ? fn(type, std::integral_constant<int, 32>{})
                             : fn(type, std::integral_constant<int, 64>{});
  };
  return p.dtype == Dtype::f16 ? by_size(Type<f16>{}) : by_size(Type<bf16>{});
}

}  // namespace sinter::kernels::cuda
