// From a Dtype at run time to a type at compile time, in the launchers of kernels/cuda.
#pragma once

#include <cstddef>
#include <cstdint>
#include <type_traits>
#include <utility>

#include "kernels/base/dtype.h"
#include "kernels/base/status.h"

namespace sinter::kernels {

template <class T>
struct Type {
  using type = T;
};

/// fn(Type<T>{}) for the floating type that stores `dtype`; unsupported for any other.
template <class Fn>
Status by_floating(Dtype dtype, Fn&& fn) {
  switch (dtype) {
    case Dtype::f32: return fn(Type<float>{});
    case Dtype::f64: return fn(Type<double>{});
    case Dtype::f16: return fn(Type<f16>{});
    case Dtype::bf16: return fn(Type<bf16>{});
    default: return unsupported("the dtype must be f32, f64, f16 or bf16");
  }
}

/// fn(Type<T>{}) for the type that stores `dtype`.
template <class Fn>
Status by_dtype(Dtype dtype, Fn&& fn) {
  switch (dtype) {
    case Dtype::i64: return fn(Type<std::int64_t>{});
    case Dtype::i32: return fn(Type<std::int32_t>{});
    case Dtype::u8: return fn(Type<std::uint8_t>{});
    case Dtype::boolean: return fn(Type<bool>{});
    default: return by_floating(dtype, fn);
  }
}

/// The unsigned type of `bytes` (1, 2, 4 or 8) bytes: what moves elements without looking at them.
template <std::size_t bytes>
using Bits = std::conditional_t<bytes == 1, std::uint8_t,
                                std::conditional_t<bytes == 2, std::uint16_t,
                                                   std::conditional_t<bytes == 4, std::uint32_t, std::uint64_t>>>;

/// fn(Type<Bits<size>>{}) for the size of an element of `dtype`.
template <class Fn>
Status by_bits(Dtype dtype, Fn&& fn) {
  switch (size_of(dtype)) {
    case 1: return fn(Type<std::uint8_t>{});
    case 2: return fn(Type<std::uint16_t>{});
    case 4: return fn(Type<std::uint32_t>{});
    default: return fn(Type<std::uint64_t>{});
  }
}

/// `check(params)` behind the rule that the dtype is floating: what `supports` answers for most kernels.
template <class P>
Status check_floating(const P& params) {
  if (!is_floating(params.dtype)) return unsupported("the dtype must be f32, f64, f16 or bf16");
  return check(params);
}

}  // namespace sinter::kernels
