// What all attention kernels share: the variants' functions, and how a kernel reads offsets, positions and samples.
// Included by kernels/cuda/attention*.cu only.
#pragma once

#include <cstdint>

#include "kernels/attention.h"
#include "kernels/base/device_code.cuh"

namespace sinter::kernels::cuda {

// The variants on tensor cores, and whether they take these params. attention_short.cu:
Status supports_short(const Attention& p);
Status supports_short(const AttentionBackward& p);
Status attend_short(const Attention& p, Stream stream);
Status differentiate_short(const AttentionBackward& p, Stream stream);
// attention_long.cu:
Status supports_long(const Attention& p);
Status supports_long(const AttentionBackward& p);
Status attend_long(const Attention& p, Stream stream);
Status differentiate_long(const AttentionBackward& p, Stream stream);

/// A sequence's number, and its place among the tokens.
struct Sequence {
  std::int64_t index, begin, length;
};

/// Sequence number b. Checks the rules of offsets as far as this sequence depends on them.
template <class P>
__device__ __forceinline__ Sequence sequence_at(const P& p, std::int64_t b) {
  const std::int64_t begin = p.offsets[b], end = p.offsets[b + 1];
  if (begin < 0 || end < begin || end > p.tokens || (b == 0 && begin != 0) || (b == p.sequences - 1 && end != p.tokens))
    device_fail("offsets must begin with 0, not descend, and end with tokens");
  if (end - begin > p.max_length) device_fail("a sequence is longer than max_length");
  return {b, begin, end - begin};
}

/// A token's position for dropout; `place` is its place in its sequence.
template <class P>
__device__ __forceinline__ std::uint64_t position_of(const P& p, std::int64_t token, std::int64_t place) {
  if (p.position == nullptr) return static_cast<std::uint64_t>(place);
  const auto position = static_cast<std::uint64_t>(static_cast<std::int64_t>(p.position[token]));
  if (position >= kAttentionDropoutStride) device_fail("attention dropout needs positions in [0, 4096)");
  return position;
}

template <class P>
__device__ __forceinline__ std::uint32_t ordinal_of(const P& p, std::int64_t sequence) {
  const std::uint32_t first = p.dropout.first_sample == nullptr ? 0 : *p.dropout.first_sample;
  return first + static_cast<std::uint32_t>(p.sample == nullptr ? sequence : p.sample[sequence]);
}

/// Element 0 of a head in the sequence's first token.
template <class T, class P>
__device__ __forceinline__ T* head_of(const P& p, T* x, std::int64_t stride, const Sequence& sequence,
                                      std::int64_t head) {
  return x + sequence.begin * stride + head * p.head_size;
}

}  // namespace sinter::kernels::cuda
