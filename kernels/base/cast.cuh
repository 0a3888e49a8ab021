// Conversions between element types in device code, as the contract of Copy (kernels/copy.h) defines them.
#pragma once

#include <cstdint>
#include <limits>
#include <type_traits>

#include "kernels/base/on_device.h"
#include "kernels/base/vec.cuh"

namespace sinter::kernels {

/// Truncates toward zero, saturates, NaN gives 0. Not left to the device's own conversion, which makes the smallest
/// 64-bit integer of NaN.
template <class To, class From>
SINTER_HOST_DEVICE inline To to_integer(From x) {
  constexpr From low = static_cast<From>(std::numeric_limits<To>::min());
  constexpr From above = static_cast<From>(std::numeric_limits<To>::max() / 2 + 1) * 2;
  if (x != x) return 0;
  if (x >= above) return std::numeric_limits<To>::max();
  if (x <= low) return std::numeric_limits<To>::min();
  return static_cast<To>(x);
}

/// One element from one type to another. f16 and bf16 are reached through f32.
template <class To, class From>
__device__ __forceinline__ To cast(From x) {
  if constexpr (std::is_same_v<To, From>) {
    return x;
  } else if constexpr (std::is_same_v<From, f16> || std::is_same_v<From, bf16>) {
    return cast<To>(widen(x));
  } else if constexpr (std::is_same_v<To, f16> || std::is_same_v<To, bf16>) {
    return narrow<To>(static_cast<float>(x));
  } else if constexpr (std::is_same_v<To, bool>) {
    return x != From{0};
  } else if constexpr (std::is_floating_point_v<From> && std::is_integral_v<To>) {
    return to_integer<To>(x);
  } else {
    return static_cast<To>(x);
  }
}

}  // namespace sinter::kernels
