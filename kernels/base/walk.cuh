// How kernels walk strided operands: from the number of an element to its offset in each of them.
#pragma once

#include <cstdint>

#include "kernels/base/device_code.cuh"
#include "kernels/base/loop_nest.h"

namespace sinter::kernels {

/// Quotients by a number d >= 1 that the host knows. 64-bit: the division itself, tens of instructions on a GPU.
template <class Index>
struct Divisor {
  Index d = 1;

  Divisor() = default;
  explicit Divisor(std::int64_t by) : d(static_cast<Index>(by)) {}
  __device__ __forceinline__ Index quotient(Index n) const { return n / d; }
};

/// 32-bit: a multiplication and a shift, for n and d below 2^31. With s = ceil(log2 d) and
/// m = floor(2^32 (2^s - d) / d) + 1, the quotient is (floor(n m / 2^32) + n) / 2^s (Granlund and Montgomery, 1994).
template <>
struct Divisor<std::uint32_t> {
  std::uint32_t d = 1, multiplier = 1, shift = 0;

  Divisor() = default;
  explicit Divisor(std::int64_t by) : d(static_cast<std::uint32_t>(by)) {
    while ((std::uint64_t{1} << shift) < d) ++shift;
    multiplier = static_cast<std::uint32_t>((((std::uint64_t{1} << shift) - d) << 32) / d + 1);
  }
  __device__ __forceinline__ std::uint32_t quotient(std::uint32_t n) const {
    return (__umulhi(n, multiplier) + n) >> shift;
  }
};

/// A LoopNest as a kernel parameter. Index is std::int64_t, or std::uint32_t where fits_32 says so.
template <int N, class Index>
struct Walk {
  int rank = 1;
  Index count = 0;
  Divisor<Index> size[kMaxRank];         ///< innermost first
  std::int64_t step[N][kMaxRank] = {};   ///< in elements

  explicit Walk(const LoopNest<N>& nest) : rank(nest.rank), count(static_cast<Index>(nest.count())) {
    for (int i = 0; i < rank; ++i) {
      const int d = rank - 1 - i;
      // Nobody divides by the outermost size, nor in an empty nest, whose sizes may be 0.
      if (d > 0 && count > 0) size[i] = Divisor<Index>(nest.size[d]);
      for (int k = 0; k < N; ++k) step[k][i] = nest.step[k][d];
    }
  }

  /// Offsets of the element with row-major number i < count.
  __device__ __forceinline__ void offsets(Index i, std::int64_t (&at)[N]) const {
#pragma unroll
    for (int k = 0; k < N; ++k) at[k] = 0;
#pragma unroll
    for (int d = 0; d < kMaxRank; ++d) {
      const bool outermost = d + 1 >= rank;
      const Index rest = outermost ? Index{0} : size[d].quotient(i);
      const std::int64_t place = static_cast<std::int64_t>(i - rest * size[d].d);
#pragma unroll
      for (int k = 0; k < N; ++k) at[k] += place * step[k][d];
      if (outermost) break;
      i = rest;
    }
  }
};

/// True when a Walk of this nest can count in 32 bits.
template <int N>
bool fits_32(const LoopNest<N>& nest) {
  return nest.count() < std::int64_t{1} << 31;
}

}  // namespace sinter::kernels
