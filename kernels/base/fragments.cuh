// Products of 16-bit matrices by tensor cores: fragments from tiles in shared memory, m16n8k16, sums in f32.
//
// A warp's product  C[16, 8 j] += A[16, 16] B[16, 8 j]  takes fragments as PTX lays them out: with g = lane / 4 and
// q = 2 (lane % 4), sum[0], sum[1] of a lane are C[g][q], C[g][q + 1], sum[2], sum[3] those of row g + 8.
//
// A tile in shared memory holds an operand in either of its layouts: `deep`, where k runs along the stored rows
// (A as [m][k], B as [n][k]), or not (A as [k][m], B as [k][n]). `pitch` is the number of elements between stored rows:
// rows begin at multiples of 16 bytes, and pitch * 2 bytes is an odd multiple of 16, so that the eight rows that
// ldmatrix reads at once lie in different banks.
#pragma once

#include <cstdint>
#include <type_traits>

#include "kernels/base/collective.cuh"
#include "kernels/base/vec.cuh"

namespace sinter::kernels {

/// CUDA's own name of a 16-bit storage type.
template <class T>
using TensorCoreType = std::conditional_t<std::is_same_v<T, f16>, __half, __nv_bfloat16>;

template <class T>
inline constexpr bool has_tensor_cores = std::is_same_v<T, f16> || std::is_same_v<T, bf16>;

/// The pitch for stored rows of `elements` 16-bit elements, a multiple of 16.
constexpr int fragment_pitch(int elements) { return elements + 8; }

/// A[m .. m + 15][k .. k + 15] of a tile.
template <bool deep, class T>
__device__ __forceinline__ void load_a(std::uint32_t (&a)[4], const T* tile, int pitch, int m, int k) {
  const int lane = static_cast<int>(threadIdx.x) % kWarp, row = lane % 8, matrix = lane / 8;
  if constexpr (deep)
    ldmatrix_x4(a, tile + (m + matrix % 2 * 8 + row) * pitch + k + matrix / 2 * 8);
  else
    ldmatrix_x4_transposed(a, tile + (k + matrix / 2 * 8 + row) * pitch + m + matrix % 2 * 8);
}

/// B[k .. k + 15][n .. n + 15] of a tile: b[0], b[1] for the first eight columns, b[2], b[3] for the others.
template <bool deep, class T>
__device__ __forceinline__ void load_b(std::uint32_t (&b)[4], const T* tile, int pitch, int n, int k) {
  const int lane = static_cast<int>(threadIdx.x) % kWarp, row = lane % 8, matrix = lane / 8;
  if constexpr (deep)
    ldmatrix_x4(b, tile + (n + matrix / 2 * 8 + row) * pitch + k + matrix % 2 * 8);
  else
    ldmatrix_x4_transposed(b, tile + (k + matrix % 2 * 8 + row) * pitch + n + matrix / 2 * 8);
}

/// sum += A B for eight columns, whose fragment is (b0, b1).
template <class T>
__device__ __forceinline__ void multiply_add(float (&sum)[4], const std::uint32_t (&a)[4], std::uint32_t b0,
                                             std::uint32_t b1) {
  const std::uint32_t b[2] = {b0, b1};
  mma_m16n8k16<TensorCoreType<T>>(sum, a, b, sum);
}

/// Two elements as a fragment holds them, the first in the low half.
template <class T>
__device__ __forceinline__ std::uint32_t pack(float low, float high) {
  return std::uint32_t{narrow<T>(low).bits} | std::uint32_t{narrow<T>(high).bits} << 16;
}

}  // namespace sinter::kernels
