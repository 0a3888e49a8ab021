#include "kernels/adamw.h"

#include <atomic>
#include <cmath>
#include <cstring>

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

/// Rounds parameters to 16 bits, as to_bf16() and to_f16() do. The vectors hold f32 values, eight at a time.
__m128i round_to_bf16(__m256 x) {
  const __m256i bits = _mm256_castps_si256(x), one = _mm256_set1_epi32(1);
  const __m256i upper = _mm256_srli_epi32(bits, 16);
  const __m256i half = _mm256_add_epi32(_mm256_set1_epi32(0x7fff), _mm256_and_si256(upper, one));
  const __m256i rounded = _mm256_srli_epi32(_mm256_add_epi32(bits, half), 16);
  const __m256i quiet = _mm256_or_si256(upper, _mm256_set1_epi32(0x40));
  const __m256i nan = _mm256_castps_si256(_mm256_cmp_ps(x, x, _CMP_UNORD_Q));
  const __m256i result = _mm256_blendv_epi8(rounded, quiet, nan);
  return _mm_packus_epi32(_mm256_castsi256_si128(result), _mm256_extracti128_si256(result, 1));
}
__m128i round_to_16_bits(__m256 x, Dtype dtype) {
  if (dtype == Dtype::bf16) return round_to_bf16(x);
  return _mm256_cvtps_ph(x, _MM_FROUND_TO_NEAREST_INT);
}

void round_low(std::uint16_t* low, Vec<float> x, Dtype dtype) {
  alignas(64) float value[Vec<float>::size];
  x.store(value);
  for (int i = 0; i < Vec<float>::size; i += 8)
    _mm_storeu_si128(reinterpret_cast<__m128i*>(low + i), round_to_16_bits(_mm256_load_ps(value + i), dtype));
}
void round_low(std::uint16_t* low, Vec<double> x, Dtype dtype) {
  alignas(32) float value[8] = {};
  for (int i = 0; i < Vec<double>::size; ++i) value[i] = static_cast<float>(x.v[i]);
  const __m128i rounded = round_to_16_bits(_mm256_load_ps(value), dtype);
  std::memcpy(low, &rounded, sizeof(std::uint16_t) * Vec<double>::size);
}

template <class T>
void store_low(std::uint16_t* low, Dtype dtype, Vec<T> x, AllLanes) {
  round_low(low, x, dtype);
}
template <class T>
void store_low(std::uint16_t* low, Dtype dtype, Vec<T> x, FirstLanes lanes) {
  std::uint16_t all[Vec<T>::size];
  round_low(all, x, dtype);
  std::memcpy(low, all, static_cast<std::size_t>(lanes.count) * sizeof(std::uint16_t));
}

template <class T>
struct Coefficients {
  Vec<T> decay, clip, one_minus_beta1, beta2, one_minus_beta2, step_size, inverse_root, eps;

  Coefficients(const AdamW& p, const AdamWCoefficients& group)
      : decay(all(group.decay)),
        clip(all(p.clip == nullptr ? 1 : *p.clip)),
        one_minus_beta1(all(1 - p.beta1)),
        beta2(all(p.beta2)),
        one_minus_beta2(all(1 - p.beta2)),
        step_size(all(group.step_size)),
        inverse_root(all(group.inverse_root)),
        eps(all(p.eps)) {}

  static Vec<T> all(double x) { return Vec<T>::all(static_cast<T>(x)); }
};

template <class T>
void update(const AdamW& p, const Coefficients<T> k, std::int64_t begin, std::int64_t end) {
  const auto* grad = static_cast<const T*>(p.grad);
  auto* param = static_cast<T*>(p.param);
  auto* exp_avg = static_cast<T*>(p.exp_avg);
  auto* exp_avg_sq = static_cast<T*>(p.exp_avg_sq);
  auto* low = static_cast<std::uint16_t*>(p.low);
  const Dtype low_dtype = p.low_dtype;
  for_vectors<T>(begin, end, [&](std::int64_t i, auto lanes) {
    const Vec<T> g = load(grad + i, lanes) * k.clip;
    const Vec<T> old_m = load(exp_avg + i, lanes);
    const Vec<T> m = fma(k.one_minus_beta1, g - old_m, old_m);
    const Vec<T> v = fma(k.beta2, load(exp_avg_sq + i, lanes), k.one_minus_beta2 * g * g);
    const Vec<T> denominator = fma(sqrt(v), k.inverse_root, k.eps);
    const Vec<T> updated = load(param + i, lanes) * k.decay - k.step_size * m / denominator;
    store(exp_avg + i, m, lanes);
    store(exp_avg_sq + i, v, lanes);
    store(param + i, updated, lanes);
    if (low != nullptr) store_low(low + i, low_dtype, updated, lanes);
  });
}

/// All groups are one parallel region: tasks are numbered through the groups.
template <class T>
Status adamw(const AdamW& p, Stream stream) {
  if (p.skip != nullptr && *p.skip != 0) return {};
  const auto tasks_of = [](const AdamWGroup& group) {
    return (group.end - group.begin + kTaskElements - 1) / kTaskElements;
  };
  std::int64_t tasks = 0;
  for (int g = 0; g < p.group_count; ++g) tasks += tasks_of(p.groups[g]);
  parallel_tasks(stream, tasks, [&](std::int64_t task) {
    const AdamWGroup* group = p.groups;
    for (; task >= tasks_of(*group); ++group) task -= tasks_of(*group);
    const std::int64_t begin = group->begin + task * kTaskElements;
    update(p, Coefficients<T>(p, p.coefficients[group - p.groups]), begin, std::min(group->end, begin + kTaskElements));
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
