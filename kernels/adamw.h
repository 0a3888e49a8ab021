// The optimizer's two passes over the flat parameter buffers: the norm of the gradient, and AdamW.
#pragma once

#include <cmath>

#include "kernels/base/dtype.h"
#include "kernels/base/kernel.h"
#include "kernels/base/on_device.h"
#include "kernels/touched_rows.h"

namespace sinter::kernels {

/// Elements of one partial sum of squares, and the granule to which FlatParameters rounds group borders.
inline constexpr std::int64_t kFlatBlock = 4096;

/// Elements [begin, end) of the flat buffers.
struct FlatRange {
  std::int64_t begin = 0, end = 0;
};

/// Which elements of the flat buffers have a 16-bit side. `ranges` ascend, do not overlap and are not empty; their
/// borders are multiples of 16 or ends of a buffer.
struct LowRanges {
  const FlatRange* ranges = nullptr;   ///< [count], device memory; null: all elements
  int count = 0;
};

/// The end of the longest range that begins with `begin`, is not longer than [begin, end), and whose elements all have
/// a 16-bit side or all have none; `low` says which. begin < end.
SINTER_HOST_DEVICE inline std::int64_t end_of_side(const LowRanges& p, std::int64_t begin, std::int64_t end,
                                                   bool& low) {
  low = p.ranges == nullptr;
  if (low) return end;
  int first = 0;   // the first range that ends behind `begin`
  for (int last = p.count; first < last;) {
    const int middle = first + (last - first) / 2;
    if (p.ranges[middle].end <= begin)
      first = middle + 1;
    else
      last = middle;
  }
  if (first == p.count) return end;
  const FlatRange found = p.ranges[first];
  low = found.begin <= begin;
  const std::int64_t border = low ? found.end : found.begin;
  return border < end ? border : end;
}

/// sum[0] = sum_i x[i]^2 over n contiguous elements: partial sums of fixed blocks of 4096 (lanes in a fixed tree), then
/// the blocks in a fixed tree; never depends on threads. nonfinite[0] (may be null) = 1 when any x is inf or NaN, else
/// 0. Accumulated in computed_dtype inside a block (again in f64 where that overflows), in f64 over blocks. `sum` is
/// one f64. Blocks that lie wholly in rows of `table` without a mark are not read: they hold zeros, and the bits are
/// those that adding these would give. The CPU takes f32 and f64, CUDA all four. workspace: ceil(n/4096) f64.
/// Where `low_x` is given, elements of `low_ranges` are read there and not in x; the bits are those of an x that holds
/// low_x cast to `dtype` (on the CPU; on CUDA with the same variant). The table lies outside of low_ranges then.
struct SquaredNorm {
  static constexpr KernelId id = KernelId::squared_norm;
  Dtype dtype = Dtype::f32;
  std::int64_t n = 0;
  const void* x = nullptr;
  double* sum = nullptr;
  std::int32_t* nonfinite = nullptr;
  void* workspace = nullptr;
  TouchedRows table{};
  const void* low_x = nullptr;           ///< [n]; null: everything is in x
  Dtype low_dtype = Dtype::bf16;         ///< f16 or bf16
  LowRanges low_ranges{};
};

/// A range of the flat buffers that shares its coefficients.
struct AdamWGroup {
  std::int64_t begin = 0, end = 0;   ///< elements; ranges ascend and do not overlap
};

/// What changes from update to update in one group. The kernel casts each to computed_dtype.
struct AdamWCoefficients {
  double decay = 1;          ///< 1 - lr * weight_decay
  double step_size = 0;      ///< lr / (1 - beta1^t)
  double inverse_root = 1;   ///< 1 / sqrt(1 - beta2^t)
};

/// The coefficients of update number t, the first one being 1. Different devices' pow may differ in the last bit.
SINTER_HOST_DEVICE inline AdamWCoefficients coefficients(double lr, double weight_decay, double beta1, double beta2,
                                                         std::int64_t t) {
  const double power = static_cast<double>(t);
  return {.decay = 1 - lr * weight_decay,
          .step_size = lr / (1 - std::pow(beta1, power)),
          .inverse_root = 1 / std::sqrt(1 - std::pow(beta2, power))};
}

/// A table inside one group that is updated late: rows without a mark are left alone, and CatchUpRows (catch_up_rows.h)
/// replays their updates when somebody needs them. `current` [rows] says which update each row has seen last; a touched
/// row, which AdamW updates, must have seen update step[0] - 1 and gets step[0], the number of this update.
struct DeferredRows {
  TouchedRows table;
  std::int64_t* current = nullptr;       ///< device memory
  const std::int64_t* step = nullptr;    ///< one, device memory
};

/// For every element of every group, with g = grad * clip and the group's coefficients:
///   p *= decay
///   m = m + (1 - beta1) * (g - m);    v = beta2 * v + (1 - beta2) * g * g
///   p -= step_size * m / (sqrt(v) * inverse_root + eps)
/// Source: Loshchilov and Hutter, "Decoupled weight decay regularization", in the form of torch.optim.AdamW.
/// param, exp_avg, exp_avg_sq and grad have `dtype` (the CPU: f32, f64; CUDA: all four); p, m, v are updated in place.
/// One pass. In `low_ranges`, `low` (null: none) receives a rounded copy of p, and the gradient is read from `low_grad`
/// (null: from grad, as elsewhere); a deferred table lies outside of them, where they are not all. What changes from
/// update to update is read from the memory of the device that runs the kernel, so that a captured launch can be
/// replayed: `coefficients`, `clip` (null: 1), one factor for the gradient (clipping and unscaling in one), and `skip`
/// (null: never): where it is not 0 nothing is written at all. Moments that are denormal in computed_dtype are flushed
/// to zero. Where a touched row of `deferred` has not seen the update before, the CPU answers invalid_argument and
/// writes nothing; on CUDA the kernel stops itself. Bytes: 7 elements (4 read, 3 written), plus the low copy, less what
/// a low_grad is shorter.
struct AdamW {
  static constexpr KernelId id = KernelId::adamw;
  Dtype dtype = Dtype::f32;
  const AdamWGroup* groups = nullptr;    ///< host memory
  int group_count = 0;
  double beta1 = 0.9, beta2 = 0.999, eps = 1e-8;
  const AdamWCoefficients* coefficients = nullptr;   ///< [group_count], device memory
  const double* clip = nullptr;                      ///< one, device memory
  const std::int32_t* skip = nullptr;                ///< one, device memory
  const void* grad = nullptr;
  void* param = nullptr;
  void* exp_avg = nullptr;
  void* exp_avg_sq = nullptr;
  void* low = nullptr;                   ///< elements stand where they stand in param
  const void* low_grad = nullptr;        ///< the same
  Dtype low_dtype = Dtype::bf16;         ///< of both: f16 or bf16
  LowRanges low_ranges{};
  DeferredRows deferred{};
};

/// The group that the deferred table lies in; -1: none.
constexpr int group_of(const AdamW& p) {
  const TouchedRows& table = p.deferred.table;
  for (int g = 0; g < p.group_count; ++g)
    if (p.groups[g].begin <= table.begin && table.begin + table.rows * table.cols <= p.groups[g].end) return g;
  return -1;
}

constexpr Status check_low(Dtype dtype, const LowRanges& p) {
  if (dtype != Dtype::f16 && dtype != Dtype::bf16)
    return invalid("a low-precision copy or gradient must be f16 or bf16");
  return p.count < 0 ? invalid("the number of ranges must not be negative") : Status{};
}
constexpr Status check(const SquaredNorm& p) {
  if (p.n < 0) return invalid("the number of elements must not be negative");
  if (p.low_x != nullptr)
    if (Status s = check_low(p.low_dtype, p.low_ranges); !s.ok()) return s;
  if (p.table.touched != nullptr && p.table.begin + p.table.rows * p.table.cols > p.n)
    return invalid("the table must lie inside the buffer");
  return check(p.table);
}
constexpr Status check(const AdamW& p) {
  std::int64_t end = 0;
  for (int g = 0; g < p.group_count; ++g) {
    if (p.groups[g].begin < end || p.groups[g].end < p.groups[g].begin)
      return invalid("groups must ascend and not overlap");
    end = p.groups[g].end;
  }
  if (p.low != nullptr || p.low_grad != nullptr)
    if (Status s = check_low(p.low_dtype, p.low_ranges); !s.ok()) return s;
  const TouchedRows& table = p.deferred.table;
  if (table.touched == nullptr) return {};
  if (p.deferred.current == nullptr || p.deferred.step == nullptr)
    return invalid("deferred rows need the update that each has seen, and the number of this one");
  if (Status s = check(table); !s.ok()) return s;
  if (group_of(p) < 0) return invalid("the deferred table must lie inside one group");
  return {};
}

/// Of gradients in 16 bits where there are some: which part of the buffer that is only the device knows, and it counts
/// as all of it.
constexpr Cost cost(const SquaredNorm& p) {
  const Dtype read = p.low_x != nullptr ? p.low_dtype : p.dtype;
  return {static_cast<double>(p.n) * static_cast<double>(size_of(read)), 8, 2 * static_cast<double>(p.n)};
}
constexpr Cost cost(const AdamW& p) {
  double n = 0;
  for (int g = 0; g < p.group_count; ++g) n += static_cast<double>(p.groups[g].end - p.groups[g].begin);
  const double size = static_cast<double>(size_of(p.dtype));
  return {n * (3 * size + (p.low_grad != nullptr ? 2 : size)), n * (3 * size + (p.low != nullptr ? 2 : 0)), 14 * n};
}

}  // namespace sinter::kernels
