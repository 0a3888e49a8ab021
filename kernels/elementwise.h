// One output element from the elements at the same index of one, two or three inputs.
#pragma once

#include "kernels/base/dtype.h"
#include "kernels/base/kernel.h"
#include "kernels/base/strided.h"
#include "kernels/copy.h"

namespace sinter::kernels {

enum class UnaryOp : std::uint8_t {
  neg, abs, exp, log, sqrt, rsqrt, reciprocal, sin, cos, tanh, erf, sigmoid, relu,
  add_scalar,   ///< x + alpha
  mul_scalar,   ///< x * alpha
  pow_scalar,   ///< x ^ alpha
  logical_not,  ///< boolean only
  count_
};

enum class BinaryOp : std::uint8_t {
  add, sub, mul, div, maximum, minimum,     // result has the inputs' dtype; NaN wins in maximum and minimum
  eq, ne, lt, le, gt, ge,                   // result is boolean
  logical_and, logical_or,                  // boolean only
  count_
};

constexpr bool is_comparison(BinaryOp op) { return op >= BinaryOp::eq && op <= BinaryOp::ge; }

/// out[i] = op(in[i]); out is contiguous over `extents`.
/// dtypes: f32, f64 (on devices also f16, bf16, computed in f32) for every op but logical_not; i64, i32 for neg, abs,
/// add_scalar, mul_scalar. alpha is rounded to computed_dtype(dtype), truncated and saturated for integers.
/// erf to 1 ulp-level accuracy of the dtype (f32: 4 ulp), tanh likewise. In-place (out == in, contiguous) is allowed.
struct Unary {
  static constexpr KernelId id = KernelId::unary;
  UnaryOp op = UnaryOp::neg;
  Dtype dtype = Dtype::f32;
  Extents extents;
  Strides in_strides;
  double alpha = 0;
  const void* in = nullptr;
  void* out = nullptr;
};

/// out[i] = a[i] op b[i]; out is contiguous over `extents`; a 0 stride broadcasts.
/// dtypes: f32, f64 (on devices also f16, bf16, computed in f32), i64, i32 for arithmetic (integers wrap; integer
/// division truncates; by zero gives 0); every dtype for comparisons (f16 and bf16 compare as floats); boolean for
/// logical ops. out may equal a or b when that one is contiguous.
struct Binary {
  static constexpr KernelId id = KernelId::binary;
  BinaryOp op = BinaryOp::add;
  Dtype dtype = Dtype::f32;
  Extents extents;
  Strides a_strides, b_strides;
  const void* a = nullptr;
  const void* b = nullptr;
  void* out = nullptr;
};

/// out[i] = condition[i] ? a[i] : b[i]; condition is boolean, out contiguous over `extents`. Every dtype.
struct Where {
  static constexpr KernelId id = KernelId::where;
  Dtype dtype = Dtype::f32;
  Extents extents;
  Strides condition_strides, a_strides, b_strides;
  const void* condition = nullptr;
  const void* a = nullptr;
  const void* b = nullptr;
  void* out = nullptr;
};

constexpr Status check(const Unary& p) {
  if (p.op >= UnaryOp::count_) return invalid("unknown unary op");
  return check(p.extents);
}
constexpr Status check(const Binary& p) {
  if (p.op >= BinaryOp::count_) return invalid("unknown binary op");
  return check(p.extents);
}
constexpr Status check(const Where& p) { return check(p.extents); }

constexpr Cost cost(const Unary& p) {
  const double n = static_cast<double>(p.extents.count()), size = static_cast<double>(size_of(p.dtype));
  return {n * size, n * size, n};
}
constexpr Cost cost(const Binary& p) {
  const double n = static_cast<double>(p.extents.count()), size = static_cast<double>(size_of(p.dtype));
  return {2 * n * size, n * (is_comparison(p.op) ? 1 : size), n};
}
constexpr Cost cost(const Where& p) {
  const double n = static_cast<double>(p.extents.count()), size = static_cast<double>(size_of(p.dtype));
  return {n * (2 * size + 1), n * size, 0};
}

}  // namespace sinter::kernels
