// How device code reads and writes elements, one or 16 bytes at a time: every storage type is computed in f32 or f64.
#pragma once

#include <cstdint>
#include <type_traits>

#include "kernels/base/device_code.cuh"
#include "kernels/base/dtype.h"

namespace sinter::kernels {

/// What elements stored as T are computed in: double for double, else float.
template <class T>
using Computed = std::conditional_t<std::is_same_v<T, double>, double, float>;

__device__ __forceinline__ float widen(float x) { return x; }
__device__ __forceinline__ double widen(double x) { return x; }
#ifdef __CUDACC__
__device__ __forceinline__ float widen(f16 x) { return __half2float(__ushort_as_half(x.bits)); }
__device__ __forceinline__ float widen(bf16 x) { return __uint_as_float(static_cast<unsigned>(x.bits) << 16); }
#else
__device__ __forceinline__ float widen(f16 x) { return to_float(x); }
__device__ __forceinline__ float widen(bf16 x) { return to_float(x); }
#endif

/// To the storage type, to nearest even.
template <class T>
__device__ __forceinline__ T narrow(Computed<T> x) {
  if constexpr (std::is_same_v<T, f16>) {
#ifdef __CUDACC__
    return {__half_as_ushort(__float2half_rn(x))};
#else
    return to_f16(x);
#endif
  } else if constexpr (std::is_same_v<T, bf16>) {
#ifdef __CUDACC__
    return {__bfloat16_as_ushort(__float2bfloat16_rn(x))};
#else
    return to_bf16(x);
#endif
  } else {
    return x;
  }
}

template <class T>
__device__ __forceinline__ Computed<T> load(const T* p) {
  return widen(*p);
}
template <class T>
__device__ __forceinline__ void store(T* p, Computed<T> x) {
  *p = narrow<T>(x);
}

/// What stays of x when it is stored as T.
template <class T>
__device__ __forceinline__ Computed<T> rounded(Computed<T> x) {
  return widen(narrow<T>(x));
}

/// N elements of T as one value of memory; N * sizeof(T) is 2, 4, 8 or 16.
template <class T, int N>
struct alignas(N * sizeof(T)) Pack {
  T element[N];
};

/// Elements of T in 16 bytes.
template <class T>
inline constexpr int kVector = static_cast<int>(16 / sizeof(T));

/// N elements at p in one access, or in accesses of 16 bytes where they are more; p is aligned to the size of one
/// access.
template <int N, class T>
__device__ __forceinline__ void load_vector(const T* p, Computed<T> (&x)[N]) {
  constexpr int part = N < kVector<T> ? N : kVector<T>;
  static_assert(N % part == 0);
#pragma unroll
  for (int first = 0; first < N; first += part) {
    const Pack<T, part> pack = *reinterpret_cast<const Pack<T, part>*>(p + first);
#pragma unroll
    for (int i = 0; i < part; ++i) x[first + i] = widen(pack.element[i]);
  }
}
template <int N, class T>
__device__ __forceinline__ void store_vector(T* p, const Computed<T> (&x)[N]) {
  constexpr int part = N < kVector<T> ? N : kVector<T>;
  static_assert(N % part == 0);
#pragma unroll
  for (int first = 0; first < N; first += part) {
    Pack<T, part> pack;
#pragma unroll
    for (int i = 0; i < part; ++i) pack.element[i] = narrow<T>(x[first + i]);
    *reinterpret_cast<Pack<T, part>*>(p + first) = pack;
  }
}

/// True when rows of `cols` elements of T at p can be read and written by load_vector and store_vector of N elements.
/// Null pointers, which are never accessed, are fine. For launchers, on the host.
template <int N, class T>
bool rows_are_aligned(const T* p, std::int64_t cols) {
  constexpr auto bytes = static_cast<std::uintptr_t>(N < kVector<T> ? N * sizeof(T) : 16);
  return reinterpret_cast<std::uintptr_t>(p) % bytes == 0 && cols % N == 0;
}

}  // namespace sinter::kernels
