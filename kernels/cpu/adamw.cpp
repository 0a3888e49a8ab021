#include "kernels/adamw.h"

#include <algorithm>
#include <atomic>
#include <cmath>
#include <type_traits>

#include "kernels/base/families.h"
#include "kernels/base/stream.h"
#include "kernels/cpu/adamw_step.h"

namespace sinter::kernels::cpu {
namespace {

/// Elements of one task: four blocks.
constexpr std::int64_t kTaskElements = 4 * kFlatBlock;

/// A gradient of which some elements may stand elsewhere, in 16 bits.
template <class T>
struct Gradient {
  const T* wide;
  const std::uint16_t* low;   ///< null: everything is in `wide`
  Dtype low_dtype;
  LowRanges ranges;

  /// Elements i, i + 1 ...: a vector, or the first lanes of one, never straddles the border of a range.
  template <class Low, class Lanes>
  Vec<T> at(std::int64_t i, Low in_low, Lanes lanes) const {
    return in_low ? load_low<T>(low + i, low_dtype, lanes) : load(wide + i, lanes);
  }
  bool is_low(std::int64_t i) const {
    bool in_low = false;
    if (low != nullptr) end_of_side(ranges, i, i + 1, in_low);
    return in_low;
  }
};

/// f64 sum of the squares of a block whose first sum is not finite; says whether an element is not finite itself.
template <class T>
double wide_sum_of_squares(const Gradient<T>& x, std::int64_t begin, std::int64_t end, bool& nonfinite) {
  double sum = 0;
  for_vectors<T>(begin, end, [&](std::int64_t i, auto lanes) {
    T element[Vec<T>::size];
    x.at(i, x.is_low(i), lanes).store(element);
    for (std::int64_t k = 0; k < std::min<std::int64_t>(Vec<T>::size, end - i); ++k) {
      const double value = element[k];
      sum += value * value;   // finite f32 values cannot overflow it
      nonfinite = nonfinite || !std::isfinite(value);
    }
  });
  return sum;
}

template <class T>
double block_sum_of_squares(const Gradient<T>& x, std::int64_t begin, std::int64_t end, bool& nonfinite) {
  const auto sum_of_squares = [&](auto&& is_low) {
    return sum_vectors<T>(end - begin, [&](std::int64_t i, auto lanes) {
      const Vec<T> value = x.at(begin + i, is_low(begin + i), lanes);
      return value * value;
    });
  };
  bool low = false;
  const bool same = x.low == nullptr || end_of_side(x.ranges, begin, end, low) == end;
  const T sum = !same ? sum_of_squares([&](std::int64_t i) { return x.is_low(i); })
                : low ? sum_of_squares([](std::int64_t) { return std::true_type{}; })
                      : sum_of_squares([](std::int64_t) { return std::false_type{}; });
  return std::isfinite(sum) ? static_cast<double>(sum) : wide_sum_of_squares(x, begin, end, nonfinite);
}

bool holds_zeros(const TouchedRows& table, std::int64_t begin, std::int64_t end) {
  if (!lies_inside(table, begin, end)) return false;
  const std::int32_t* const last = table.touched + row_of(table, end - 1) + 1;
  return std::find(table.touched + row_of(table, begin), last, 1) == last;
}

template <class T>
Status squared_norm(const SquaredNorm& p, Stream stream) {
  const Gradient<T> x{static_cast<const T*>(p.x), static_cast<const std::uint16_t*>(p.low_x), p.low_dtype,
                      p.low_ranges};
  auto* partial = static_cast<double*>(p.workspace);
  std::atomic<bool> any_nonfinite{false};
  parallel_ranges(stream, p.n, kTaskElements, [&](std::int64_t begin, std::int64_t end) {
    bool nonfinite = false;
    for (std::int64_t i = begin; i < end; i += kFlatBlock) {
      const std::int64_t count = std::min(kFlatBlock, end - i);
      partial[i / kFlatBlock] =
          holds_zeros(p.table, i, i + count) ? 0 : block_sum_of_squares(x, i, i + count, nonfinite);
    }
    if (nonfinite) any_nonfinite.store(true, std::memory_order_relaxed);
  });
  const std::int64_t blocks = (p.n + kFlatBlock - 1) / kFlatBlock;
  *p.sum = sum_vectors<double>(blocks, [&](std::int64_t b, auto lanes) { return load(partial + b, lanes); });
  if (p.nonfinite != nullptr) *p.nonfinite = any_nonfinite.load(std::memory_order_relaxed) ? 1 : 0;
  return {};
}

template <class T>
struct Update {
  AdamWConstants<T> constants;
  AdamWNow<T> now;
  Vec<T> clip;

  Update(const AdamW& p, const AdamWCoefficients& group)
      : constants(p), now(group), clip(Vec<T>::all(static_cast<T>(p.clip == nullptr ? 1 : *p.clip))) {}
};

/// `in_low`: whether these elements have a 16-bit side.
template <class T>
void update(const AdamW& p, const Update<T> k, std::int64_t begin, std::int64_t end, bool in_low) {
  const Gradient<T> grad{static_cast<const T*>(p.grad), static_cast<const std::uint16_t*>(p.low_grad), p.low_dtype, {}};
  const bool low_grad = in_low && p.low_grad != nullptr;
  auto* param = static_cast<T*>(p.param);
  auto* exp_avg = static_cast<T*>(p.exp_avg);
  auto* exp_avg_sq = static_cast<T*>(p.exp_avg_sq);
  auto* low = in_low ? static_cast<std::uint16_t*>(p.low) : nullptr;
  const Dtype low_dtype = p.low_dtype;
  for_vectors<T>(begin, end, [&](std::int64_t i, auto lanes) {
    Vec<T> m = load(exp_avg + i, lanes), v = load(exp_avg_sq + i, lanes), updated = load(param + i, lanes);
    take_adamw_step(k.constants, k.now, grad.at(i, low_grad, lanes) * k.clip, updated, m, v);
    store(exp_avg + i, m, lanes);
    store(exp_avg_sq + i, v, lanes);
    store(param + i, updated, lanes);
    if (low != nullptr) store_low(low + i, low_dtype, updated, lanes);
  });
}
template <class T>
void update(const AdamW& p, const Update<T>& k, std::int64_t begin, std::int64_t end) {
  for (bool low = false; begin < end;) {
    const std::int64_t border = end_of_side(p.low_ranges, begin, end, low);
    update(p, k, begin, border, low);
    begin = border;
  }
}

/// fn(first, last) for the ranges of [begin, end) that an update changes: all but the rows without a mark.
template <class Fn>
void for_updated(const TouchedRows& table, std::int64_t begin, std::int64_t end, Fn&& fn) {
  if (table.touched == nullptr) return fn(begin, end);
  const std::int64_t table_end = table.begin + table.rows * table.cols;
  if (begin < table.begin) fn(begin, std::min(end, table.begin));
  for (std::int64_t at = std::max(begin, table.begin); at < std::min(end, table_end);) {
    const std::int64_t row = row_of(table, at), row_end = std::min(end, table.begin + (row + 1) * table.cols);
    if (table.touched[row] != 0) fn(at, row_end);
    at = row_end;
  }
  if (end > table_end) fn(std::max(begin, table_end), end);
}

/// Whether every touched row has seen the update before this one.
bool rows_are_current(const DeferredRows& p) {
  bool all = true;
  for (std::int64_t r = 0; r < p.table.rows; ++r) all &= p.table.touched[r] == 0 || p.current[r] == *p.step - 1;
  return all;
}

/// All groups are one parallel region: tasks are numbered through the groups.
template <class T>
Status adamw(const AdamW& p, Stream stream) {
  if (p.skip != nullptr && *p.skip != 0) return {};
  const TouchedRows& table = p.deferred.table;
  if (table.touched != nullptr && !rows_are_current(p.deferred))
    return invalid("a touched row has not seen the update before this one; CatchUpRows comes before the forward");
  const auto tasks_of = [](const AdamWGroup& group) {
    return (group.end - group.begin + kTaskElements - 1) / kTaskElements;
  };
  std::int64_t tasks = 0;
  for (int g = 0; g < p.group_count; ++g) tasks += tasks_of(p.groups[g]);
  parallel_tasks(stream, tasks, [&](std::int64_t task) {
    const AdamWGroup* group = p.groups;
    for (; task >= tasks_of(*group); ++group) task -= tasks_of(*group);
    const std::int64_t begin = group->begin + task * kTaskElements;
    const Update<T> k(p, p.coefficients[group - p.groups]);
    for_updated(table, begin, std::min(group->end, begin + kTaskElements),
                [&](std::int64_t first, std::int64_t last) { update(p, k, first, last); });
  });
  if (table.touched != nullptr)
    for (std::int64_t r = 0; r < table.rows; ++r)
      if (table.touched[r] != 0) p.deferred.current[r] = *p.deferred.step;
  return {};
}

Status run_squared_norm(const SquaredNorm& p, Stream stream) {
  return p.dtype == Dtype::f32 ? squared_norm<float>(p, stream) : squared_norm<double>(p, stream);
}
Status run_adamw(const AdamW& p, Stream stream) {
  return p.dtype == Dtype::f32 ? adamw<float>(p, stream) : adamw<double>(p, stream);
}

template <class P>
Status check_cpu(const P& p) {
  if (p.dtype != Dtype::f32 && p.dtype != Dtype::f64) return unsupported("the optimizer on the CPU takes f32 and f64");
  return check(p);
}

std::size_t norm_workspace(const SquaredNorm& p) {
  return static_cast<std::size_t>((p.n + kFlatBlock - 1) / kFlatBlock) * sizeof(double);
}

constexpr Variant norm_variants[] = {{"blocks", "f32 inside a block, f64 again where that overflows", "selected always",
                                      erased_run<SquaredNorm, run_squared_norm>}};
constexpr Variant adamw_variants[] = {
    {"one_pass", "all groups in one parallel region", "selected always", erased_run<AdamW, run_adamw>}};
constexpr KernelEntry entries[] = {entry<SquaredNorm, check_cpu<SquaredNorm>, norm_workspace>(norm_variants),
                                   entry<AdamW, check_cpu<AdamW>>(adamw_variants)};

}  // namespace

extern const Family adamw_family;
const Family adamw_family = family(entries);

}  // namespace sinter::kernels::cpu
