// The CUDA side of device_code.cuh.
#pragma once

#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <cuda_runtime.h>

#include <cstddef>
#include <cstdint>
#include <type_traits>
#include <utility>

#include "kernels/base/cuda_status.cuh"
#include "kernels/base/shared_limits.h"
#include "kernels/base/status.h"
#include "kernels/base/stream.h"

/// SINTER_SHARED(float, tile, [32][33]);   an array in the block's static shared memory, 16-byte aligned
#define SINTER_SHARED(T, name, ...) __shared__ alignas(16) T name __VA_ARGS__
/// SINTER_DYNAMIC_SHARED(float, values);   a pointer to the bytes that the launch asked for, 128-byte aligned
#define SINTER_DYNAMIC_SHARED(T, name)                                         \
  extern __shared__ __align__(128) unsigned char sinter_dynamic_shared_[];     \
  T* name = reinterpret_cast<T*>(sinter_dynamic_shared_)

// What assert() of a device calls; the headers declare it only without NDEBUG.
extern "C" __device__ __attribute__((noreturn)) void __assertfail(const char* message, const char* file, unsigned line,
                                                                  const char* function, std::size_t char_size);

namespace sinter::kernels {

/// Stops the kernel: the sentence goes to the standard error, and every later call of this context fails. For data in
/// memory that breaks the contract, such as an index out of range.
[[noreturn]] __device__ __forceinline__ void device_fail(const char* sentence) {
  __assertfail(sentence, "kernels", 0, "a kernel", 1);
}

/// Starts `kernel` on the stream. Faults inside a kernel show at a later call, as with CUDA.
template <class... Parameters, class... Arguments>
Status launch(void (*kernel)(Parameters...), dim3 grid, dim3 block, std::size_t dynamic_shared_bytes, Stream stream,
              Arguments&&... arguments) {
  static_assert(sizeof...(Parameters) == sizeof...(Arguments));
  kernel<<<grid, block, dynamic_shared_bytes, static_cast<cudaStream_t>(stream.handle)>>>(
      static_cast<Parameters>(std::forward<Arguments>(arguments))...);
  return status_of(cudaGetLastError());
}

/// Needed before a launch with more than 48 KiB of dynamic shared memory. Status `unsupported` where the device has
/// less.
template <class... Parameters>
Status allow_dynamic_shared(void (*kernel)(Parameters...), std::size_t bytes, Stream) {
  return allow_dynamic_shared(reinterpret_cast<const void*>(kernel), bytes);
}

__device__ __forceinline__ std::uint32_t shared_address(const void* p) {
  return static_cast<std::uint32_t>(__cvta_generic_to_shared(p));
}

/// 16 bytes from global to shared memory, or zeros where `valid` is false; lands at wait_copies.
__device__ __forceinline__ void copy_async_16(void* to, const void* from, bool valid = true) {
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;\n" ::"r"(shared_address(to)),
               "l"(__cvta_generic_to_global(from)), "r"(valid ? 16 : 0)
               : "memory");
}
/// The first `bytes` (0 to 16) of 16, and zeros behind.
__device__ __forceinline__ void copy_async_part(void* to, const void* from, int bytes) {
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;\n" ::"r"(shared_address(to)),
               "l"(__cvta_generic_to_global(from)), "r"(bytes)
               : "memory");
}
__device__ __forceinline__ void commit_copies() { asm volatile("cp.async.commit_group;\n" ::: "memory"); }
/// Until at most N committed groups of this thread are under way. A barrier must follow before others read.
template <int N>
__device__ __forceinline__ void wait_copies() {
  asm volatile("cp.async.wait_group %0;\n" ::"n"(N) : "memory");
}

/// d = a b + c on 16 x 8 x 16 fragments of T (__half or __nv_bfloat16) with f32 accumulation; d may be c. PTX ISA,
/// "Matrix Fragments for mma.m16n8k16".
template <class T>
__device__ __forceinline__ void mma_m16n8k16(float (&d)[4], const std::uint32_t (&a)[4], const std::uint32_t (&b)[2],
                                             const float (&c)[4]) {
#define SINTER_MMA(type)                                                                       \
  asm volatile("mma.sync.aligned.m16n8k16.row.col.f32." type "." type ".f32 "                   \
               "{%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%10,%11,%12,%13};\n"                     \
               : "=f"(d[0]), "=f"(d[1]), "=f"(d[2]), "=f"(d[3])                                 \
               : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]), "f"(c[0]),   \
                 "f"(c[1]), "f"(c[2]), "f"(c[3]))
  static_assert(std::is_same_v<T, __half> || std::is_same_v<T, __nv_bfloat16>);
  if constexpr (std::is_same_v<T, __half>)
    SINTER_MMA("f16");
  else
    SINTER_MMA("bf16");
#undef SINTER_MMA
}

/// Four 8 x 8 matrices of 16-bit elements from shared memory; lane l gives the 16-byte aligned address of row l % 8 of
/// matrix l / 8.
__device__ __forceinline__ void ldmatrix_x4(std::uint32_t (&r)[4], const void* row) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3}, [%4];\n"
               : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
               : "r"(shared_address(row))
               : "memory");
}
__device__ __forceinline__ void ldmatrix_x4_transposed(std::uint32_t (&r)[4], const void* row) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0,%1,%2,%3}, [%4];\n"
               : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
               : "r"(shared_address(row))
               : "memory");
}

}  // namespace sinter::kernels
