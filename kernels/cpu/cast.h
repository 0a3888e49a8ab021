// Conversions between element types, as the contract of Copy defines them, in forms that compilers vectorise.
#pragma once

#include <bit>
#include <cstdint>
#include <limits>
#include <type_traits>

#include "kernels/base/dtype.h"

namespace sinter::kernels::cpu {

/// The same values as to_float(f16) of kernels/base/dtype.h, NaN payloads included, without branches. F16C would
/// quieten signalling NaN. Subnormals go through an integer conversion because the multiplication by 2^112 would flush
/// them.
inline float widen(f16 x) {
  const std::uint32_t magnitude = x.bits & 0x7fffu;
  const std::uint32_t sign = static_cast<std::uint32_t>(x.bits & 0x8000u) << 16;
  const std::uint32_t normal = (magnitude << 13) + (magnitude >= 0x7c00u ? 0x70000000u : 0x38000000u);
  const float subnormal = static_cast<float>(static_cast<std::int32_t>(magnitude)) * 0x1p-24f;
  return std::bit_cast<float>((magnitude < 0x400u ? std::bit_cast<std::uint32_t>(subnormal) : normal) | sign);
}

/// The same bits as to_f16 of kernels/base/dtype.h. A subnormal result is rounded by the addition of 0.5, whose unit in
/// the last place is the smallest subnormal of f16.
inline f16 narrow_f16(float x) {
  const std::uint32_t u = std::bit_cast<std::uint32_t>(x);
  const std::uint32_t magnitude = u & 0x7fffffffu;
  const std::uint32_t normal = (magnitude + 0xfffu + ((magnitude >> 13) & 1u) - 0x38000000u) >> 13;
  const std::uint32_t subnormal =
      std::bit_cast<std::uint32_t>(std::bit_cast<float>(magnitude) + 0.5f) - std::bit_cast<std::uint32_t>(0.5f);
  const std::uint32_t nan = 0x7e00u | ((magnitude >> 13) & 0x3ffu);
  std::uint32_t half = magnitude < 0x38800000u ? subnormal : normal;
  half = magnitude >= 0x47800000u ? 0x7c00u : half;
  half = magnitude > 0x7f800000u ? nan : half;
  return {static_cast<std::uint16_t>(half | ((u >> 16) & 0x8000u))};
}

/// Truncates toward zero, saturates, NaN gives 0.
template <class To, class From>
To to_integer(From x) {
  constexpr From low = static_cast<From>(std::numeric_limits<To>::min());
  constexpr From above = static_cast<From>(std::numeric_limits<To>::max() / 2 + 1) * 2;
  if (x != x) return 0;
  if (x >= above) return std::numeric_limits<To>::max();
  if (x <= low) return std::numeric_limits<To>::min();
  return static_cast<To>(x);
}

/// One element from one type to another. f16 and bf16 are reached through f32.
template <class To, class From>
To cast(From x) {
  if constexpr (std::is_same_v<To, From>) {
    return x;
  } else if constexpr (std::is_same_v<From, f16>) {
    return cast<To>(widen(x));
  } else if constexpr (std::is_same_v<From, bf16>) {
    return cast<To>(to_float(x));
  } else if constexpr (std::is_same_v<To, f16>) {
    return narrow_f16(static_cast<float>(x));
  } else if constexpr (std::is_same_v<To, bf16>) {
    return to_bf16(static_cast<float>(x));
  } else if constexpr (std::is_same_v<To, bool>) {
    return x != 0;
  } else if constexpr (std::is_floating_point_v<From> && std::is_integral_v<To>) {
    return to_integer<To>(x);
  } else {
    return static_cast<To>(x);
  }
}

/// Calls fn.template operator()<T>() with the C++ type that stores `dtype`.
template <class Fn>
decltype(auto) with_type(Dtype dtype, Fn&& fn) {
  switch (dtype) {
    case Dtype::f32: return fn.template operator()<float>();
    case Dtype::f64: return fn.template operator()<double>();
    case Dtype::f16: return fn.template operator()<f16>();
    case Dtype::bf16: return fn.template operator()<bf16>();
    case Dtype::i64: return fn.template operator()<std::int64_t>();
    case Dtype::i32: return fn.template operator()<std::int32_t>();
    case Dtype::u8: return fn.template operator()<std::uint8_t>();
    case Dtype::boolean: break;
  }
  return fn.template operator()<bool>();
}

/// The unsigned type of the same size as an element: what moves data without looking at it.
template <class Fn>
decltype(auto) with_bits(Dtype dtype, Fn&& fn) {
  switch (size_of(dtype)) {
    case 1: return fn.template operator()<std::uint8_t>();
    case 2: return fn.template operator()<std::uint16_t>();
    case 4: return fn.template operator()<std::uint32_t>();
    default: return fn.template operator()<std::uint64_t>();
  }
}

}  // namespace sinter::kernels::cpu
