// Attention over sequences of any length on tensor cores: a block for 64 queries (o, dQ) or 64 keys (dK, dV) of a head,
// a warp for 16 of them, which walks over tiles of 64 of the others. While one tile is used the next is copied.
#include "kernels/base/grid.cuh"
#include "kernels/cuda/attention.cuh"
#include "kernels/cuda/attention_tiles.cuh"

namespace sinter::kernels::cuda {
namespace {

constexpr int kRows = 64;         // of a tile, in every direction
constexpr int kThreads = kRows / 16 * kWarp;
constexpr int kOctets = kRows / 8;

template <int D>
inline constexpr int kTileElements = kRows * kPitch<D>;

/// A block's work: rows first .. first + 63 of a head. Blocks behind the end of a sequence have none.
struct Work {
  Sequence sequence;
  std::int64_t head, first;
};
template <class P>
__device__ __forceinline__ Work work_of(const P& p) {
  const std::int64_t tiles = ceil_div(p.max_length, kRows), task = blockIdx.x;
  return {sequence_at(p, task / tiles / p.heads), task / tiles % p.heads, task % tiles * kRows};
}

/// Two operands' tiles, walked over together: pairs of tiles alternate between two places.
template <class T, int D>
struct TilePairs {
  const T *x, *y;
  std::int64_t stride_x, stride_y, length;
  T* memory;   // 4 tiles

  __device__ __forceinline__ T* tile_x(std::int64_t t) const { return memory + t % 2 * 2 * kTileElements<D>; }
  __device__ __forceinline__ T* tile_y(std::int64_t t) const { return tile_x(t) + kTileElements<D>; }
  __device__ __forceinline__ std::int64_t tiles() const { return ceil_div(length, kRows); }
  __device__ __forceinline__ void fetch(std::int64_t t) const {
    fetch_rows<D>(tile_x(t), x, stride_x, t * kRows, kRows, length);
    fetch_rows<D>(tile_y(t), y, stride_y, t * kRows, kRows, length);
    commit_copies();
  }
  /// Starts to copy the tiles behind t, and waits for those of t. A barrier must follow.
  __device__ __forceinline__ void advance(std::int64_t t) const {
    if (t + 1 < tiles()) {
      fetch(t + 1);
      wait_copies<1>();
    } else {
      wait_copies<0>();
    }
  }
};

template <class T, int D, class P>
__device__ __forceinline__ TilePairs<T, D> keys_and_values(const P& p, const Work& work, T* memory) {
  return {head_of(p, static_cast<const T*>(p.k), p.stride_k, work.sequence, work.head),
          head_of(p, static_cast<const T*>(p.v), p.stride_v, work.sequence, work.head), p.stride_k, p.stride_v,
          work.sequence.length, memory};
}

/// Rows of a tile that hold something, in whole fragments.
__device__ __forceinline__ int rows_in_use(std::int64_t length, std::int64_t first) {
  return static_cast<int>(ceil_div(min(length - first, std::int64_t{kRows}), 16) * 16);
}

template <class T, int D>
__global__ void __launch_bounds__(kThreads, 1) attend_by_tiles(Attention p) {
  SINTER_SHARED(bool, kept, [kRows]);
  SINTER_SHARED(std::uint8_t, keep, [kRows * kOctets]);
  SINTER_DYNAMIC_SHARED(T, q);
  const Work work = work_of(p);
  const std::int64_t length = work.sequence.length;
  if (work.first >= length) return;
  const DropoutRows rows = dropout_rows(p, work.sequence, work.head);
  fetch_rows<D>(q, head_of(p, static_cast<const T*>(p.q), p.stride_q, work.sequence, work.head), p.stride_q, work.first,
                kRows, length);
  const TilePairs<T, D> tiles = keys_and_values<T, D>(p, work, q + kTileElements<D>);
  tiles.fetch(0);

  const int query0 = static_cast<int>(threadIdx.x) / kWarp * 16;
  float o[D / 8][4] = {};
  RowSoftmax softmax;
  for (std::int64_t t = 0; t < tiles.tiles(); ++t) {
    tiles.advance(t);
    fill_kept(p, work.sequence, t * kRows, kRows, kept);
    if (p.dropout.active())
      draw_tile(p, rows, work.sequence, work.first, kRows, t * kRows, kRows, keep, kOctets);
    __syncthreads();
    float s[kRows / 8][4] = {}, shrink[2];
    const int in_use = rows_in_use(length, t * kRows);
    all_scores<T, D>(s, q, tiles.tile_x(t), query0, in_use);
    softmax.add(s, kept, static_cast<float>(p.scale) * kLog2E, shrink);
    if (p.dropout.active()) drop(s, keep + query0 * kOctets, kOctets);
#pragma unroll
    for (int n = 0; n < D / 8; ++n)
#pragma unroll
      for (int i = 0; i < 4; ++i) o[n][i] *= shrink[i / 2];
    add_values<T, D>(o, s, tiles.tile_y(t), in_use);
    __syncthreads();   // the next tile takes the place of this one
  }
  const float scale = p.dropout.active() ? static_cast<float>(p.dropout.scale()) : 1.0f;
  store_rows<D>(head_of(p, static_cast<T*>(p.o), p.stride_o, work.sequence, work.head), p.stride_o,
                work.first + query0, length, o, softmax.share(0, scale), softmax.share(1, scale));
  softmax.store_lse(static_cast<float*>(p.lse) + work.head * p.tokens + work.sequence.begin, work.first + query0,
                    length);
}

/// A warp's 16 queries in the backward, and their dQ.
template <class T, int D>
struct QueryGradients {
  std::uint32_t q[D / 16][4], d_o[D / 16][4];
  float row_sum[2], lse2[2];   // of queries g and g + 8
  float dq[D / 8][4] = {};

  __device__ QueryGradients(const T* q_tile, const T* d_o_tile, const float* row_sums, const float* lse2s,
                            int query0) {
    const int row = query0 + static_cast<int>(threadIdx.x) % kWarp / 4;
#pragma unroll
    for (int x = 0; x < D / 16; ++x) {
      load_a<true>(q[x], q_tile, kPitch<D>, query0, x * 16);
      load_a<true>(d_o[x], d_o_tile, kPitch<D>, query0, x * 16);
    }
    row_sum[0] = row_sums[row];
    row_sum[1] = row_sums[row + 8];
    lse2[0] = lse2s[row];
    lse2[1] = lse2s[row + 8];
  }

  /// Adds what the 16 keys from key0 of a tile on contribute to dQ / scale. `keep` holds the decisions of the 16
  /// queries, null without dropout; `factor` is dropout's.
  __device__ __forceinline__ void add_keys(const T* k, const T* v, const bool* kept, int key0, float scale2,
                                           const std::uint8_t* keep, float factor) {
    const int lane = static_cast<int>(threadIdx.x) % kWarp;
    float s[2][4] = {}, dp[2][4] = {};
    std::uint32_t b[4], ds[4];
#pragma unroll
    for (int x = 0; x < D / 16; ++x) {
      load_b<true>(b, k, kPitch<D>, key0, x * 16);
      multiply_add<T>(s[0], q[x], b[0], b[1]);
      multiply_add<T>(s[1], q[x], b[2], b[3]);
      load_b<true>(b, v, kPitch<D>, key0, x * 16);
      multiply_add<T>(dp[0], d_o[x], b[0], b[1]);
      multiply_add<T>(dp[1], d_o[x], b[2], b[3]);
    }
#pragma unroll
    for (int f = 0; f < 2; ++f)
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        const int bit = lane % 4 * 2 + i % 2, row = i / 2;
        const float probability = kept[key0 + f * 8 + bit] ? exp2f(s[f][i] * scale2 - lse2[row]) : 0.0f;
        const bool keeps =
            keep == nullptr || (keep[(lane / 4 + row * 8) * kOctets + key0 / 8 + f] >> bit & 1u) != 0;
        dp[f][i] = probability * ((keeps ? dp[f][i] * factor : 0.0f) - row_sum[row]);
      }
#pragma unroll
    for (int r = 0; r < 4; ++r) ds[r] = pack<T>(dp[r / 2][r % 2 * 2], dp[r / 2][r % 2 * 2 + 1]);
#pragma unroll
    for (int n = 0; n < D / 8; n += 2) {
      load_b<false>(b, k, kPitch<D>, n * 8, key0);
      multiply_add<T>(dq[n], ds, b[0], b[1]);
      multiply_add<T>(dq[n + 1], ds, b[2], b[3]);
    }
  }
};

/// dQ, and rowsum(dO * O) of every query, which goes to the workspace [heads, tokens] for the keys' kernel.
template <class T, int D>
__global__ void __launch_bounds__(kThreads, 1) query_gradients_by_tiles(AttentionBackward p) {
  SINTER_SHARED(bool, kept, [kRows]);
  SINTER_SHARED(std::uint8_t, keep, [kRows * kOctets]);
  SINTER_SHARED(float, row_sums, [kRows]);
  SINTER_SHARED(float, lse2, [kRows]);
  SINTER_DYNAMIC_SHARED(T, q);
  const Work work = work_of(p);
  const std::int64_t length = work.sequence.length;
  if (work.first >= length) return;
  const DropoutRows rows = dropout_rows(p, work.sequence, work.head);
  T* d_o = q + kTileElements<D>;
  fetch_rows<D>(q, head_of(p, static_cast<const T*>(p.q), p.stride_q, work.sequence, work.head), p.stride_q, work.first,
                kRows, length);
  fetch_rows<D>(d_o, head_of(p, static_cast<const T*>(p.d_o), p.stride_do, work.sequence, work.head), p.stride_do,
                work.first, kRows, length);
  commit_copies();
  fill_row_statistics<T, D>(p, work.sequence, work.head, work.first, kRows, row_sums, lse2);
  const TilePairs<T, D> tiles = keys_and_values<T, D>(p, work, q + 2 * kTileElements<D>);
  wait_copies<0>();
  __syncthreads();
  float* to = static_cast<float*>(p.workspace) + work.head * p.tokens + work.sequence.begin + work.first;
  for (int i = static_cast<int>(threadIdx.x); i < kRows && work.first + i < length; i += kThreads) to[i] = row_sums[i];

  const int query0 = static_cast<int>(threadIdx.x) / kWarp * 16;
  const auto scale = static_cast<float>(p.scale);
  const float factor = p.dropout.active() ? static_cast<float>(p.dropout.scale()) : 1.0f;
  QueryGradients<T, D> own(q, d_o, row_sums, lse2, query0);
  tiles.fetch(0);
  for (std::int64_t t = 0; t < tiles.tiles(); ++t) {
    tiles.advance(t);
    fill_kept(p, work.sequence, t * kRows, kRows, kept);
    if (p.dropout.active())
      draw_tile(p, rows, work.sequence, work.first, kRows, t * kRows, kRows, keep, kOctets);
    __syncthreads();
    const int in_use = rows_in_use(length, t * kRows);
    for (int key0 = 0; key0 < in_use; key0 += 16)
      own.add_keys(tiles.tile_x(t), tiles.tile_y(t), kept, key0, scale * kLog2E,
                   p.dropout.active() ? keep + query0 * kOctets : nullptr, factor);
    __syncthreads();   // the next tile takes the place of this one
  }
  store_rows<D>(head_of(p, static_cast<T*>(p.dq), p.stride_dq, work.sequence, work.head), p.stride_dq,
                work.first + query0, length, own.dq, scale, scale);
}

/// What a tile of queries brings besides q and d_o.
__device__ __forceinline__ void fetch_row_statistics(const AttentionBackward& p, const Work& work, std::int64_t first,
                                                     float* row_sums, float* lse2) {
  const std::int64_t begin = work.head * p.tokens + work.sequence.begin;
  for (int i = static_cast<int>(threadIdx.x); i < kRows; i += kThreads) {
    const bool inside = first + i < work.sequence.length;
    row_sums[i] = inside ? static_cast<const float*>(p.workspace)[begin + first + i] : 0.0f;
    lse2[i] = inside ? static_cast<const float*>(p.lse)[begin + first + i] * kLog2E : 0.0f;
  }
}

template <class T, int D>
__global__ void __launch_bounds__(kThreads, 1) key_gradients_by_tiles(AttentionBackward p) {
  SINTER_SHARED(bool, kept, [kRows]);
  SINTER_SHARED(std::uint8_t, keep, [kRows * kOctets]);
  SINTER_SHARED(float, row_sums, [kRows]);
  SINTER_SHARED(float, lse2, [kRows]);
  SINTER_DYNAMIC_SHARED(T, k);
  const Work work = work_of(p);
  const std::int64_t length = work.sequence.length;
  if (work.first >= length) return;
  const DropoutRows rows = dropout_rows(p, work.sequence, work.head);
  T* v = k + kTileElements<D>;
  fetch_rows<D>(k, head_of(p, static_cast<const T*>(p.k), p.stride_k, work.sequence, work.head), p.stride_k, work.first,
                kRows, length);
  fetch_rows<D>(v, head_of(p, static_cast<const T*>(p.v), p.stride_v, work.sequence, work.head), p.stride_v, work.first,
                kRows, length);
  commit_copies();
  fill_kept(p, work.sequence, work.first, kRows, kept);
  wait_copies<0>();
  __syncthreads();

  const int key0 = static_cast<int>(threadIdx.x) / kWarp * 16;
  const auto scale = static_cast<float>(p.scale);
  KeyGradients<T, D> own(k, v, kept, key0);
  const DropoutTile dropout(p.dropout, keep, kOctets, key0);
  const TilePairs<T, D> tiles = {head_of(p, static_cast<const T*>(p.q), p.stride_q, work.sequence, work.head),
                                 head_of(p, static_cast<const T*>(p.d_o), p.stride_do, work.sequence, work.head),
                                 p.stride_q, p.stride_do, length, k + 2 * kTileElements<D>};
  tiles.fetch(0);
  for (std::int64_t t = 0; t < tiles.tiles(); ++t) {
    tiles.advance(t);
    fetch_row_statistics(p, work, t * kRows, row_sums, lse2);
    if (p.dropout.active())
      draw_tile(p, rows, work.sequence, t * kRows, kRows, work.first, kRows, keep, kOctets);
    __syncthreads();
    const int in_use = rows_in_use(length, t * kRows);
    for (int query0 = 0; query0 < in_use; query0 += 16) {
      std::uint32_t unused[4];
      own.add_queries(tiles.tile_x(t), tiles.tile_y(t), row_sums, lse2, query0, scale * kLog2E, dropout, unused);
    }
    __syncthreads();   // the next tile takes the place of this one
  }
  store_rows<D>(head_of(p, static_cast<T*>(p.dk), p.stride_dk, work.sequence, work.head), p.stride_dk,
                work.first + key0, length, own.dk, scale, scale);
  store_rows<D>(head_of(p, static_cast<T*>(p.dv), p.stride_dv, work.sequence, work.head), p.stride_dv,
                work.first + key0, length, own.dv, dropout.scale, dropout.scale);
}

template <class P>
std::int64_t blocks(const P& p) {
  return p.sequences * p.heads * ceil_div(p.max_length, kRows);
}

template <class P>
Status check_long(const P& p) {
  if (const Status status = check_tensor_core_attention(p); !status.ok()) return status;
  if (blocks(p) > kMostBlocks) return unsupported("there are more tiles than a grid may have blocks");
  return {};
}

/// kept, keep, row_sums and lse2.
constexpr std::size_t kMostStaticBytes = kRows + kRows * kOctets + 2 * kRows * sizeof(float);

/// A launch with room for `tiles` tiles.
template <class T, int D, int tiles, class P>
Status run_tiles(void (*kernel)(P), const P& p, Stream stream) {
  constexpr std::size_t bytes = static_cast<std::size_t>(tiles) * kTileElements<D> * sizeof(T);
  static_assert(bytes + kMostStaticBytes <= kSharedBytesEverywhere);
  if (const Status status = allow_dynamic_shared(kernel, bytes, stream); !status.ok()) return status;
  return launch(kernel, dim3(static_cast<unsigned>(blocks(p))), dim3(kThreads), bytes, stream, p);
}

}  // namespace

Status supports_long(const Attention& p) { return check_long(p); }
Status supports_long(const AttentionBackward& p) { return check_long(p); }

Status attend_long(const Attention& p, Stream stream) {
  if (const Status status = check_long(p); !status.ok()) return status;
  if (p.tokens == 0) return {};
  return by_head(p, [&]<class T, int D>(Type<T>, std::integral_constant<int, D>) {
    return run_tiles<T, D, 5>(attend_by_tiles<T, D>, p, stream);
  });
}

Status differentiate_long(const AttentionBackward& p, Stream stream) {
  if (const Status status = check_long(p); !status.ok()) return status;
  if (p.tokens == 0) return {};
  return by_head(p, [&]<class T, int D>(Type<T>, std::integral_constant<int, D>) {
    const Status queries = run_tiles<T, D, 6>(query_gradients_by_tiles<T, D>, p, stream);
    return queries.ok() ? run_tiles<T, D, 6>(key_gradients_by_tiles<T, D>, p, stream) : queries;
  });
}

}  // namespace sinter::kernels::cuda
