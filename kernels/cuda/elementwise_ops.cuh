// The operations of Unary and Binary on values, in device code: computed in the type of integers, and of floating
// numbers in Computed<T>. And from an op at run time to one at compile time.
#pragma once

#include <cmath>
#include <cstdint>
#include <type_traits>

#include "kernels/base/trigonometry.cuh"
#include "kernels/base/vec.cuh"
#include "kernels/elementwise.h"

namespace sinter::kernels::cuda {

/// What elements stored as T are computed in.
template <class T>
using Value = typename std::conditional_t<std::is_integral_v<T>, std::type_identity<T>,
                                          std::type_identity<Computed<T>>>::type;

template <class T>
__device__ __forceinline__ Value<T> value_of(T x) {
  if constexpr (std::is_integral_v<T>)
    return x;
  else
    return widen(x);
}
template <class T>
__device__ __forceinline__ T element_of(Value<T> x) {
  if constexpr (std::is_integral_v<T>)
    return x;
  else
    return narrow<T>(x);
}

/// Integers wrap: their arithmetic is done in the unsigned type of the same size.
template <class A>
using Wrapping = typename std::conditional_t<std::is_integral_v<A>, std::make_unsigned<A>, std::type_identity<A>>::type;
template <class A>
__device__ __forceinline__ Wrapping<A> wrapping(A x) {
  return static_cast<Wrapping<A>>(x);
}

#define SINTER_UNARY(name, result)                                          \
  struct name {                                                             \
    template <class A>                                                      \
    static __device__ __forceinline__ A of(A x, [[maybe_unused]] A alpha) { \
      return result;                                                        \
    }                                                                       \
  }
SINTER_UNARY(Neg, static_cast<A>(-wrapping(x)));
SINTER_UNARY(AddScalar, static_cast<A>(wrapping(x) + wrapping(alpha)));
SINTER_UNARY(MulScalar, static_cast<A>(wrapping(x) * wrapping(alpha)));
SINTER_UNARY(Exp, std::exp(x));
SINTER_UNARY(Log, std::log(x));
SINTER_UNARY(Sqrt, std::sqrt(x));
SINTER_UNARY(Rsqrt, 1 / std::sqrt(x));
SINTER_UNARY(Reciprocal, 1 / x);
SINTER_UNARY(Sin, static_cast<A>(sine(x, 0)));
SINTER_UNARY(Cos, static_cast<A>(sine(x, 1)));
SINTER_UNARY(Tanh, std::tanh(x));
SINTER_UNARY(Erf, std::erf(x));
SINTER_UNARY(Sigmoid, 1 / (1 + std::exp(-x)));
SINTER_UNARY(Relu, x <= 0 ? A{0} : x);
SINTER_UNARY(Square, x * x);
SINTER_UNARY(Pow, std::pow(x, alpha));
SINTER_UNARY(LogicalNot, x == 0);
#undef SINTER_UNARY

struct Abs {
  template <class A>
  static __device__ __forceinline__ A of(A x, A) {
    if constexpr (std::is_integral_v<A>)
      return x < 0 ? static_cast<A>(-wrapping(x)) : x;
    else
      return std::fabs(x);
  }
};

#define SINTER_BINARY(name, Result, result)                 \
  struct name {                                             \
    template <class A>                                      \
    static __device__ __forceinline__ Result of(A a, A b) { \
      return static_cast<Result>(result);                   \
    }                                                       \
  }
SINTER_BINARY(Plus, A, wrapping(a) + wrapping(b));
SINTER_BINARY(Minus, A, wrapping(a) - wrapping(b));
SINTER_BINARY(Times, A, wrapping(a) * wrapping(b));
SINTER_BINARY(Maximum, A, a > b || a != a ? a : b);
SINTER_BINARY(Minimum, A, a < b || a != a ? a : b);
SINTER_BINARY(Equal, std::uint8_t, a == b);
SINTER_BINARY(NotEqual, std::uint8_t, a != b);
SINTER_BINARY(Less, std::uint8_t, a < b);
SINTER_BINARY(LessEqual, std::uint8_t, a <= b);
SINTER_BINARY(Greater, std::uint8_t, a > b);
SINTER_BINARY(GreaterEqual, std::uint8_t, a >= b);
SINTER_BINARY(LogicalAnd, std::uint8_t, (a != 0) & (b != 0));
SINTER_BINARY(LogicalOr, std::uint8_t, (a != 0) | (b != 0));
#undef SINTER_BINARY

struct Divide {
  template <class A>
  static __device__ __forceinline__ A of(A a, A b) {
    if constexpr (std::is_integral_v<A>) {
      if (b == -1) return static_cast<A>(-wrapping(a));   // the smallest integer / -1 wraps
      return b == 0 ? A{0} : static_cast<A>(a / b);
    } else {
      return a / b;
    }
  }
};

constexpr bool takes_integers(UnaryOp op) {
  return op == UnaryOp::neg || op == UnaryOp::abs || op == UnaryOp::add_scalar || op == UnaryOp::mul_scalar;
}
constexpr bool is_logical(BinaryOp op) { return op == BinaryOp::logical_and || op == BinaryOp::logical_or; }

// Each calls fn(Op{}) and answers what it answers. constexpr, so that kernels may call them too.

/// The ops that integers know too.
template <class Fn>
constexpr auto by_unary_op_of_numbers(UnaryOp op, Fn&& fn) {
  switch (op) {
    case UnaryOp::abs: return fn(Abs{});
    case UnaryOp::add_scalar: return fn(AddScalar{});
    case UnaryOp::mul_scalar: return fn(MulScalar{});
    default: return fn(Neg{});
  }
}

template <class Fn>
constexpr auto by_floating_unary_op(UnaryOp op, Fn&& fn) {
  switch (op) {
    case UnaryOp::exp: return fn(Exp{});
    case UnaryOp::log: return fn(Log{});
    case UnaryOp::sqrt: return fn(Sqrt{});
    case UnaryOp::rsqrt: return fn(Rsqrt{});
    case UnaryOp::reciprocal: return fn(Reciprocal{});
    case UnaryOp::sin: return fn(Sin{});
    case UnaryOp::cos: return fn(Cos{});
    case UnaryOp::tanh: return fn(Tanh{});
    case UnaryOp::erf: return fn(Erf{});
    case UnaryOp::sigmoid: return fn(Sigmoid{});
    case UnaryOp::relu: return fn(Relu{});
    case UnaryOp::pow_scalar: return fn(Pow{});
    default: return by_unary_op_of_numbers(op, fn);
  }
}

/// The ops of T, which is std::uint8_t for booleans.
template <class T, class Fn>
constexpr auto by_unary_op(UnaryOp op, Fn&& fn) {
  if constexpr (std::is_same_v<T, std::uint8_t>)
    return fn(LogicalNot{});
  else if constexpr (std::is_integral_v<T>)
    return by_unary_op_of_numbers(op, fn);
  else
    return by_floating_unary_op(op, fn);
}

template <class Fn>
constexpr auto by_arithmetic_op(BinaryOp op, Fn&& fn) {
  switch (op) {
    case BinaryOp::sub: return fn(Minus{});
    case BinaryOp::mul: return fn(Times{});
    case BinaryOp::div: return fn(Divide{});
    case BinaryOp::maximum: return fn(Maximum{});
    case BinaryOp::minimum: return fn(Minimum{});
    default: return fn(Plus{});
  }
}

template <class Fn>
constexpr auto by_comparison(BinaryOp op, Fn&& fn) {
  switch (op) {
    case BinaryOp::ne: return fn(NotEqual{});
    case BinaryOp::lt: return fn(Less{});
    case BinaryOp::le: return fn(LessEqual{});
    case BinaryOp::gt: return fn(Greater{});
    case BinaryOp::ge: return fn(GreaterEqual{});
    default: return fn(Equal{});
  }
}

template <class Fn>
constexpr auto by_logical_op(BinaryOp op, Fn&& fn) {
  return op == BinaryOp::logical_and ? fn(LogicalAnd{}) : fn(LogicalOr{});
}

}  // namespace sinter::kernels::cuda
