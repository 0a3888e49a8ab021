#include "kernels/elementwise.h"

#include <cmath>
#include <cstring>

#include "kernels/base/entry.h"
#include "kernels/base/families.h"
#include "kernels/ref/element.h"
#include "kernels/ref/index.h"

namespace sinter::kernels::ref {
namespace {

double unary(UnaryOp op, double x, double alpha) {
  switch (op) {
    case UnaryOp::neg: return -x;
    case UnaryOp::abs: return std::abs(x);
    case UnaryOp::exp: return std::exp(x);
    case UnaryOp::log: return std::log(x);
    case UnaryOp::sqrt: return std::sqrt(x);
    case UnaryOp::rsqrt: return 1 / std::sqrt(x);
    case UnaryOp::reciprocal: return 1 / x;
    case UnaryOp::sin: return std::sin(x);
    case UnaryOp::cos: return std::cos(x);
    case UnaryOp::tanh: return std::tanh(x);
    case UnaryOp::erf: return std::erf(x);
    case UnaryOp::sigmoid: return 1 / (1 + std::exp(-x));
    case UnaryOp::relu: return x <= 0 ? 0 : x;
    case UnaryOp::add_scalar: return x + alpha;
    case UnaryOp::mul_scalar: return x * alpha;
    case UnaryOp::pow_scalar: return std::pow(x, alpha);
    default: return 0;
  }
}

/// Modulo 2^64, which store_integer takes modulo the size of the dtype.
std::int64_t unary_integer(UnaryOp op, std::int64_t x, std::int64_t alpha) {
  const std::uint64_t u = static_cast<std::uint64_t>(x), a = static_cast<std::uint64_t>(alpha);
  switch (op) {
    case UnaryOp::neg: return static_cast<std::int64_t>(0 - u);
    case UnaryOp::abs: return x < 0 ? static_cast<std::int64_t>(0 - u) : x;
    case UnaryOp::add_scalar: return static_cast<std::int64_t>(u + a);
    case UnaryOp::mul_scalar: return static_cast<std::int64_t>(u * a);
    default: return x == 0 ? 1 : 0;
  }
}

double binary(BinaryOp op, double a, double b) {
  switch (op) {
    case BinaryOp::add: return a + b;
    case BinaryOp::sub: return a - b;
    case BinaryOp::mul: return a * b;
    case BinaryOp::div: return a / b;
    case BinaryOp::maximum: return a > b || std::isnan(a) ? a : b;
    case BinaryOp::minimum: return a < b || std::isnan(a) ? a : b;
    default: return 0;
  }
}

std::int64_t binary_integer(BinaryOp op, std::int64_t a, std::int64_t b) {
  const std::uint64_t x = static_cast<std::uint64_t>(a), y = static_cast<std::uint64_t>(b);
  switch (op) {
    case BinaryOp::add: return static_cast<std::int64_t>(x + y);
    case BinaryOp::sub: return static_cast<std::int64_t>(x - y);
    case BinaryOp::mul: return static_cast<std::int64_t>(x * y);
    case BinaryOp::div:
      if (b == -1) return static_cast<std::int64_t>(0 - x);
      return b == 0 ? 0 : a / b;
    case BinaryOp::maximum: return a > b ? a : b;
    case BinaryOp::minimum: return a < b ? a : b;
    case BinaryOp::logical_and: return a != 0 && b != 0 ? 1 : 0;
    case BinaryOp::logical_or: return a != 0 || b != 0 ? 1 : 0;
    default: return 0;
  }
}

template <class T>
bool compare(BinaryOp op, T a, T b) {
  switch (op) {
    case BinaryOp::eq: return a == b;
    case BinaryOp::ne: return a != b;
    case BinaryOp::lt: return a < b;
    case BinaryOp::le: return a <= b;
    case BinaryOp::gt: return a > b;
    default: return a >= b;
  }
}

/// alpha as the arithmetic of the dtype sees it.
double rounded(Dtype dtype, double alpha) {
  dtype = computed_dtype(dtype);
  double storage = 0;
  store(dtype, &storage, 0, alpha);
  return load(dtype, &storage, 0);
}

std::int64_t truncated(Dtype dtype, double alpha) {
  std::int64_t storage = 0;
  store(dtype, &storage, 0, alpha);
  return load_integer(dtype, &storage, 0);
}

Status run_unary(const Unary& p, Stream) {
  for (std::int64_t i = 0; i < p.extents.count(); ++i) {
    const std::int64_t from = offset(p.extents, p.in_strides, i);
    if (is_floating(p.dtype))
      store(p.dtype, p.out, i, unary(p.op, load(p.dtype, p.in, from), rounded(p.dtype, p.alpha)));
    else
      store_integer(p.dtype, p.out, i,
                    unary_integer(p.op, load_integer(p.dtype, p.in, from), truncated(p.dtype, p.alpha)));
  }
  return {};
}

Status run_binary(const Binary& p, Stream) {
  for (std::int64_t i = 0; i < p.extents.count(); ++i) {
    const std::int64_t a = offset(p.extents, p.a_strides, i), b = offset(p.extents, p.b_strides, i);
    if (is_floating(p.dtype)) {
      const double x = load(p.dtype, p.a, a), y = load(p.dtype, p.b, b);
      if (is_comparison(p.op))
        store_integer(Dtype::boolean, p.out, i, compare(p.op, x, y));
      else
        store(p.dtype, p.out, i, binary(p.op, x, y));
    } else {
      const std::int64_t x = load_integer(p.dtype, p.a, a), y = load_integer(p.dtype, p.b, b);
      if (is_comparison(p.op))
        store_integer(Dtype::boolean, p.out, i, compare(p.op, x, y));
      else
        store_integer(p.dtype, p.out, i, binary_integer(p.op, x, y));
    }
  }
  return {};
}

Status run_where(const Where& p, Stream) {
  const std::int64_t size = static_cast<std::int64_t>(size_of(p.dtype));
  for (std::int64_t i = 0; i < p.extents.count(); ++i) {
    const bool yes = load_integer(Dtype::boolean, p.condition, offset(p.extents, p.condition_strides, i)) != 0;
    const std::int64_t from = offset(p.extents, yes ? p.a_strides : p.b_strides, i);
    std::memcpy(static_cast<char*>(p.out) + i * size, static_cast<const char*>(yes ? p.a : p.b) + from * size,
                size_of(p.dtype));
  }
  return {};
}

bool is_number(Dtype dtype) { return dtype != Dtype::boolean && dtype != Dtype::u8; }

Status supports_unary(const Unary& p) {
  if (const Status status = check(p); !status.ok()) return status;
  const bool any_number = p.op == UnaryOp::neg || p.op == UnaryOp::abs || p.op == UnaryOp::add_scalar ||
                          p.op == UnaryOp::mul_scalar;
  const bool fits = p.op == UnaryOp::logical_not ? p.dtype == Dtype::boolean
                                                 : any_number ? is_number(p.dtype) : is_floating(p.dtype);
  return fits ? Status{} : unsupported("this unary op has no such dtype");
}

Status supports_binary(const Binary& p) {
  if (const Status status = check(p); !status.ok()) return status;
  const bool logical = p.op == BinaryOp::logical_and || p.op == BinaryOp::logical_or;
  const bool fits = logical ? p.dtype == Dtype::boolean : is_comparison(p.op) || is_number(p.dtype);
  return fits ? Status{} : unsupported("this binary op has no such dtype");
}

constexpr Variant unary_variants[] = {{"naive", "one element after the other", "the oracle",
                                       erased_run<Unary, run_unary>}};
constexpr Variant binary_variants[] = {{"naive", "one element after the other", "the oracle",
                                        erased_run<Binary, run_binary>}};
constexpr Variant where_variants[] = {{"naive", "one element after the other", "the oracle",
                                       erased_run<Where, run_where>}};
constexpr KernelEntry entries[] = {entry<Unary, supports_unary>(unary_variants),
                                   entry<Binary, supports_binary>(binary_variants),
                                   entry<Where, check>(where_variants)};

}  // namespace

extern const Family elementwise_family;
const Family elementwise_family = family(entries);

}  // namespace sinter::kernels::ref
