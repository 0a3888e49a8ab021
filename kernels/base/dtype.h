// Element types of buffers, and the two 16-bit floating-point storage types with their conversions.
#pragma once

#include <bit>
#include <cstddef>
#include <cstdint>

namespace sinter::kernels {

/// Element type of a buffer. `boolean` is one byte, 0 or 1.
/// The CPU computes in f32 and f64; f16 and bf16 can be stored, cast, copied and compared.
enum class Dtype : std::uint8_t { f32, f64, f16, bf16, i64, i32, u8, boolean };

inline constexpr int kDtypeCount = 8;

/// Bytes of one element.
constexpr std::size_t size_of(Dtype dtype) {
  constexpr std::size_t sizes[kDtypeCount] = {4, 8, 2, 2, 8, 4, 1, 1};
  return sizes[static_cast<int>(dtype)];
}

/// Short name as it stands in messages: "f32", "bf16", "bool" ...
constexpr const char* name(Dtype dtype) {
  constexpr const char* names[kDtypeCount] = {"f32", "f64", "f16", "bf16", "i64", "i32", "u8", "bool"};
  return names[static_cast<int>(dtype)];
}

constexpr bool is_floating(Dtype dtype) {
  return dtype == Dtype::f32 || dtype == Dtype::f64 || dtype == Dtype::f16 || dtype == Dtype::bf16;
}

/// What elements of a floating dtype are computed in; also the dtype of the vectors that go with a matrix of `dtype`
/// (statistics of rows; factors, offsets and gradients of columns): f64 for f64, else f32.
constexpr Dtype computed_dtype(Dtype dtype) { return dtype == Dtype::f64 ? Dtype::f64 : Dtype::f32; }

/// IEEE 754 binary16, storage only.
struct f16 {
  std::uint16_t bits = 0;
};

/// bfloat16 (the upper half of an f32), storage only.
struct bf16 {
  std::uint16_t bits = 0;
};

constexpr float to_float(bf16 x) { return std::bit_cast<float>(static_cast<std::uint32_t>(x.bits) << 16); }

/// Round to nearest, ties to even; NaN stays a quiet NaN.
constexpr bf16 to_bf16(float x) {
  const std::uint32_t u = std::bit_cast<std::uint32_t>(x);
  if ((u & 0x7fffffffu) > 0x7f800000u) return {static_cast<std::uint16_t>((u >> 16) | 0x40u)};
  return {static_cast<std::uint16_t>((u + 0x7fffu + ((u >> 16) & 1u)) >> 16)};
}

constexpr float to_float(f16 x) {
  const std::uint32_t sign = static_cast<std::uint32_t>(x.bits & 0x8000u) << 16;
  std::uint32_t exponent = (x.bits >> 10) & 0x1fu;
  std::uint32_t mantissa = x.bits & 0x3ffu;
  if (exponent == 0x1fu) return std::bit_cast<float>(sign | 0x7f800000u | (mantissa << 13));
  if (exponent == 0) {
    if (mantissa == 0) return std::bit_cast<float>(sign);
    exponent = 1;  // subnormal: shift the leading one into place
    while ((mantissa & 0x400u) == 0) {
      mantissa <<= 1;
      --exponent;
    }
    mantissa &= 0x3ffu;
  }
  return std::bit_cast<float>(sign | ((exponent + 112u) << 23) | (mantissa << 13));
}

/// Round to nearest, ties to even; overflow gives infinity, NaN stays a quiet NaN, subnormals are kept.
constexpr f16 to_f16(float x) {
  const std::uint32_t u = std::bit_cast<std::uint32_t>(x);
  const std::uint16_t sign = static_cast<std::uint16_t>((u >> 16) & 0x8000u);
  const std::uint32_t magnitude = u & 0x7fffffffu;
  if (magnitude > 0x7f800000u) return {static_cast<std::uint16_t>(sign | 0x7e00u | ((magnitude >> 13) & 0x3ffu))};
  if (magnitude >= 0x47800000u) return {static_cast<std::uint16_t>(sign | 0x7c00u)};
  const std::uint32_t exponent = magnitude >> 23;
  if (exponent < 102u) return {sign};  // below half of the smallest subnormal
  std::uint32_t half = 0;
  std::uint32_t dropped = 13;
  std::uint32_t mantissa = magnitude & 0x7fffffu;
  if (exponent < 113u) {  // subnormal result
    mantissa |= 0x800000u;
    dropped += 113u - exponent;
    half = mantissa >> dropped;
  } else {
    half = ((exponent - 112u) << 10) | (mantissa >> 13);
  }
  const std::uint32_t rest = mantissa & ((1u << dropped) - 1u);
  const std::uint32_t tie = 1u << (dropped - 1u);
  if (rest > tie || (rest == tie && (half & 1u) != 0)) ++half;  // a carry into the exponent is the right result
  return {static_cast<std::uint16_t>(sign | half)};
}

/// The Dtype that stores a C++ type: `dtype_of<float>` is Dtype::f32.
template <class T>
inline constexpr Dtype dtype_of = [] {
  static_assert(sizeof(T) == 0, "no Dtype stores this type");
  return Dtype::f32;
}();
template <> inline constexpr Dtype dtype_of<float> = Dtype::f32;
template <> inline constexpr Dtype dtype_of<double> = Dtype::f64;
template <> inline constexpr Dtype dtype_of<f16> = Dtype::f16;
template <> inline constexpr Dtype dtype_of<bf16> = Dtype::bf16;
template <> inline constexpr Dtype dtype_of<std::int64_t> = Dtype::i64;
template <> inline constexpr Dtype dtype_of<std::int32_t> = Dtype::i32;
template <> inline constexpr Dtype dtype_of<std::uint8_t> = Dtype::u8;
template <> inline constexpr Dtype dtype_of<bool> = Dtype::boolean;

}  // namespace sinter::kernels
