// Elements of any dtype as double or as 64-bit integer: what the naive loops of the reference read and write.
#pragma once

#include <cmath>
#include <cstdint>
#include <limits>

#include "kernels/base/dtype.h"
#include "kernels/base/status.h"

namespace sinter::kernels::ref {

/// Element i of a buffer of `dtype`; exact but for i64 beyond 2^53.
inline double load(Dtype dtype, const void* base, std::int64_t i) {
  switch (dtype) {
    case Dtype::f32: return static_cast<double>(static_cast<const float*>(base)[i]);
    case Dtype::f64: return static_cast<const double*>(base)[i];
    case Dtype::f16: return static_cast<double>(to_float(static_cast<const f16*>(base)[i]));
    case Dtype::bf16: return static_cast<double>(to_float(static_cast<const bf16*>(base)[i]));
    case Dtype::i64: return static_cast<double>(static_cast<const std::int64_t*>(base)[i]);
    case Dtype::i32: return static_cast<double>(static_cast<const std::int32_t*>(base)[i]);
    case Dtype::u8: return static_cast<double>(static_cast<const std::uint8_t*>(base)[i]);
    case Dtype::boolean: break;
  }
  return static_cast<const std::uint8_t*>(base)[i] != 0 ? 1 : 0;
}

/// Element i of a buffer of an integer dtype (boolean: 0 or 1).
inline std::int64_t load_integer(Dtype dtype, const void* base, std::int64_t i) {
  switch (dtype) {
    case Dtype::i64: return static_cast<const std::int64_t*>(base)[i];
    case Dtype::i32: return static_cast<const std::int32_t*>(base)[i];
    case Dtype::u8: return static_cast<const std::uint8_t*>(base)[i];
    default: return static_cast<const std::uint8_t*>(base)[i] != 0 ? 1 : 0;
  }
}

/// Writes an integer: wraps into narrower integers, rounds into floating dtypes (f16 and bf16 through f32).
inline void store_integer(Dtype dtype, void* base, std::int64_t i, std::int64_t x) {
  switch (dtype) {
    case Dtype::f32: static_cast<float*>(base)[i] = static_cast<float>(x); return;
    case Dtype::f64: static_cast<double*>(base)[i] = static_cast<double>(x); return;
    case Dtype::f16: static_cast<f16*>(base)[i] = to_f16(static_cast<float>(x)); return;
    case Dtype::bf16: static_cast<bf16*>(base)[i] = to_bf16(static_cast<float>(x)); return;
    case Dtype::i64: static_cast<std::int64_t*>(base)[i] = x; return;
    case Dtype::i32: static_cast<std::int32_t*>(base)[i] = static_cast<std::int32_t>(x); return;
    case Dtype::u8: static_cast<std::uint8_t*>(base)[i] = static_cast<std::uint8_t>(x); return;
    case Dtype::boolean: static_cast<std::uint8_t*>(base)[i] = x != 0 ? 1 : 0; return;
  }
}

/// Truncates toward zero into [low, high]; NaN gives 0.
inline std::int64_t saturate(double x, std::int64_t low, std::int64_t high) {
  if (std::isnan(x)) return 0;
  if (x <= static_cast<double>(low)) return low;
  if (x >= static_cast<double>(high)) return high;
  return static_cast<std::int64_t>(x);
}

/// Writes a number: rounds to nearest even into floating dtypes (f16 and bf16 through f32), saturates into integers.
inline void store(Dtype dtype, void* base, std::int64_t i, double x) {
  using Int64 = std::numeric_limits<std::int64_t>;
  using Int32 = std::numeric_limits<std::int32_t>;
  switch (dtype) {
    case Dtype::f32: static_cast<float*>(base)[i] = static_cast<float>(x); return;
    case Dtype::f64: static_cast<double*>(base)[i] = x; return;
    case Dtype::f16: static_cast<f16*>(base)[i] = to_f16(static_cast<float>(x)); return;
    case Dtype::bf16: static_cast<bf16*>(base)[i] = to_bf16(static_cast<float>(x)); return;
    case Dtype::i64: return store_integer(dtype, base, i, saturate(x, Int64::min(), Int64::max()));
    case Dtype::i32: return store_integer(dtype, base, i, saturate(x, Int32::min(), Int32::max()));
    case Dtype::u8: return store_integer(dtype, base, i, saturate(x, 0, 255));
    case Dtype::boolean: static_cast<std::uint8_t*>(base)[i] = x != 0 ? 1 : 0; return;
  }
}

/// What a reference kernel of floating dtypes answers for any other dtype.
constexpr Status check_floating(Dtype dtype) {
  return is_floating(dtype) ? Status{} : unsupported("the dtype must be f32, f64, f16 or bf16");
}

}  // namespace sinter::kernels::ref
