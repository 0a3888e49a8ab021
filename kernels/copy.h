// Copies between any strides and dtypes, and fills.
#pragma once

#include "kernels/base/dtype.h"
#include "kernels/base/kernel.h"
#include "kernels/base/strided.h"

namespace sinter::kernels {

/// dst[i] = cast(src[i]) for every index i of `extents`. Serves contiguous(), casts, cat, slices and expands.
/// Casts: to f16/bf16/f32 round to nearest even (f64 and integers reach f16 and bf16 through f32, as in torch);
/// floating to integer truncates toward zero, saturating, NaN -> 0; integers wrap into narrower ones; to boolean: x !=
/// 0. dst must not overlap src, and its strides must not alias (no 0 step on a size > 1).
/// Every pair of dtypes. Bytes: one read and one write an element.
struct Copy {
  static constexpr KernelId id = KernelId::copy;
  Extents extents;
  Strides src_strides, dst_strides;
  Dtype src_dtype = Dtype::f32, dst_dtype = Dtype::f32;
  const void* src = nullptr;
  void* dst = nullptr;
};

/// dst[i] = cast(value) for every index of `extents`; integers take `integer`, floating dtypes `value`.
struct Fill {
  static constexpr KernelId id = KernelId::fill;
  Extents extents;
  Strides dst_strides;
  Dtype dtype = Dtype::f32;
  double value = 0;
  std::int64_t integer = 0;
  void* dst = nullptr;
};

constexpr Status check(const Extents& extents) {
  if (extents.rank < 0 || extents.rank > kMaxRank) return invalid("rank must lie between 0 and 6");
  for (int d = 0; d < extents.rank; ++d)
    if (extents.size[d] < 0) return invalid("a size must not be negative");
  return {};
}

constexpr Status check(const Copy& p) { return check(p.extents); }
constexpr Status check(const Fill& p) { return check(p.extents); }

constexpr Cost cost(const Copy& p) {
  const double n = static_cast<double>(p.extents.count());
  return {n * static_cast<double>(size_of(p.src_dtype)), n * static_cast<double>(size_of(p.dst_dtype)), 0};
}
constexpr Cost cost(const Fill& p) {
  return {0, static_cast<double>(p.extents.count()) * static_cast<double>(size_of(p.dtype)), 0};
}

}  // namespace sinter::kernels
