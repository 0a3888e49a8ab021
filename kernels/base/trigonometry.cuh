// Sine and cosine in device code, for arguments of any size: CUDA's own keep an array in local memory, which the build
// refuses. Computed in f64 for every dtype; relative errors are below 4 * 2^-53.
#pragma once

#include <bit>
#include <cstdint>

#include "kernels/base/device_code.cuh"

namespace sinter::kernels {

/// An angle as quarter * pi / 2 + rest, with |rest| <= pi / 4 and a quarter modulo 4.
struct Angle {
  unsigned quarter;
  double rest;
};

/// 192 bits of 2 / pi, from the first one on whose product with x = m 2^e is no multiple of 4 for whole m, as six
/// words, lowest first. -62 <= e <= 971.
__device__ __forceinline__ void bits_of_two_over_pi(int e, std::uint32_t (&window)[6]) {
  // 64 zeros, then the binary digits of 2 / pi.
  static constexpr std::uint32_t digits[] = {
    0x00000000u, 0x00000000u, 0xa2f9836eu, 0x4e441529u, 0xfc2757d1u, 0xf534ddc0u, 0xdb629599u, 0x3c439041u, 0xfe5163abu,
    0xdebbc561u, 0xb7246e3au, 0x424dd2e0u, 0x06492eeau, 0x09d1921cu, 0xfe1deb1cu, 0xb129a73eu, 0xe88235f5u, 0x2ebb4484u,
    0xe99c7026u, 0xb45f7e41u, 0x3991d639u, 0x835339f4u, 0x9c845f8bu, 0xbdf9283bu, 0x1ff897ffu, 0xde05980fu, 0xef2f118bu,
    0x5a0a6d1fu, 0x6d367ecfu, 0x27cb09b7u, 0x4f463f66u, 0x9e5fea2du, 0x7527bac7u, 0xebe5f17bu, 0x3d0739f7u, 0x8a5292eau,
    0x6bfb5fb1u, 0x1f8d5d08u, 0x56033046u,
  };
  const int first = e + 62, word = first / 32, shift = 32 - first % 32;
#pragma unroll
  for (int k = 0; k < 6; ++k)
    window[5 - k] = static_cast<std::uint32_t>(
        (std::uint64_t{digits[word + k]} << 32 | std::uint64_t{digits[word + k + 1]}) >> shift);
}

/// Payne and Hanek, 1983: x 2 / pi modulo 4 from the digits of 2 / pi that matter for x. Of 190 bits behind the point
/// at least 120 are left after the largest cancellation that an f64 knows (61 bits).
__device__ inline Angle reduce_angle(double x) {
  const auto bits = std::bit_cast<std::uint64_t>(x) & ~(std::uint64_t{1} << 63);
  const int exponent = static_cast<int>(bits >> 52);
  if (exponent == 0x7ff) return {0, x - x};
  if (!(x > 0.785398163397448 || x < -0.785398163397448)) return {0, x};
  const std::uint64_t m = (bits & 0xfffffffffffffu) | std::uint64_t{1} << 52;
  std::uint32_t window[6], product[6];
  bits_of_two_over_pi(exponent - 1075, window);
  std::uint64_t carry = 0;
#pragma unroll
  for (int k = 0; k < 6; ++k) {
    carry += (m & 0xffffffffu) * window[k];
    product[k] = static_cast<std::uint32_t>(carry);
    carry >>= 32;
  }
  carry = 0;
#pragma unroll
  for (int k = 0; k < 5; ++k) {
    carry += (m >> 32) * window[k] + product[k + 1];
    product[k + 1] = static_cast<std::uint32_t>(carry);
    carry >>= 32;
  }
  // 2 bits of whole quarters, then the fraction, of which 128 bits are kept.
  const std::uint64_t top = std::uint64_t{product[5]} << 32 | product[4];
  const std::uint64_t middle = std::uint64_t{product[3]} << 32 | product[2];
  std::uint64_t high = top << 2 | middle >> 62, low = middle << 2 | product[1] >> 30;
  auto quarter = static_cast<unsigned>(top >> 62);
  const bool above_half = high >> 63 != 0;
  if (above_half) {
    ++quarter;
    low = ~low + 1;
    high = ~high + (low == 0 ? 1 : 0);
  }
  const double rest =
      (static_cast<double>(high) * 0x1p-64 + static_cast<double>(low) * 0x1p-128) * 1.57079632679489661923;
  const bool negative = (x < 0) != above_half;
  return {x < 0 ? 0 - quarter : quarter, negative ? -rest : rest};
}

/// Polynomials for |x| <= pi / 4: those of FreeBSD's msun (k_sin.c, k_cos.c), errors below 2^-58.
__device__ __forceinline__ double sine_near_0(double x) {
  const double z = x * x;
  const double r = 8.33333333332248946124e-03 +
                   z * (-1.98412698298579493134e-04 +
                        z * (2.75573137070700676789e-06 +
                             z * (-2.50507602534068634195e-08 + z * 1.58969099521155010221e-10)));
  return x + x * z * (-1.66666666666666324348e-01 + z * r);
}
__device__ __forceinline__ double cosine_near_0(double x) {
  const double z = x * x, half = 0.5 * z, w = 1 - half;
  const double r = z * (4.16666666666666019037e-02 +
                        z * (-1.38888888888741095749e-03 +
                             z * (2.48015872894767294178e-05 +
                                  z * (-2.75573143513906633035e-07 +
                                       z * (2.08757232129817482790e-09 + z * -1.13596475577881948265e-11)))));
  return w + ((1 - w - half) + z * r);
}

/// sin(x + quarters * pi / 2): the cosine with 1 quarter.
__device__ inline double sine(double x, unsigned quarters) {
  const Angle angle = reduce_angle(x);
  const unsigned quarter = angle.quarter + quarters;
  const double y = (quarter & 1u) != 0 ? cosine_near_0(angle.rest) : sine_near_0(angle.rest);
  return (quarter & 2u) != 0 ? -y : y;
}

}  // namespace sinter::kernels
