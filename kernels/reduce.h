// Reductions over any set of dimensions.
#pragma once

#include "kernels/base/dtype.h"
#include "kernels/base/kernel.h"
#include "kernels/base/strided.h"
#include "kernels/copy.h"

namespace sinter::kernels {

enum class ReduceOp : std::uint8_t { sum, max, min, count_ };

/// out = op over the dimensions of `in` whose bit is set in `reduced` (bit d = dimension d). out is contiguous over the
/// other dimensions, in their order. Sum of nothing is 0; max and min of nothing are refused. NaN wins in max and min.
/// dtypes: f32, f64 (on devices also f16, bf16, accumulated in f32), i64, i32 (sums wrap); sum of boolean counts into
/// i64 (`out` is i64 then).
/// Deterministic: each output is a fixed tree over fixed blocks of its inputs, taken in row-major order of the reduced
/// dimensions; the tree depends on the number of inputs only, never on threads or on the other outputs. On devices it
/// also depends on the variant, which is selected by shape and strides.
/// Workspace: none on the CPU; on devices the results of the blocks of each output, where it has several.
struct Reduce {
  static constexpr KernelId id = KernelId::reduce;
  ReduceOp op = ReduceOp::sum;
  Dtype dtype = Dtype::f32;
  Extents extents;          ///< of `in`
  Strides in_strides;
  std::uint32_t reduced = 0;
  const void* in = nullptr;
  void* out = nullptr;
  void* workspace = nullptr;
};

/// out[o, i] (i64) = index along the middle dimension of the largest in[o, :, i]; the first one among equals; NaN wins.
/// in is contiguous [outer, n, inner], n >= 1. dtypes: f32, f64 (on devices also f16, bf16), i64, i32.
struct ArgReduce {
  static constexpr KernelId id = KernelId::arg_reduce;
  Dtype dtype = Dtype::f32;
  std::int64_t outer = 0, n = 0, inner = 0;
  const void* in = nullptr;
  std::int64_t* out = nullptr;
};

constexpr Status check(const Reduce& p) {
  if (p.op >= ReduceOp::count_) return invalid("unknown reduction");
  if (Status s = check(p.extents); !s.ok()) return s;
  if (p.reduced >> p.extents.rank != 0) return invalid("a reduced dimension is out of range");
  if (p.op != ReduceOp::sum) {
    std::int64_t inputs = 1, outputs = 1;
    for (int d = 0; d < p.extents.rank; ++d) ((p.reduced >> d & 1u) != 0 ? inputs : outputs) *= p.extents.size[d];
    if (inputs == 0 && outputs > 0) return invalid("max and min need at least one element");
  }
  return {};
}
constexpr Status check(const ArgReduce& p) {
  if (p.outer < 0 || p.inner < 0) return invalid("a size must not be negative");
  if (p.n < 1 && p.outer * p.inner > 0) return invalid("argmax needs at least one element");
  return {};
}

constexpr Cost cost(const Reduce& p) {
  std::int64_t outputs = 1;
  for (int d = 0; d < p.extents.rank; ++d)
    if ((p.reduced >> d & 1u) == 0) outputs *= p.extents.size[d];
  const double n = static_cast<double>(p.extents.count()), size = static_cast<double>(size_of(p.dtype));
  return {n * size, static_cast<double>(outputs) * size, n};
}
constexpr Cost cost(const ArgReduce& p) {
  const double rows = static_cast<double>(p.outer * p.inner);
  return {rows * static_cast<double>(p.n) * static_cast<double>(size_of(p.dtype)), rows * 8, 0};
}

}  // namespace sinter::kernels
