// CUDA's names on the emulated machine: what device_code.cuh is to a host compiler. The toolkit's headers give the
// vector and half types, whose arithmetic has host versions.
#pragma once

#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <math.h>  // abs, sqrt, exp ... of float and double without std::, as nvcc has them; <cmath> leaves only int's abs
#include <vector_functions.h>
#include <vector_types.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <memory>
#include <tuple>
#include <type_traits>
#include <utility>

#include "kernels/base/status.h"
#include "kernels/base/stream.h"
#include "kernels/simt/device.h"
#include "kernels/simt/machine.h"

#undef __global__
#undef __device__
#undef __host__
#undef __shared__
#undef __constant__
#undef __forceinline__
#undef __noinline__
#undef __launch_bounds__
#undef __grid_constant__
#define __global__
#define __device__
#define __host__
#define __constant__ static_assert(false, "pass it as a kernel parameter: the emulated machine has no __constant__");
#define __shared__ static_assert(false, "use SINTER_SHARED or SINTER_DYNAMIC_SHARED");
#define __forceinline__ inline __attribute__((always_inline))
#define __noinline__ __attribute__((noinline))
#define __launch_bounds__(...)
#define __grid_constant__
#ifndef __restrict__
#define __restrict__ __restrict
#endif
#define __activemask() static_assert(false, "which lanes are active is not defined; use a mask that they share")

#define threadIdx (::sinter::kernels::simt::current_thread->index)
#define blockIdx (::sinter::kernels::simt::current_block.block)
#define blockDim (::sinter::kernels::simt::current_block.block_dim)
#define gridDim (::sinter::kernels::simt::current_block.grid_dim)
constexpr int warpSize = 32;

// The address of a static variable names the array: one for each declaration and template instance.
#define SINTER_SHARED(T, name, ...)                                    \
  typedef T name##_sinter_type __VA_ARGS__;                            \
  static char name##_sinter_key;                                       \
  name##_sinter_type& name = *static_cast<name##_sinter_type*>(        \
      ::sinter::kernels::simt::static_shared(&name##_sinter_key, sizeof(name##_sinter_type)))
#define SINTER_DYNAMIC_SHARED(T, name) T* name = static_cast<T*>(::sinter::kernels::simt::dynamic_shared())

#define SINTER_HERE const ::sinter::kernels::simt::Place& place = ::sinter::kernels::simt::Place::current()

namespace sinter::kernels::simt {

template <class T>
std::uint64_t to_bits(T value) {
  static_assert(sizeof(T) <= sizeof(std::uint64_t) && std::is_trivially_copyable_v<T>);
  std::uint64_t bits = 0;
  std::memcpy(&bits, &value, sizeof value);
  return bits;
}
template <class T>
T from_bits(std::uint64_t bits) {
  T value;
  std::memcpy(&value, &bits, sizeof value);
  return value;
}

}  // namespace sinter::kernels::simt

inline void __syncthreads(SINTER_HERE) {
  sinter::kernels::simt::barrier(sinter::kernels::simt::Combine::count, false, place);
}
inline int __syncthreads_count(int predicate, SINTER_HERE) {
  return sinter::kernels::simt::barrier(sinter::kernels::simt::Combine::count, predicate != 0, place);
}
inline int __syncthreads_and(int predicate, SINTER_HERE) {
  return sinter::kernels::simt::barrier(sinter::kernels::simt::Combine::all, predicate != 0, place);
}
inline int __syncthreads_or(int predicate, SINTER_HERE) {
  return sinter::kernels::simt::barrier(sinter::kernels::simt::Combine::any, predicate != 0, place);
}
inline void __syncwarp(std::uint32_t mask = 0xffffffffu, SINTER_HERE) { sinter::kernels::simt::sync_warp(mask, place); }

#define SINTER_SHUFFLE(name, kind, Lane)                                                                        \
  template <class T>                                                                                            \
  T name(std::uint32_t mask, T value, Lane lane, int width = 32, SINTER_HERE) {                                 \
    namespace simt = sinter::kernels::simt;                                                                     \
    return simt::from_bits<T>(                                                                                  \
        simt::shuffle(simt::Shuffle::kind, mask, simt::to_bits(value), static_cast<int>(lane), width, place)); \
  }
SINTER_SHUFFLE(__shfl_sync, index, int)
SINTER_SHUFFLE(__shfl_up_sync, up, unsigned)
SINTER_SHUFFLE(__shfl_down_sync, down, unsigned)
SINTER_SHUFFLE(__shfl_xor_sync, exclusive_or, int)
#undef SINTER_SHUFFLE

inline std::uint32_t __ballot_sync(std::uint32_t mask, int predicate, SINTER_HERE) {
  return sinter::kernels::simt::vote(sinter::kernels::simt::Vote::ballot, mask, predicate != 0, place);
}
inline int __all_sync(std::uint32_t mask, int predicate, SINTER_HERE) {
  return static_cast<int>(sinter::kernels::simt::vote(sinter::kernels::simt::Vote::all, mask, predicate != 0, place));
}
inline int __any_sync(std::uint32_t mask, int predicate, SINTER_HERE) {
  return static_cast<int>(sinter::kernels::simt::vote(sinter::kernels::simt::Vote::any, mask, predicate != 0, place));
}
inline std::uint32_t __reduce_add_sync(std::uint32_t mask, std::uint32_t value, SINTER_HERE) {
  return sinter::kernels::simt::warp_reduce(sinter::kernels::simt::WarpReduce::add, mask, value, place);
}
inline std::uint32_t __reduce_max_sync(std::uint32_t mask, std::uint32_t value, SINTER_HERE) {
  return sinter::kernels::simt::warp_reduce(sinter::kernels::simt::WarpReduce::max, mask, value, place);
}
inline std::uint32_t __reduce_min_sync(std::uint32_t mask, std::uint32_t value, SINTER_HERE) {
  return sinter::kernels::simt::warp_reduce(sinter::kernels::simt::WarpReduce::min, mask, value, place);
}
inline void __threadfence() { sinter::kernels::simt::thread_fence(); }
inline void __threadfence_block() {}

// One host thread runs the whole grid, so that reading, changing and writing is atomic. The checker is told by
// atomic_access; the accesses themselves are hidden from it.
#define SINTER_ATOMIC(name, result)                                        \
  template <class T>                                                       \
  __attribute__((no_sanitize("thread"), noinline)) T name(T* p, T value) { \
    sinter::kernels::simt::atomic_access(p, sizeof(T));                    \
    const T old = *p;                                                      \
    *p = static_cast<T>(result);                                           \
    return old;                                                            \
  }
SINTER_ATOMIC(atomicAdd, old + value)
SINTER_ATOMIC(atomicMax, old < value ? value : old)
SINTER_ATOMIC(atomicMin, value < old ? value : old)
SINTER_ATOMIC(atomicOr, old | value)
SINTER_ATOMIC(atomicExch, value)
SINTER_ATOMIC(atomicInc, old >= value ? T{0} : old + 1)
#undef SINTER_ATOMIC

template <class T>
T __ldg(const T* p) {
  return *p;
}
inline float __expf(float x) { return std::exp(x); }
inline float __logf(float x) { return std::log(x); }
inline float __fdividef(float a, float b) { return a / b; }
inline float rsqrtf(float x) { return 1.0f / std::sqrt(x); }
inline double rsqrt(double x) { return 1.0 / std::sqrt(x); }
inline float __fmaf_rn(float a, float b, float c) { return std::fma(a, b, c); }
inline float __fmul_rn(float a, float b) { return a * b; }
inline float __fadd_rn(float a, float b) { return a + b; }
inline int __popc(unsigned x) { return std::popcount(x); }
inline int __clz(int x) { return std::countl_zero(static_cast<unsigned>(x)); }
inline int __ffs(int x) { return __builtin_ffs(x); }
inline unsigned __umulhi(unsigned a, unsigned b) { return static_cast<unsigned>(std::uint64_t{a} * b >> 32); }
inline unsigned __float_as_uint(float x) { return std::bit_cast<unsigned>(x); }
inline float __uint_as_float(unsigned bits) { return std::bit_cast<float>(bits); }
inline int __float_as_int(float x) { return std::bit_cast<int>(x); }
inline float __int_as_float(int bits) { return std::bit_cast<float>(bits); }
using std::erf;
using std::erfc;
using std::exp;
using std::fma;
using std::log;
using std::max;
using std::min;
using std::sqrt;

namespace sinter::kernels {

[[noreturn]] inline void device_fail(const char* sentence) { simt::fault(sentence); }

template <class... Parameters, class... Arguments>
Status launch(void (*kernel)(Parameters...), dim3 grid, dim3 block, std::size_t dynamic_shared_bytes, Stream stream,
              Arguments&&... arguments) {
  static_assert(sizeof...(Parameters) == sizeof...(Arguments));
  struct Call {
    void (*kernel)(Parameters...);
    std::tuple<std::decay_t<Parameters>...> arguments;
  };
  auto call = std::make_shared<const Call>(
      Call{kernel, {static_cast<Parameters>(std::forward<Arguments>(arguments))...}});
  return simt::device_of(stream).launch({.kernel = reinterpret_cast<const void*>(kernel),
                                         .grid = {grid.x, grid.y, grid.z},
                                         .block = {block.x, block.y, block.z},
                                         .dynamic_shared_bytes = dynamic_shared_bytes,
                                         .arguments = call,
                                         .argument_bytes = sizeof(Call),
                                         .thread_body =
                                             [](const void* p) {
                                               const Call& made = *static_cast<const Call*>(p);
                                               std::apply(made.kernel, made.arguments);
                                             }},
                                        stream);
}

/// Bytes that a block may have, static and dynamic together. The current device is always device 0 here.
inline std::size_t most_shared_bytes() { return simt::Device::get(0).options.most_shared_bytes; }

template <class... Parameters>
Status allow_dynamic_shared(void (*kernel)(Parameters...), std::size_t bytes, Stream stream) {
  return simt::device_of(stream).allow_dynamic_shared(reinterpret_cast<const void*>(kernel), bytes);
}

inline void copy_async_16(void* to, const void* from, bool valid = true, SINTER_HERE) {
  simt::copy_async(to, from, 16, valid ? 16 : 0, place);
}
inline void copy_async_part(void* to, const void* from, int bytes, SINTER_HERE) {
  simt::copy_async(to, from, 16, static_cast<std::uint32_t>(bytes), place);
}
inline void commit_copies() { simt::commit_copy_group(); }
template <int N>
void wait_copies() {
  simt::wait_for_copies(N);
}

template <class T>
void mma_m16n8k16(float (&d)[4], const std::uint32_t (&a)[4], const std::uint32_t (&b)[2], const float (&c)[4],
                  SINTER_HERE) {
  static_assert(std::is_same_v<T, __half> || std::is_same_v<T, __nv_bfloat16>);
  simt::warp_mma(std::is_same_v<T, __half> ? simt::Half::f16 : simt::Half::bf16, d, a, b, c, place);
}
inline void ldmatrix_x4(std::uint32_t (&r)[4], const void* row, SINTER_HERE) {
  simt::warp_ldmatrix(r, row, /*transpose=*/false, place);
}
inline void ldmatrix_x4_transposed(std::uint32_t (&r)[4], const void* row, SINTER_HERE) {
  simt::warp_ldmatrix(r, row, /*transpose=*/true, place);
}

}  // namespace sinter::kernels
