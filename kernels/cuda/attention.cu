#include "kernels/attention.h"

#include "kernels/base/by_dtype.cuh"
#include "kernels/base/collective.cuh"
#include "kernels/base/families.h"
#include "kernels/base/grid.cuh"
#include "kernels/base/vec.cuh"
#include "kernels/cuda/attention.cuh"

namespace sinter::kernels::cuda {
namespace {

constexpr std::int64_t kMaxHeadSize = 512;

// --- by_rows: a warp for each row of a head ---

constexpr int kRowWarps = 4;
constexpr int kRowThreads = kRowWarps * kWarp;

/// The sequence that a token belongs to.
template <class P>
__device__ Sequence sequence_of(const P& p, std::int64_t token) {
  std::int64_t low = 0, high = p.sequences;
  while (high - low > 1) {
    const std::int64_t middle = (low + high) / 2;
    (p.offsets[middle] <= token ? low : high) = middle;
  }
  return sequence_at(p, low);
}

/// The first block looks at every sequence: what no token's search meets is wrong all the same.
template <class P>
__device__ void check_offsets(const P& p) {
  if (blockIdx.x != 0) return;
  for (std::int64_t b = threadIdx.x; b < p.sequences; b += blockDim.x) sequence_at(p, b);
}

/// A warp's row: token `begin + place` and head.
template <class T, class P>
struct Row {
  const P& p;
  Sequence sequence;
  std::int64_t token, head;

  __device__ Row(const P& params, std::int64_t row)
      : p(params), sequence(sequence_of(params, row / params.heads)), token(row / params.heads),
        head(row % params.heads) {}

  /// The head's elements of a token.
  template <class E>
  __device__ __forceinline__ E* at(E* x, std::int64_t stride, std::int64_t of_token) const {
    return x + of_token * stride + head * p.head_size;
  }
  __device__ __forceinline__ const T* in(const void* x, std::int64_t stride, std::int64_t of_token) const {
    return at(static_cast<const T*>(x), stride, of_token);
  }
  __device__ __forceinline__ bool kept(std::int64_t key) const { return p.key_mask == nullptr || p.key_mask[key] != 0; }

  __device__ Computed<T> dot(const T* x, const T* y) const {
    Computed<T> sum = 0;
    for (std::int64_t d = 0; d < p.head_size; ++d) sum += load(x + d) * load(y + d);
    return sum;
  }
  __device__ Computed<T> score(std::int64_t query, std::int64_t key) const {
    return static_cast<Computed<T>>(p.scale) * dot(in(p.q, p.stride_q, query), in(p.k, p.stride_k, key));
  }
  /// What dropout multiplies the probability of these two tokens by.
  __device__ Computed<T> dropout_factor(std::int64_t query, std::int64_t key) const {
    if (!p.dropout.active()) return 1;
    const std::uint64_t row = static_cast<std::uint64_t>(head) * kAttentionDropoutStride +
                              position_of(p, query, query - sequence.begin);
    const std::uint64_t element = row * kAttentionDropoutStride + position_of(p, key, key - sequence.begin);
    const std::uint32_t keep = dropout_keep8(p.dropout, *p.dropout.step, ordinal_of(p, sequence.index),
                                             static_cast<std::uint32_t>(element / 8));
    return (keep >> (element % 8) & 1u) != 0 ? static_cast<Computed<T>>(p.dropout.scale()) : Computed<T>{0};
  }
};

/// sum = shrink * sum + the lanes' factors times the head's elements of their tokens. `sum` [head_size] and `factors`
/// [32] are the warp's own; each lane keeps every 32nd element of `sum`.
template <class T, class R>
__device__ void add_rows(const R& row, const void* x, std::int64_t stride, std::int64_t first, std::int64_t count,
                         Computed<T> factor, Computed<T> shrink, Computed<T>* factors, Computed<T>* sum) {
  const int lane = static_cast<int>(threadIdx.x) % kWarp;
  factors[lane] = factor;
  __syncwarp();
  for (std::int64_t d = lane; d < row.p.head_size; d += kWarp) {
    Computed<T> total = sum[d] * shrink;
    for (std::int64_t j = 0; j < count; ++j) total += factors[j] * load(row.in(x, stride, first + j) + d);
    sum[d] = total;
  }
  __syncwarp();
}

template <class T>
__device__ void forward_row(const Attention& p, std::int64_t task, Computed<T>* factors, Computed<T>* sum) {
  using A = Computed<T>;
  const int lane = static_cast<int>(threadIdx.x) % kWarp;
  const Row<T, Attention> row(p, task);
  A largest = Max::identity<A>(), exponentials = 0;
  for (std::int64_t d = lane; d < p.head_size; d += kWarp) sum[d] = 0;
  for (std::int64_t first = 0; first < row.sequence.length; first += kWarp) {
    const std::int64_t count = min(static_cast<std::int64_t>(kWarp), row.sequence.length - first);
    const std::int64_t begin = row.sequence.begin + first, key = begin + lane;
    const bool kept = lane < count && row.kept(key);
    const A score = kept ? row.score(row.token, key) : Max::identity<A>();
    const A now = Max::of(largest, warp_all<Max>(score));
    if (now == Max::identity<A>()) continue;   // no key was kept so far
    const A shrink = exp(largest - now), e = kept ? exp(score - now) : A{0};
    largest = now;
    exponentials = exponentials * shrink + e;
    const A factor = kept ? e * row.dropout_factor(row.token, key) : A{0};
    add_rows<T>(row, p.v, p.stride_v, begin, count, factor, shrink, factors, sum);
  }
  const A total = warp_all<Add>(exponentials);
  T* o = row.at(static_cast<T*>(p.o), p.stride_o, row.token);
  for (std::int64_t d = lane; d < p.head_size; d += kWarp) store(o + d, total == 0 ? A{0} : sum[d] / total);
  if (lane == 0) static_cast<A*>(p.lse)[row.head * p.tokens + row.token] = largest + log(total);
}

template <class T>
__global__ void __launch_bounds__(kRowThreads, 1) attend_by_rows(Attention p) {
  SINTER_SHARED(Computed<T>, factors, [kRowWarps][kWarp]);
  SINTER_DYNAMIC_SHARED(Computed<T>, sums);
  check_offsets(p);
  const int warp = static_cast<int>(threadIdx.x) / kWarp;
  for (std::int64_t row = std::int64_t{blockIdx.x} * kRowWarps + warp; row < p.tokens * p.heads;
       row += std::int64_t{gridDim.x} * kRowWarps) {
    forward_row<T>(p, row, factors[warp], sums + warp * p.head_size);
  }
}

/// dQ of a query's row, and its rowsum(dO * O), which goes to `row_sums` [heads, tokens].
template <class T>
__device__ void backward_query(const AttentionBackward& p, std::int64_t task, Computed<T>* factors, Computed<T>* dq) {
  using A = Computed<T>;
  const int lane = static_cast<int>(threadIdx.x) % kWarp;
  const Row<T, AttentionBackward> row(p, task);
  const std::int64_t place = row.head * p.tokens + row.token;
  const T *o = row.in(p.o, p.stride_o, row.token), *d_o = row.in(p.d_o, p.stride_do, row.token);
  A products = 0;
  for (std::int64_t d = lane; d < p.head_size; d += kWarp) {
    products += load(d_o + d) * load(o + d);
    dq[d] = 0;
  }
  const A row_sum = warp_all<Add>(products), lse = static_cast<const A*>(p.lse)[place];
  if (lane == 0) static_cast<A*>(p.workspace)[place] = row_sum;
  for (std::int64_t first = 0; first < row.sequence.length; first += kWarp) {
    const std::int64_t count = min(static_cast<std::int64_t>(kWarp), row.sequence.length - first);
    const std::int64_t begin = row.sequence.begin + first, key = begin + lane;
    A ds = 0;
    if (lane < count && row.kept(key)) {
      const A dp = row.dropout_factor(row.token, key) * row.dot(d_o, row.in(p.v, p.stride_v, key));
      ds = exp(row.score(row.token, key) - lse) * (dp - row_sum) * static_cast<A>(p.scale);
    }
    add_rows<T>(row, p.k, p.stride_k, begin, count, ds, A{1}, factors, dq);
  }
  T* to = row.at(static_cast<T*>(p.dq), p.stride_dq, row.token);
  for (std::int64_t d = lane; d < p.head_size; d += kWarp) store(to + d, dq[d]);
}

/// dK and dV of a key's row.
template <class T>
__device__ void backward_key(const AttentionBackward& p, std::int64_t task, Computed<T>* factors, Computed<T>* dk,
                             Computed<T>* dv) {
  using A = Computed<T>;
  const int lane = static_cast<int>(threadIdx.x) % kWarp;
  const Row<T, AttentionBackward> row(p, task);
  const std::int64_t head_begin = row.head * p.tokens;
  for (std::int64_t d = lane; d < p.head_size; d += kWarp) dk[d] = dv[d] = 0;
  const bool kept = row.kept(row.token);
  for (std::int64_t first = 0; kept && first < row.sequence.length; first += kWarp) {
    const std::int64_t count = min(static_cast<std::int64_t>(kWarp), row.sequence.length - first);
    const std::int64_t begin = row.sequence.begin + first, query = begin + lane;
    A ds = 0, dropped = 0;
    if (lane < count) {
      const A lse = static_cast<const A*>(p.lse)[head_begin + query];
      const A probability = exp(row.score(query, row.token) - lse), factor = row.dropout_factor(query, row.token);
      const A dp = factor * row.dot(row.in(p.d_o, p.stride_do, query), row.in(p.v, p.stride_v, row.token));
      ds = probability * (dp - static_cast<const A*>(p.workspace)[head_begin + query]) * static_cast<A>(p.scale);
      dropped = probability * factor;
    }
    add_rows<T>(row, p.q, p.stride_q, begin, count, ds, A{1}, factors, dk);
    add_rows<T>(row, p.d_o, p.stride_do, begin, count, dropped, A{1}, factors, dv);
  }
  T* to_k = row.at(static_cast<T*>(p.dk), p.stride_dk, row.token);
  T* to_v = row.at(static_cast<T*>(p.dv), p.stride_dv, row.token);
  for (std::int64_t d = lane; d < p.head_size; d += kWarp) {
    store(to_k + d, dk[d]);
    store(to_v + d, dv[d]);
  }
}

template <class T>
__global__ void __launch_bounds__(kRowThreads, 1) query_gradients_by_rows(AttentionBackward p) {
  SINTER_SHARED(Computed<T>, factors, [kRowWarps][kWarp]);
  SINTER_DYNAMIC_SHARED(Computed<T>, sums);
  check_offsets(p);
  const int warp = static_cast<int>(threadIdx.x) / kWarp;
  for (std::int64_t row = std::int64_t{blockIdx.x} * kRowWarps + warp; row < p.tokens * p.heads;
       row += std::int64_t{gridDim.x} * kRowWarps) {
    backward_query<T>(p, row, factors[warp], sums + warp * p.head_size);
  }
}

template <class T>
__global__ void __launch_bounds__(kRowThreads, 1) key_gradients_by_rows(AttentionBackward p) {
  SINTER_SHARED(Computed<T>, factors, [kRowWarps][kWarp]);
  SINTER_DYNAMIC_SHARED(Computed<T>, sums);
  check_offsets(p);
  const int warp = static_cast<int>(threadIdx.x) / kWarp;
  Computed<T>* own = sums + 2 * warp * p.head_size;
  for (std::int64_t row = std::int64_t{blockIdx.x} * kRowWarps + warp; row < p.tokens * p.heads;
       row += std::int64_t{gridDim.x} * kRowWarps) {
    backward_key<T>(p, row, factors[warp], own, own + p.head_size);
  }
}

template <class P>
dim3 row_grid(const P& p) {
  return dim3(walking_blocks(p.tokens * p.heads, kRowWarps));
}

/// Shared memory of a block with this many rows of sums a warp.
template <class T, class P>
std::size_t row_bytes(const P& p, int rows) {
  return static_cast<std::size_t>(rows * kRowWarps * p.head_size) * sizeof(Computed<T>);
}

Status forward_by_rows(const Attention& p, Stream stream) {
  if (p.tokens == 0) return {};
  return by_floating(p.dtype, [&]<class T>(Type<T>) {
    return launch(attend_by_rows<T>, row_grid(p), dim3(kRowThreads), row_bytes<T>(p, 1), stream, p);
  });
}

Status backward_by_rows(const AttentionBackward& p, Stream stream) {
  if (p.tokens == 0) return {};
  return by_floating(p.dtype, [&]<class T>(Type<T>) {
    const Status queries = launch(query_gradients_by_rows<T>, row_grid(p), dim3(kRowThreads), row_bytes<T>(p, 1),
                                  stream, p);
    if (!queries.ok()) return queries;
    return launch(key_gradients_by_rows<T>, row_grid(p), dim3(kRowThreads), row_bytes<T>(p, 2), stream, p);
  });
}

// --- The table ---

template <class P>
Status check_cuda(const P& p) {
  if (p.head_size > kMaxHeadSize) return unsupported("attention serves heads of at most 512 elements");
  if (p.tokens > 0 && p.sequences == 0) return invalid("offsets must begin with 0 and end with tokens");
  return check_floating(p);
}

/// rowsum(dO * O) of each row of each head.
std::size_t backward_workspace(const AttentionBackward& p) {
  return static_cast<std::size_t>(p.heads * p.tokens) * size_of(computed_dtype(p.dtype));
}

template <class P>
int select_attention(const P& p) {
  return supports_short(p).ok() ? 1 : supports_long(p).ok() ? 2 : 0;
}

constexpr Variant forward_variants[] = {
    {"by_rows", "a warp for each query of each head, a key a lane, softmax brought up to date every 32 keys",
     "not yet measured; any dtype, any length", erased_run<Attention, forward_by_rows>},
    {"tensor_cores", "a block for each sequence and head, all scores of a query in registers, m16n8k16",
     "not yet measured; f16, bf16, heads of 32 or 64, sequences of at most 128 tokens",
     erased_run<Attention, attend_short>},
    {"tensor_cores_tiled", "a block for 64 queries, the next 64 keys on their way while these are multiplied",
     "not yet measured; f16, bf16, heads of 32 or 64, longer sequences", erased_run<Attention, attend_long>},
};
constexpr Variant backward_variants[] = {
    {"by_rows", "a warp for each query (dQ), then one for each key (dK, dV)", "not yet measured; any dtype, any length",
     erased_run<AttentionBackward, backward_by_rows>},
    {"tensor_cores", "a block for each sequence and head, dS through shared memory: dQ, dK and dV in one pass",
     "not yet measured; f16, bf16, heads of 32 or 64, sequences of at most 128 tokens",
     erased_run<AttentionBackward, differentiate_short>},
    {"tensor_cores_tiled", "a pass for 64 queries a block (dQ), then one for 64 keys (dK, dV)",
     "not yet measured; f16, bf16, heads of 32 or 64, longer sequences",
     erased_run<AttentionBackward, differentiate_long>},
};

constexpr KernelEntry entries[] = {
    entry<Attention, check_cuda<Attention>, no_workspace<Attention>, select_attention<Attention>>(forward_variants),
    entry<AttentionBackward, check_cuda<AttentionBackward>, backward_workspace, select_attention<AttentionBackward>>(
        backward_variants),
};

}  // namespace

extern const Family attention_family;
const Family attention_family = family(entries);

}  // namespace sinter::kernels::cuda
