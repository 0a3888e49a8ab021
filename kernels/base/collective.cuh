// Sums and maxima over a warp and over a block, always in the same order: the bits depend on nothing but the values.
#pragma once

#include <limits>
#include <type_traits>

#include "kernels/base/device_code.cuh"

namespace sinter::kernels {

inline constexpr int kWarp = 32;
inline constexpr unsigned kWholeWarp = 0xffffffffu;

/// Integers wrap.
struct Add {
  template <class A>
  static __device__ __forceinline__ A of(A a, A b) {
    if constexpr (std::is_integral_v<A>) {
      using U = std::make_unsigned_t<A>;
      return static_cast<A>(static_cast<U>(a) + static_cast<U>(b));
    } else {
      return a + b;
    }
  }
  template <class A>
  static __device__ __forceinline__ A identity() {
    return A{0};
  }
};
/// Of numbers; a NaN among them wins.
struct Max {
  template <class A>
  static __device__ __forceinline__ A of(A a, A b) {
    return b > a || b != b ? b : a;
  }
  template <class A>
  static __device__ __forceinline__ A identity() {
    if constexpr (std::is_integral_v<A>)
      return std::numeric_limits<A>::lowest();
    else
      return -static_cast<A>(INFINITY);
  }
};

/// Every lane gets the result over the `width` lanes of its group (a power of two). All lanes of the warp must call it.
template <class Op, int width = kWarp, class A>
__device__ __forceinline__ A warp_all(A x) {
#pragma unroll
  for (int step = width / 2; step > 0; step /= 2) x = Op::of(x, __shfl_xor_sync(kWholeWarp, x, step));
  return x;
}

/// Every thread of the block gets the result; `threads` (a multiple of 32, at most 1024) is the size of the block.
/// `parts` is shared memory of threads / 32 elements, free again when the next barrier was passed.
template <class Op, int threads, class A>
__device__ __forceinline__ A block_all(A x, A* parts) {
  static_assert(threads % kWarp == 0 && threads <= 1024);
  constexpr int warps = threads / kWarp;
  x = warp_all<Op>(x);
  if constexpr (warps == 1) return x;
  if (threadIdx.x % kWarp == 0) parts[threadIdx.x / kWarp] = x;
  __syncthreads();
  A total = parts[0];
#pragma unroll
  for (int w = 1; w < warps; ++w) total = Op::of(total, parts[w]);
  return total;
}

}  // namespace sinter::kernels
