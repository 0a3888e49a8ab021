// Attention: one task for each (sequence, head). A task walks over blocks of keys, whose packed K and V stay in the
// second level cache, and inside over blocks of queries, whose scores stay there too; so its scratch is bounded for any
// length, and up to kMaxKeys keys (f32, head_size 64) the softmax of a row is computed in one piece.
#include "kernels/attention.h"

#include <cmath>
#include <limits>

#include "kernels/base/families.h"
#include "kernels/cpu/attention_tile.h"
#include "kernels/cpu/philox_simd.h"

namespace sinter::kernels::cpu {
namespace {

constexpr std::int64_t kMaxQueries = 32;
constexpr std::int64_t kMaxKeys = 512;
constexpr std::int64_t kMaxHeadSize = 512;
constexpr std::int64_t kOperandBytes = 128 * 1024;   // of a packed K or V

/// Keys of a block: as many as fit an operand, in whole vectors.
template <class T>
std::int64_t keys_per_block(std::int64_t head_size) {
  const std::int64_t fit = kOperandBytes / static_cast<std::int64_t>(sizeof(T)) / round_up_to_vector<T>(head_size);
  return std::min(kMaxKeys, fit / Vec<T>::size * Vec<T>::size);
}

/// Row stride of a block of scores: a power of two would send the rows of a block to the same cache sets.
template <class T>
constexpr std::int64_t kScoreStride = kMaxKeys + Vec<T>::size;

/// Decisions of dropout for a block: bit (offset + j) of row i, lowest bit of a byte first.
struct KeepBits {
  static constexpr std::int64_t kRowBytes = kMaxKeys / 8 + 1;
  // The generator answers for kPhiloxBlocks blocks at a time, and rows are read four bytes at a time.
  std::uint32_t blocks[kMaxQueries * kRowBytes + kPhiloxBlocks];
  std::uint8_t bytes[kMaxQueries * kRowBytes + kPhiloxBlocks + 4];
  std::int64_t row_bytes = 0, offset = 0;

  std::uint32_t at(std::int64_t i, std::int64_t j) const {
    std::uint32_t word;
    __builtin_memcpy(&word, bytes + i * row_bytes + (offset + j) / 8, 4);
    return word >> ((offset + j) % 8);
  }
};

/// What a task needs besides its inputs, on its stack: 650 KiB in the backward of f32, 900 KiB in that of f64. Short
/// sequences touch only the first few KiB of each array.
template <class T>
struct BlockScratch {
  alignas(64) T scores[kMaxQueries * kScoreStride<T>];
  alignas(64) T key_bias[kMaxKeys];   // 0, or -inf where a key is masked or no key
  KeepBits keep;
};

template <class T>
struct ForwardScratch : BlockScratch<T> {
  alignas(64) T k[kOperandBytes / sizeof(T)];
  alignas(64) T v[kOperandBytes / sizeof(T)];
};

template <class T>
struct BackwardScratch : BlockScratch<T> {
  alignas(64) T k_columns[kOperandBytes / sizeof(T)];
  alignas(64) T k_rows[kOperandBytes / sizeof(T)];
  alignas(64) T v_columns[kOperandBytes / sizeof(T)];
  alignas(64) T q[kMaxQueries * kMaxHeadSize];
  alignas(64) T d_o[kMaxQueries * kMaxHeadSize];
  alignas(64) T d_scores[kMaxQueries * kScoreStride<T>];
};
static_assert(sizeof(BackwardScratch<double>) < 1024 * 1024, "a thread's stack has room for much else besides");

/// One sequence and head of P = Attention or AttentionBackward.
template <class T, class P>
struct Head {
  const P& p;
  std::int64_t sequence, head, begin, length, keys;   // keys: up to and with the last one that is kept

  Head(const P& params, std::int64_t task)
      : p(params),
        sequence(task / params.heads),
        head(task % params.heads),
        begin(params.offsets[sequence]),
        length(params.offsets[sequence + 1] - begin),
        keys(length) {
    if (p.key_mask != nullptr)
      while (keys > 0 && p.key_mask[begin + keys - 1] == 0) --keys;
  }

  const T* in(const void* x, std::int64_t stride, std::int64_t place) const {
    return static_cast<const T*>(x) + (begin + place) * stride + head * p.head_size;
  }
  T* out(void* x, std::int64_t stride, std::int64_t place) const {
    return static_cast<T*>(x) + (begin + place) * stride + head * p.head_size;
  }
  void zero(void* x, std::int64_t stride, std::int64_t from, std::int64_t to) const {
    for (std::int64_t i = from; i < to; ++i) std::fill_n(out(x, stride, i), p.head_size, T{0});
  }
  std::int64_t position(std::int64_t place) const { return p.position == nullptr ? place : p.position[begin + place]; }

  /// Fills the bias of keys [first, first + count) up to a whole vector; false when none of them is kept.
  bool fill_key_bias(std::int64_t first, std::int64_t count, T* bias) const {
    bool any = false;
    for (std::int64_t j = 0; j < round_up_to_vector<T>(count); ++j) {
      const bool kept = j < count && (p.key_mask == nullptr || p.key_mask[begin + first + j] != 0);
      any = any || kept;
      bias[j] = kept ? T{0} : -std::numeric_limits<T>::infinity();
    }
    return any;
  }
};

template <class P>
std::uint32_t sample_ordinal(const P& p, std::int64_t sequence) {
  const std::uint32_t first = p.dropout.first_sample == nullptr ? 0 : *p.dropout.first_sample;
  return first + static_cast<std::uint32_t>(p.sample == nullptr ? sequence : p.sample[sequence]);
}

/// Draws the decisions of queries [q0, q0 + queries) and keys [k0, k0 + keys).
template <class T, class P>
void draw(const Head<T, P>& h, std::int64_t q0, std::int64_t queries, std::int64_t k0, std::int64_t keys,
          KeepBits& keep) {
  const std::uint32_t sample = sample_ordinal(h.p, h.sequence);
  const std::int64_t first = h.position(k0);
  bool consecutive = true;
  if (h.p.position != nullptr)
    for (std::int64_t j = 1; j < keys; ++j) consecutive = consecutive && h.position(k0 + j) == first + j;
  constexpr auto stride = static_cast<std::int64_t>(kAttentionDropoutStride);
  const auto row_of = [&](std::int64_t i) { return (h.head * stride + h.position(q0 + i)) * stride; };

  if (consecutive) {
    keep.offset = first % 8;
    keep.row_bytes = (keep.offset + keys + 7) / 8;
    const std::int64_t count = queries * keep.row_bytes;
    for (std::int64_t i = 0; i < queries; ++i)
      for (std::int64_t b = 0; b < keep.row_bytes; ++b)
        keep.blocks[i * keep.row_bytes + b] = static_cast<std::uint32_t>(row_of(i) / 8 + first / 8 + b);
    std::fill_n(keep.blocks + count, kPhiloxBlocks, 0u);
    const SampleDropout dropout(h.p.dropout, sample);
    for (std::int64_t b = 0; b < count; b += kPhiloxBlocks) dropout.keep(keep.blocks + b, keep.bytes + b);
    return;
  }
  // Positions in any order: a generator call for each change of block. Rare, so not worth more.
  keep.offset = 0;
  keep.row_bytes = (keys + 7) / 8;
  std::fill_n(keep.bytes, queries * keep.row_bytes, std::uint8_t{0});
  for (std::int64_t i = 0; i < queries; ++i) {
    std::uint32_t drawn = ~0u, bits = 0;
    for (std::int64_t j = 0; j < keys; ++j) {
      const std::int64_t element = row_of(i) + h.position(k0 + j);
      const auto block = static_cast<std::uint32_t>(element / 8);
      if (j == 0 || block != drawn) bits = dropout_keep8(h.p.dropout, *h.p.dropout.step, sample, block);
      drawn = block;
      keep.bytes[i * keep.row_bytes + j / 8] |= static_cast<std::uint8_t>((bits >> (element % 8) & 1u) << (j % 8));
    }
  }
}

/// Blocks of nearly equal size: fn(first, count).
template <class Fn>
void for_blocks(std::int64_t length, std::int64_t most, Fn&& fn) {
  const std::int64_t blocks = (length + most - 1) / most;
  for (std::int64_t b = 0, first = 0; b < blocks; ++b) {
    const std::int64_t count = (length - first + blocks - b - 1) / (blocks - b);
    fn(first, count);
    first += count;
  }
}

template <class T>
struct RowSum {
  T max, sum;
};

/// Replaces the scores of a row by exp(s - max), s = scale * score + bias; answers max and the sum of them.
template <class T>
RowSum<T> exponentials(T* row, const T* bias, std::int64_t width, T scale) {
  constexpr int size = Vec<T>::size;
  Vec<T> largest = Vec<T>::all(-std::numeric_limits<T>::infinity()), sum = Vec<T>::all(0);
  for (std::int64_t j = 0; j < width; j += size) {
    const Vec<T> s = fma(Vec<T>::load(row + j), Vec<T>::all(scale), Vec<T>::load(bias + j));
    s.store(row + j);
    largest = max(largest, s);
  }
  const T top = reduce_max(largest);
  for (std::int64_t j = 0; j < width; j += size) {
    const Vec<T> e = exp(Vec<T>::load(row + j) - Vec<T>::all(top));
    e.store(row + j);
    sum = sum + e;
  }
  return {top, reduce_add(sum)};
}

template <class T>
T dot(const T* a, const T* b, std::int64_t n) {
  constexpr int size = Vec<T>::size;
  Vec<T> sum = Vec<T>::all(0);
  std::int64_t d = 0;
  for (; d + size <= n; d += size) sum = fma(Vec<T>::load(a + d), Vec<T>::load(b + d), sum);
  if (d < n) sum = fma(Vec<T>::load(a + d, n - d), Vec<T>::load(b + d, n - d), sum);
  return reduce_add(sum);
}

/// Turns the exponentials of a block of keys into what multiplies V, and brings lse (and o, if this is not the first
/// block of the row) up to date: o and lse always stand for the keys seen so far.
template <class T>
void finish_row(T* row, std::int64_t width, RowSum<T> block, bool first, T& lse, T* o, std::int64_t head_size,
                const KeepBits* keep, std::int64_t i, T dropout_scale) {
  constexpr int size = Vec<T>::size;
  const T block_lse = block.max + std::log(block.sum);
  T factor = 1 / block.sum;
  if (first) {
    lse = block_lse;
  } else {
    const T high = std::max(lse, block_lse);
    const T joint = high + std::log(std::exp(lse - high) + std::exp(block_lse - high));
    const T shrink = std::exp(lse - joint);
    for (std::int64_t d = 0; d < head_size; ++d) o[d] *= shrink;
    factor = std::exp(block.max - joint);
    lse = joint;
  }
  if (keep == nullptr) {
    for (std::int64_t j = 0; j < width; j += size) (Vec<T>::load(row + j) * Vec<T>::all(factor)).store(row + j);
    return;
  }
  const Vec<T> scaled = Vec<T>::all(factor * dropout_scale);
  for (std::int64_t j = 0; j < width; j += size)
    (Vec<T>::load(row + j) * scaled).keep(keep->at(i, j)).store(row + j);
}

template <class T>
void forward_head(const Attention& p, std::int64_t task) {
  const Head<T, Attention> h(p, task);
  T* lse = static_cast<T*>(p.lse) + h.head * p.tokens + h.begin;
  if (h.keys == 0) {
    h.zero(p.o, p.stride_o, 0, h.length);
    std::fill_n(lse, h.length, -std::numeric_limits<T>::infinity());
    return;
  }
  ForwardScratch<T> scratch;
  bool first = true;
  for_blocks(h.keys, keys_per_block<T>(p.head_size), [&](std::int64_t k0, std::int64_t keys) {
    if (!h.fill_key_bias(k0, keys, scratch.key_bias)) return;
    const Panels<T> k = pack_columns(h.in(p.k, p.stride_k, k0), p.stride_k, keys, p.head_size, scratch.k);
    const Panels<T> v = pack_rows(h.in(p.v, p.stride_v, k0), p.stride_v, keys, p.head_size, scratch.v);
    for_blocks(h.length, kMaxQueries, [&](std::int64_t q0, std::int64_t queries) {
      const Elements<T> q = {h.in(p.q, p.stride_q, q0), p.stride_q, 1};
      multiply(q, queries, k, scratch.scores, kScoreStride<T>, k.columns, false);
      if (p.dropout.active()) draw(h, q0, queries, k0, keys, scratch.keep);
      for (std::int64_t i = 0; i < queries; ++i) {
        T* row = scratch.scores + i * kScoreStride<T>;
        const RowSum<T> sum = exponentials(row, scratch.key_bias, k.columns, static_cast<T>(p.scale));
        finish_row(row, k.columns, sum, first, lse[q0 + i], h.out(p.o, p.stride_o, q0 + i), p.head_size,
                   p.dropout.active() ? &scratch.keep : nullptr, i, static_cast<T>(p.dropout.scale()));
      }
      multiply({scratch.scores, kScoreStride<T>, 1}, queries, v, h.out(p.o, p.stride_o, q0), p.stride_o, p.head_size,
               !first);
    });
    first = false;
  });
}

/// From a row of scores s and of dO V^T: the row of dropout(P) (over s) and of scale * dS (over dO V^T).
template <class T>
void backward_row(T* s, T* d, const T* bias, std::int64_t width, T scale, T lse, T row_sum, const KeepBits* keep,
                  std::int64_t i, T dropout_scale) {
  constexpr int size = Vec<T>::size;
  for (std::int64_t j = 0; j < width; j += size) {
    const Vec<T> probability =
        exp(fma(Vec<T>::load(s + j), Vec<T>::all(scale), Vec<T>::load(bias + j)) - Vec<T>::all(lse));
    Vec<T> dropped = probability, dp = Vec<T>::load(d + j);
    if (keep != nullptr) {
      const std::uint32_t bits = keep->at(i, j);
      dropped = (probability * Vec<T>::all(dropout_scale)).keep(bits);
      dp = (dp * Vec<T>::all(dropout_scale)).keep(bits);
    }
    dropped.store(s + j);
    (probability * (dp - Vec<T>::all(row_sum)) * Vec<T>::all(scale)).store(d + j);
  }
}

template <class T>
void backward_block(const Head<T, AttentionBackward>& h, BackwardScratch<T>& scratch, std::int64_t k0,
                    std::int64_t keys, bool first) {
  const AttentionBackward& p = h.p;
  const T* lse = static_cast<const T*>(p.lse) + h.head * p.tokens + h.begin;
  const T* k_data = h.in(p.k, p.stride_k, k0);
  const Panels<T> k_columns = pack_columns(k_data, p.stride_k, keys, p.head_size, scratch.k_columns);
  const Panels<T> k_rows = pack_rows(k_data, p.stride_k, keys, p.head_size, scratch.k_rows);
  const Panels<T> v = pack_columns(h.in(p.v, p.stride_v, k0), p.stride_v, keys, p.head_size, scratch.v_columns);
  constexpr std::int64_t stride = kScoreStride<T>;
  for_blocks(h.length, kMaxQueries, [&](std::int64_t q0, std::int64_t queries) {
    const Elements<T> q = {h.in(p.q, p.stride_q, q0), p.stride_q, 1};
    const Elements<T> d_o = {h.in(p.d_o, p.stride_do, q0), p.stride_do, 1};
    multiply(q, queries, k_columns, scratch.scores, stride, k_columns.columns, false);
    multiply(d_o, queries, v, scratch.d_scores, stride, v.columns, false);
    if (p.dropout.active()) draw(h, q0, queries, k0, keys, scratch.keep);
    for (std::int64_t i = 0; i < queries; ++i) {
      const T row_sum = dot(h.in(p.d_o, p.stride_do, q0 + i), h.in(p.o, p.stride_o, q0 + i), p.head_size);
      backward_row(scratch.scores + i * stride, scratch.d_scores + i * stride, scratch.key_bias, k_columns.columns,
                   static_cast<T>(p.scale), lse[q0 + i], row_sum, p.dropout.active() ? &scratch.keep : nullptr, i,
                   static_cast<T>(p.dropout.scale()));
    }
    multiply({scratch.d_scores, stride, 1}, queries, k_rows, h.out(p.dq, p.stride_dq, q0), p.stride_dq, p.head_size,
             !first);
    const Panels<T> q_rows = pack_rows(q.data, q.row, queries, p.head_size, scratch.q);
    multiply({scratch.d_scores, 1, stride}, keys, q_rows, h.out(p.dk, p.stride_dk, k0), p.stride_dk, p.head_size,
             q0 > 0);
    const Panels<T> d_o_rows = pack_rows(d_o.data, d_o.row, queries, p.head_size, scratch.d_o);
    multiply({scratch.scores, 1, stride}, keys, d_o_rows, h.out(p.dv, p.stride_dv, k0), p.stride_dv, p.head_size,
             q0 > 0);
  });
}

template <class T>
void backward_head(const AttentionBackward& p, std::int64_t task) {
  const Head<T, AttentionBackward> h(p, task);
  h.zero(p.dk, p.stride_dk, h.keys, h.length);
  h.zero(p.dv, p.stride_dv, h.keys, h.length);
  if (h.keys == 0) return h.zero(p.dq, p.stride_dq, 0, h.length);
  BackwardScratch<T> scratch;
  bool first = true;
  for_blocks(h.keys, keys_per_block<T>(p.head_size), [&](std::int64_t k0, std::int64_t keys) {
    if (!h.fill_key_bias(k0, keys, scratch.key_bias)) {
      h.zero(p.dk, p.stride_dk, k0, k0 + keys);
      h.zero(p.dv, p.stride_dv, k0, k0 + keys);
      return;
    }
    backward_block(h, scratch, k0, keys, first);
    first = false;
  });
}

template <class P>
Status check_cpu(const P& p) {
  if (p.dtype != Dtype::f32 && p.dtype != Dtype::f64)
    return unsupported("attention on the CPU computes in f32 and f64");
  if (p.head_size > kMaxHeadSize) return unsupported("attention on the CPU serves heads of at most 512 elements");
  return check(p);
}

template <class P, void (*f32)(const P&, std::int64_t), void (*f64)(const P&, std::int64_t)>
Status run_heads(const P& p, Stream stream) {
  if (const Status status = kernels::detail::check_attention_arrays(p); !status.ok()) return status;
  parallel_tasks(stream, p.sequences * p.heads,
                 [&](std::int64_t task) { p.dtype == Dtype::f32 ? f32(p, task) : f64(p, task); });
  return {};
}

constexpr Variant attention_variants[] = {
    {"blocks", "packed operands, register tiles, whole softmax rows",
     "16 x 128 tokens, 12 heads of 64: 65 GFLOP/s on one Zen 4 core, 84 at length 512; the only one",
     erased_run<Attention, run_heads<Attention, forward_head<float>, forward_head<double>>>}};
constexpr Variant attention_backward_variants[] = {
    {"blocks", "scores again from lse, five register-tiled products a block",
     "16 x 128 tokens, 12 heads of 64: 67 GFLOP/s on one Zen 4 core, 80 at length 512; the only one",
     erased_run<AttentionBackward, run_heads<AttentionBackward, backward_head<float>, backward_head<double>>>}};

constexpr KernelEntry entries[] = {
    entry<Attention, check_cpu<Attention>>(attention_variants),
    entry<AttentionBackward, check_cpu<AttentionBackward>>(attention_backward_variants)};

}  // namespace

extern const Family attention_family;
const Family attention_family = family(entries);

}  // namespace sinter::kernels::cpu
