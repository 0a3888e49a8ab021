// Attention over sequences of at most 128 tokens on tensor cores: a block for each sequence and head, which reads q, k
// and v once. A warp takes 16 rows at a time: of queries forward, of keys and then of queries backward.
#include <algorithm>

#include "kernels/base/grid.cuh"
#include "kernels/cuda/attention.cuh"
#include "kernels/cuda/attention_tiles.cuh"

namespace sinter::kernels::cuda {
namespace {

constexpr int kMostTokens = 128;
// A block has a warp for each 16 rows, but no more than this, so that an SM's registers are enough for two blocks: one
// copies while the other multiplies. Its shared memory is enough for two forward; backward with heads of 64 it is on
// H100 (228 KB), and on A100 (164 KB) up to 96 tokens.
constexpr int kMostWarps = 4;
constexpr int kMostThreads = kMostWarps * kWarp;

constexpr std::int64_t whole_rows(std::int64_t length) { return ceil_div(length, 16) * 16; }

/// A warp's first 16 rows; its next ones follow in steps of rows_of_block().
__device__ __forceinline__ int first_row() { return static_cast<int>(threadIdx.x) / kWarp * 16; }
__device__ __forceinline__ int rows_of_block() { return static_cast<int>(blockDim.x) / kWarp * 16; }

// --- Forward ---

template <class T, int D, int most_keys>
__global__ void __launch_bounds__(kMostThreads, 1) attend_by_block(Attention p) {
  SINTER_SHARED(bool, kept, [most_keys]);
  SINTER_SHARED(std::uint8_t, keep, [most_keys * most_keys / 8]);
  SINTER_DYNAMIC_SHARED(T, q);
  const Sequence sequence = sequence_at(p, blockIdx.x / p.heads);
  const std::int64_t head = blockIdx.x % p.heads, length = sequence.length;
  if (length == 0) return;
  const int rows = static_cast<int>(whole_rows(length));
  T *k = q + rows * kPitch<D>, *v = k + rows * kPitch<D>;
  fetch_rows<D>(q, head_of(p, static_cast<const T*>(p.q), p.stride_q, sequence, head), p.stride_q, 0, rows, length);
  fetch_rows<D>(k, head_of(p, static_cast<const T*>(p.k), p.stride_k, sequence, head), p.stride_k, 0, rows, length);
  fetch_rows<D>(v, head_of(p, static_cast<const T*>(p.v), p.stride_v, sequence, head), p.stride_v, 0, rows, length);
  commit_copies();
  fill_kept(p, sequence, 0, most_keys, kept);
  if (p.dropout.active())
    draw_tile(p, dropout_rows(p, sequence, head), sequence, 0, rows, 0, most_keys, keep, most_keys / 8);
  wait_copies<0>();
  __syncthreads();

  const float scale = p.dropout.active() ? static_cast<float>(p.dropout.scale()) : 1.0f;
  for (int query0 = first_row(); query0 < length; query0 += rows_of_block()) {
    float s[most_keys / 8][4] = {}, o[D / 8][4] = {}, shrink[2];
    all_scores<T, D>(s, q, k, query0, rows);
    RowSoftmax softmax;
    softmax.add(s, kept, static_cast<float>(p.scale) * kLog2E, shrink);
    if (p.dropout.active()) drop(s, keep + query0 * (most_keys / 8), most_keys / 8);
    add_values<T, D>(o, s, v, rows);
    store_rows<D>(head_of(p, static_cast<T*>(p.o), p.stride_o, sequence, head), p.stride_o, query0, length, o,
                  softmax.share(0, scale), softmax.share(1, scale));
    softmax.store_lse(static_cast<float*>(p.lse) + head * p.tokens + sequence.begin, query0, length);
  }
}

// --- Backward ---

/// dQ of 16 queries from dS^T [key][query].
template <class T, int D>
__device__ __forceinline__ void add_query_gradients(float (&dq)[D / 8][4], const T* ds, int ds_pitch, const T* k,
                                                    int query0, int rows) {
  for (int key = 0; key < rows; key += 16) {
    std::uint32_t a[4], b[4];
    load_a<false>(a, ds, ds_pitch, query0, key);
#pragma unroll
    for (int n = 0; n < D / 8; n += 2) {
      load_b<false>(b, k, kPitch<D>, n * 8, key);
      multiply_add<T>(dq[n], a, b[0], b[1]);
      multiply_add<T>(dq[n + 1], a, b[2], b[3]);
    }
  }
}

template <class T, int D>
__global__ void __launch_bounds__(kMostThreads, 1) differentiate_by_block(AttentionBackward p) {
  SINTER_SHARED(bool, kept, [kMostTokens]);
  SINTER_SHARED(std::uint8_t, keep, [kMostTokens * kMostTokens / 8]);
  SINTER_SHARED(float, row_sums, [kMostTokens]);
  SINTER_SHARED(float, lse2, [kMostTokens]);
  SINTER_DYNAMIC_SHARED(T, q);
  const Sequence sequence = sequence_at(p, blockIdx.x / p.heads);
  const std::int64_t head = blockIdx.x % p.heads, length = sequence.length;
  if (length == 0) return;
  const int rows = static_cast<int>(whole_rows(length)), ds_pitch = fragment_pitch(rows);
  T *k = q + rows * kPitch<D>, *v = k + rows * kPitch<D>, *d_o = v + rows * kPitch<D>, *ds = d_o + rows * kPitch<D>;
  fetch_rows<D>(q, head_of(p, static_cast<const T*>(p.q), p.stride_q, sequence, head), p.stride_q, 0, rows, length);
  fetch_rows<D>(k, head_of(p, static_cast<const T*>(p.k), p.stride_k, sequence, head), p.stride_k, 0, rows, length);
  fetch_rows<D>(v, head_of(p, static_cast<const T*>(p.v), p.stride_v, sequence, head), p.stride_v, 0, rows, length);
  fetch_rows<D>(d_o, head_of(p, static_cast<const T*>(p.d_o), p.stride_do, sequence, head), p.stride_do, 0, rows,
                length);
  commit_copies();
  fill_kept(p, sequence, 0, rows, kept);
  if (p.dropout.active())
    draw_tile(p, dropout_rows(p, sequence, head), sequence, 0, rows, 0, rows, keep, kMostTokens / 8);
  fill_row_statistics<T, D>(p, sequence, head, 0, rows, row_sums, lse2);
  wait_copies<0>();
  __syncthreads();

  const auto scale = static_cast<float>(p.scale);
  for (int key0 = first_row(); key0 < length; key0 += rows_of_block()) {
    KeyGradients<T, D> own(k, v, kept, key0);
    const DropoutTile dropout(p.dropout, keep, kMostTokens / 8, key0);
    for (int query0 = 0; query0 < rows; query0 += 16) {
      std::uint32_t fragment[4];
      own.add_queries(q, d_o, row_sums, lse2, query0, scale * kLog2E, dropout, fragment);
      store_fragment(ds + key0 * ds_pitch + query0, ds_pitch, fragment);
    }
    store_rows<D>(head_of(p, static_cast<T*>(p.dk), p.stride_dk, sequence, head), p.stride_dk, key0, length, own.dk,
                  scale, scale);
    store_rows<D>(head_of(p, static_cast<T*>(p.dv), p.stride_dv, sequence, head), p.stride_dv, key0, length, own.dv,
                  dropout.scale, dropout.scale);
  }
  __syncthreads();   // dS^T is complete
  for (int query0 = first_row(); query0 < length; query0 += rows_of_block()) {
    float dq[D / 8][4] = {};
    add_query_gradients<T, D>(dq, ds, ds_pitch, k, query0, rows);
    store_rows<D>(head_of(p, static_cast<T*>(p.dq), p.stride_dq, sequence, head), p.stride_dq, query0, length, dq,
                  scale, scale);
  }
}

template <class P>
unsigned short_threads(const P& p) {
  return static_cast<unsigned>(std::min<std::int64_t>(whole_rows(p.max_length) / 16, kMostWarps)) * kWarp;
}

/// Bytes of dynamic shared memory: q, k and v;
std::size_t dynamic_bytes(const Attention& p) {
  const std::int64_t rows = whole_rows(p.max_length), pitch = fragment_pitch(static_cast<int>(p.head_size));
  return static_cast<std::size_t>(3 * rows * pitch) * size_of(p.dtype);
}
/// q, k, v and dO, and dS.
std::size_t dynamic_bytes(const AttentionBackward& p) {
  const std::int64_t rows = whole_rows(p.max_length), pitch = fragment_pitch(static_cast<int>(p.head_size));
  return static_cast<std::size_t>(rows * (4 * pitch + fragment_pitch(static_cast<int>(rows)))) * size_of(p.dtype);
}
/// The kernel's static arrays: kept and keep; backward also row_sums and lse2.
template <class P>
constexpr std::size_t kStaticBytes =
    kMostTokens + kMostTokens * kMostTokens / 8 +
    (std::is_same_v<P, AttentionBackward> ? 2 * kMostTokens * sizeof(float) : 0);

template <class P>
Status check_short(const P& p) {
  if (const Status status = check_tensor_core_attention(p); !status.ok()) return status;
  if (p.max_length > kMostTokens) return unsupported("a block serves sequences of at most 128 tokens");
  if (dynamic_bytes(p) + kStaticBytes<P> > most_shared_bytes())
    return unsupported("a block of this device has not enough shared memory for sequences of this length");
  if (p.sequences * p.heads > kMostBlocks) return unsupported("there are more heads than a grid may have blocks");
  return {};
}

template <class T, int D, int most_keys>
Status run_forward(const Attention& p, Stream stream) {
  constexpr auto kernel = attend_by_block<T, D, most_keys>;
  const std::size_t bytes = dynamic_bytes(p);
  if (const Status status = allow_dynamic_shared(kernel, bytes, stream); !status.ok()) return status;
  return launch(kernel, dim3(static_cast<unsigned>(p.sequences * p.heads)), dim3(short_threads(p)), bytes, stream, p);
}

template <class T, int D>
Status run_backward(const AttentionBackward& p, Stream stream) {
  constexpr auto kernel = differentiate_by_block<T, D>;
  const std::size_t bytes = dynamic_bytes(p);
  if (const Status status = allow_dynamic_shared(kernel, bytes, stream); !status.ok()) return status;
  return launch(kernel, dim3(static_cast<unsigned>(p.sequences * p.heads)), dim3(short_threads(p)), bytes, stream, p);
}

}  // namespace

Status supports_short(const Attention& p) { return check_short(p); }
Status supports_short(const AttentionBackward& p) { return check_short(p); }

Status attend_short(const Attention& p, Stream stream) {
  if (const Status status = check_short(p); !status.ok()) return status;
  if (p.tokens == 0) return {};
  return by_head(p, [&]<class T, int D>(Type<T>, std::integral_constant<int, D>) {
    return p.max_length <= 64 ? run_forward<T, D, 64>(p, stream) : run_forward<T, D, 128>(p, stream);
  });
}

Status differentiate_short(const AttentionBackward& p, Stream stream) {
  if (const Status status = check_short(p); !status.ok()) return status;
  if (p.tokens == 0) return {};
  return by_head(p, [&]<class T, int D>(Type<T>, std::integral_constant<int, D>) {
    return run_backward<T, D>(p, stream);
  });
}

}  // namespace sinter::kernels::cuda
