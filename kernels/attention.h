// Scaled dot-product attention over packed sequences.
#pragma once

#include "kernels/base/dtype.h"
#include "kernels/base/kernel.h"
#include "kernels/base/philox.h"

namespace sinter::kernels {

/// For each sequence b (tokens offsets[b] .. offsets[b+1] - 1) and head a, with q, k, v its rows of that head:
///   P = softmax(scale * Q K^T)  over the keys of the same sequence;   O = dropout(P) V;   lse = log sum exp of the row
/// q, k, v [tokens, heads * head_size] with `stride_*` elements between tokens (a fused [tokens, 3 * hidden] buffer is
/// three pointers with stride 3 * hidden); o [tokens, heads * head_size] with stride_o; lse [heads, tokens], in
/// computed_dtype(dtype).
/// offsets: i32 [sequences + 1], offsets[0] = 0, not descending, offsets[sequences] = tokens; an empty sequence is
/// allowed. key_mask (null: all kept): keys with key_mask[token] == 0 get probability 0; a sequence with no kept key
/// gives O = 0. Dropout element of (head, query, key): (head * 4096 + position of query) * 4096 + position of key,
/// sample = first_sample + sample of the sequence; positions are `position[token]`, or the place in the sequence where
/// null. dropout.active() needs every position < 4096. CPU: f32, f64. CUDA: every floating dtype, computed in f32 (f64
/// for f64); 16-bit variants on tensor cores round probabilities, dS and the operands of every product to `dtype`.
/// A row's bits depend on its own sequence and head alone; on CUDA also on the variant, which max_length selects (up to
/// 128, or more), and where that is cuDNN on sequences and max_length, both rounded up.
/// FLOPs: 4 * head_size * sum of squared lengths * heads.
struct Attention {
  static constexpr KernelId id = KernelId::attention;
  Dtype dtype = Dtype::f32;
  std::int64_t tokens = 0, sequences = 0, heads = 0, head_size = 0;
  std::int64_t max_length = 0;                ///< longest sequence; an upper bound is enough
  std::int64_t pairs = 0;                     ///< sum of squared lengths, for cost() alone; 0: as if all were longest
  double scale = 1;
  Dropout16 dropout;
  const std::int32_t* offsets = nullptr;
  const std::uint8_t* key_mask = nullptr;
  const std::int32_t* sample = nullptr;       ///< [sequences]: sample of each; null: sequence b is sample b
  const std::int32_t* position = nullptr;     ///< [tokens]
  const void* q = nullptr;
  const void* k = nullptr;
  const void* v = nullptr;
  std::int64_t stride_q = 0, stride_k = 0, stride_v = 0, stride_o = 0;
  void* o = nullptr;
  void* lse = nullptr;
  void* workspace = nullptr;
};

/// With dP = dropout'(dO V^T):  dS = P * (dP - rowsum(dO * O));  dQ = scale * dS K;  dK = scale * dS^T Q;
/// dV = dropout(P)^T dO. P is recomputed from q, k and lse. dq, dk, dv overwrite, with strides stride_d*. They must not
/// overlap an input. CUDA asks for a workspace, cuDNN in both directions.
struct AttentionBackward {
  static constexpr KernelId id = KernelId::attention_backward;
  Dtype dtype = Dtype::f32;
  std::int64_t tokens = 0, sequences = 0, heads = 0, head_size = 0;
  std::int64_t max_length = 0;
  std::int64_t pairs = 0;
  double scale = 1;
  Dropout16 dropout;
  const std::int32_t* offsets = nullptr;
  const std::uint8_t* key_mask = nullptr;
  const std::int32_t* sample = nullptr;
  const std::int32_t* position = nullptr;
  const void* q = nullptr;
  const void* k = nullptr;
  const void* v = nullptr;
  const void* o = nullptr;
  const void* d_o = nullptr;
  const void* lse = nullptr;
  std::int64_t stride_q = 0, stride_k = 0, stride_v = 0, stride_o = 0, stride_do = 0;
  std::int64_t stride_dq = 0, stride_dk = 0, stride_dv = 0;
  void* dq = nullptr;
  void* dk = nullptr;
  void* dv = nullptr;
  void* workspace = nullptr;
};

namespace detail {
template <class P>
constexpr Status check_attention(const P& p) {
  if (p.tokens < 0 || p.sequences < 0 || p.heads < 1 || p.head_size < 1 || p.max_length < 0)
    return invalid("tokens, sequences and max_length must not be negative, heads and head_size at least 1");
  const std::int64_t hidden = p.heads * p.head_size;
  if (p.stride_q < hidden || p.stride_k < hidden || p.stride_v < hidden || p.stride_o < hidden)
    return invalid("a token stride is smaller than heads * head_size");
  if (p.dropout.active() && p.dropout.step == nullptr) return invalid("dropout needs the global step");
  if (p.dropout.active() && p.max_length > static_cast<std::int64_t>(kAttentionDropoutStride))
    return unsupported("attention dropout serves sequences of at most 4096 tokens");
  if (p.dropout.active() && p.heads > 2048)  // element / 8 must fit 32 bits
    return unsupported("attention dropout serves at most 2048 heads");
  return {};
}
/// What the contract asks of the arrays, which must be host memory here. Positions count only for dropout.
template <class P>
constexpr Status check_attention_arrays(const P& p) {
  if (p.sequences == 0 && p.tokens == 0) return {};
  if (p.offsets == nullptr || p.offsets[0] != 0 || p.offsets[p.sequences] != p.tokens)
    return invalid("offsets must begin with 0 and end with tokens");
  for (std::int64_t b = 0; b < p.sequences; ++b) {
    if (p.offsets[b + 1] < p.offsets[b]) return invalid("offsets must not descend");
    if (p.offsets[b + 1] - p.offsets[b] > p.max_length) return invalid("a sequence is longer than max_length");
  }
  if (!p.dropout.active() || p.position == nullptr) return {};
  for (std::int64_t t = 0; t < p.tokens; ++t)
    if (p.position[t] < 0 || p.position[t] >= static_cast<std::int64_t>(kAttentionDropoutStride))
      return invalid("attention dropout needs positions in [0, 4096)");
  return {};
}
template <class P>
constexpr double attention_pairs(const P& p) {
  const auto bound = static_cast<double>(p.sequences) * static_cast<double>(p.max_length * p.max_length);
  return p.pairs == 0 ? bound : static_cast<double>(p.pairs);
}
}  // namespace detail

constexpr Status check(const Attention& p) { return detail::check_attention(p); }
constexpr Status check(const AttentionBackward& p) {
  const std::int64_t hidden = p.heads * p.head_size;
  if (p.stride_do < hidden || p.stride_dq < hidden || p.stride_dk < hidden || p.stride_dv < hidden)
    return invalid("a token stride is smaller than heads * head_size");
  return detail::check_attention(p);
}

constexpr Cost cost(const Attention& p) {
  const double n = static_cast<double>(p.tokens * p.heads * p.head_size), size = static_cast<double>(size_of(p.dtype));
  return {3 * n * size, n * size, 4 * detail::attention_pairs(p) * static_cast<double>(p.heads * p.head_size)};
}
constexpr Cost cost(const AttentionBackward& p) {
  const double n = static_cast<double>(p.tokens * p.heads * p.head_size), size = static_cast<double>(size_of(p.dtype));
  return {5 * n * size, 3 * n * size, 10 * detail::attention_pairs(p) * static_cast<double>(p.heads * p.head_size)};
}

}  // namespace sinter::kernels
