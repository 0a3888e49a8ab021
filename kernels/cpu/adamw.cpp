#include "kernels/adamw.h"

#include <atomic>
#include <cmath>

#include "kernels/base/families.h"
#include "kernels/base/stream.h"
#include "kernels/cpu/simd.h"
#include "kernels/cpu/vector_loop.h"

namespace sinter::kernels::cpu {
namespace {

/// Elements of one task: four blocks.
constexpr std::int64_t kTaskElements = 4 * kFlatBlock;

/// f64 sum of the squares of a block whose f32 sum is not finite; says whether an element is not finite itself.
double wide_sum_of_squares(const float* x, std::int64_t n, bool& nonfinite) {
  double sum = 0;
  for (std::int64_t i = 0; i < n; ++i) {
    const double value = x[i];
    sum += value * value;
  }
  nonfinite = !std::isfinite(sum);  // finite f32 values cannot overflow this sum
  return sum;
}
double wide_sum_of_squares(const double* x, std::int64_t n, bool& nonfinite) {
  double sum = 0;
  for (std::int64_t i = 0; i < n; ++i) {
    sum += x[i] * x[i];
    nonfinite = nonfinite || !std::isfinite(x[i]);
  }
  return sum;
}

template <class T>
double block_sum_of_squares(const T* x, std::int64_t n, bool& nonfinite) {
  const T sum = sum_vectors<T>(n, [&](std::int64_t i, auto lanes) {
    const Vec<T> value = load(x + i, lanes);
    return value * value;
  });
  return std::isfinite(sum) ? static_cast<double>(sum) : wide_sum_of_squares(x, n, nonfinite);
}

template <class T>
Status squared_norm(const SquaredNorm& p, Stream stream) {
  const auto* x = static_cast<const T*>(p.x);
  auto* partial = static_cast<double*>(p.workspace);
  std::atomic<bool> any_nonfinite{false};
  parallel_ranges(stream, p.n, kTaskElements, [&](std::int64_t begin, std::int64_t end) {
    bool nonfinite = false;
    for (std::int64_t i = begin; i < end; i += kFlatBlock)
      partial[i / kFlatBlock] = block_sum_of_squares(x + i, std::min(kFlatBlock, end - i), nonfinite);
    if (nonfinite) any_nonfinite.store(true, std::memory_order_relaxed);
  });
  const std::int64_t blocks = (p.n + kFlatBlock - 1) / kFlatBlock;
  *p.sum = sum_vectors<double>(blocks, [&](std::int64_t b, auto lanes) { return load(partial + b, lanes); });
  if (p.nonfinite != nullptr) *p.nonfinite = any_nonfinite.load(std::memory_order_relaxed) ? 1 : 0;
  return {};
}

/// Rounds a vector of parameters to 16 bits, as to_bf16() and to_f16() do.
template <class T, class Lanes>
void store_low(void* low, Dtype dtype, std::int64_t i, Vec<T> x, Lanes lanes) {
  T value[Vec<T>::size];
  x.store(value);
  std::int64_t count = Vec<T>::size;
  if constexpr (std::is_same_v<Lanes, FirstLanes>) count = lanes.count;
  if (dtype == Dtype::bf16)
    for (std::int64_t k = 0; k < count; ++k) static_cast<bf16*>(low)[i + k] = to_bf16(static_cast<float>(value[k]));
  else
    for (std::int64_t k = 0; k < count; ++k) static_cast<f16*>(low)[i + k] = to_f16(static_cast<float>(value[k]));
}

template <class T>
struct Coefficients {
  Vec<T> decay, clip, one_minus_beta1, beta2, one_minus_beta2, step_size, root_correction2, eps;

  Coefficients(const AdamW& p, const AdamWGroup& group)
      : decay(all(1 - group.lr * group.weight_decay)),
        clip(all(p.clip == nullptr ? 1 : *p.clip)),
        one_minus_beta1(all(1 - p.beta1)),
        beta2(all(p.beta2)),
        one_minus_beta2(all(1 - p.beta2)),
        step_size(all(group.lr / p.bias_correction1)),
        root_correction2(all(std::sqrt(p.bias_correction2))),
        eps(all(p.eps)) {}

  static Vec<T> all(double x) { return Vec<T>::all(static_cast<T>(x)); }
};

template <class T>
void update(const AdamW& p, const Coefficients<T>& k, std::int64_t begin, std::int64_t end) {
  const auto* grad = static_cast<const T*>(p.grad);
  auto* param = static_cast<T*>(p.param);
  auto* exp_avg = static_cast<T*>(p.exp_avg);
  auto* exp_avg_sq = static_cast<T*>(p.exp_avg_sq);
  for_vectors<T>(begin, end, [&](std::int64_t i, auto lanes) {
    const Vec<T> g = load(grad + i, lanes) * k.clip;
    const Vec<T> old_m = load(exp_avg + i, lanes);
    const Vec<T> m = fma(k.one_minus_beta1, g - old_m, old_m);
    const Vec<T> v = fma(k.beta2, load(exp_avg_sq + i, lanes), k.one_minus_beta2 * g * g);
    const Vec<T> denominator = sqrt(v) / k.root_correction2 + k.eps;
    const Vec<T> updated = load(param + i, lanes) * k.decay - k.step_size * m / denominator;
    store(exp_avg + i, m, lanes);
    store(exp_avg_sq + i, v, lanes);
    store(param + i, updated, lanes);
    if (p.low != nullptr) store_low(p.low, p.low_dtype, i, updated, lanes);
  });
}

/// All groups are one parallel region: tasks are numbered through the groups.
template <class T>
Status adamw(const AdamW& p, Stream stream) {
  const auto tasks_of = [](const AdamWGroup& group) {
    return (group.end - group.begin + kTaskElements - 1) / kTaskElements;
  };
  std::int64_t tasks = 0;
  for (int g = 0; g < p.group_count; ++g) tasks += tasks_of(p.groups[g]);
  parallel_tasks(stream, tasks, [&](std::int64_t task) {
    const AdamWGroup* group = p.groups;
    for (; task >= tasks_of(*group); ++group) task -= tasks_of(*group);
    const std::int64_t begin = group->begin + task * kTaskElements;
    update(p, Coefficients<T>(p, *group), begin, std::min(group->end, begin + kTaskElements));
  });
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
