#include "kernels/adamw.h"

#include <cmath>
#include <limits>

#include "kernels/base/by_dtype.cuh"
#include "kernels/base/collective.cuh"
#include "kernels/base/families.h"
#include "kernels/base/grid.cuh"
#include "kernels/base/vec.cuh"

namespace sinter::kernels::cuda {
namespace {

constexpr int kThreads = 256;

// --- Squared norm ---
//
// A block of threads adds one block of kFlatBlock elements; one block of threads then adds the partial sums. A partial
// sum is never negative, so that its sign is free to say that an element of the block is not finite: no flag has to be
// cleared before or combined by atomics.

/// The squares of elements i, i + step, ... below `end`, each `width` of them read at once.
template <class A, int width, class T>
__device__ __forceinline__ A sum_of_squares(const T* x, int begin, int end, int step) {
  A sum = 0;
  for (int i = begin; i < end; i += step) {
    Computed<T> value[width];
    load_vector(x + i, value);
#pragma unroll
    for (int k = 0; k < width; ++k) sum += static_cast<A>(value[k]) * static_cast<A>(value[k]);
  }
  return sum;
}

/// The sum over a block of elements whose first sum was not finite: in f64, which finite values of the shorter types
/// cannot overflow. Negative where an element is not finite; NaN where one is NaN.
template <class T>
__device__ __forceinline__ double wide_partial(const T* x, int n, double* parts) {
  double sum = 0;
  bool nonfinite = false;
  for (int i = static_cast<int>(threadIdx.x); i < n; i += kThreads) {
    const double value = static_cast<double>(load(x + i));
    sum += value * value;
    nonfinite = nonfinite || !std::isfinite(value);
  }
  nonfinite = __syncthreads_or(nonfinite) != 0;
  sum = block_all<Add, kThreads>(sum, parts);
  return nonfinite ? -sum : sum;
}

/// A grid has room for the blocks of 2^43 elements.
template <class T, int width>
__global__ void __launch_bounds__(kThreads, 1) partial_squares(std::int64_t n, const T* x, double* partial) {
  using A = Computed<T>;
  SINTER_SHARED(A, parts, [kThreads / kWarp]);
  SINTER_SHARED(double, wide_parts, [kThreads / kWarp]);
  const int lane = static_cast<int>(threadIdx.x);
  const std::int64_t begin = blockIdx.x * kFlatBlock;
  const T* block = x + begin;
  const int count = static_cast<int>(min(kFlatBlock, n - begin));
  const int whole = count - count % width;
  A sum = sum_of_squares<A, width>(block, lane * width, whole, kThreads * width);
  if constexpr (width > 1) sum += sum_of_squares<A, 1>(block, whole + lane, count, kThreads);
  sum = block_all<Add, kThreads>(sum, parts);
  double total = static_cast<double>(sum);
  if (!std::isfinite(sum)) total = wide_partial(block, count, wide_parts);  // all threads have the same sum
  if (threadIdx.x == 0) partial[blockIdx.x] = total;
}

__global__ void __launch_bounds__(kThreads, 1)
    add_partial_squares(std::int64_t blocks, const double* partial, double* sum, std::int32_t* nonfinite) {
  SINTER_SHARED(double, parts, [kThreads / kWarp]);
  double mine = 0;
  bool flagged = false;
#pragma unroll 8
  for (std::int64_t b = threadIdx.x; b < blocks; b += kThreads) {
    const double value = partial[b];
    flagged = flagged || std::isnan(value) || value < 0;
    mine += abs(value);
  }
  flagged = __syncthreads_or(flagged) != 0;
  mine = block_all<Add, kThreads>(mine, parts);
  if (threadIdx.x != 0) return;
  *sum = mine;
  if (nonfinite != nullptr) *nonfinite = flagged ? 1 : 0;
}

template <class T, int width>
Status squared_norm(const SquaredNorm& p, Stream stream) {
  const auto* x = static_cast<const T*>(p.x);
  auto* partial = static_cast<double*>(p.workspace);
  if (!rows_are_aligned<width>(x, kFlatBlock)) return unsupported("x is not aligned to 16 bytes");
  const std::int64_t blocks = ceil_div(p.n, kFlatBlock);
  if (blocks > 0) {
    const Status status =
        launch(partial_squares<T, width>, dim3(blocks_for(blocks, 1)), dim3(kThreads), 0, stream, p.n, x, partial);
    if (!status.ok()) return status;
  }
  return launch(add_partial_squares, dim3(1), dim3(kThreads), 0, stream, blocks, partial, p.sum, p.nonfinite);
}

Status norm_by_element(const SquaredNorm& p, Stream stream) {
  return by_floating(p.dtype, [&]<class T>(Type<T>) { return squared_norm<T, 1>(p, stream); });
}
Status norm_by_vector(const SquaredNorm& p, Stream stream) {
  return by_floating(p.dtype, [&]<class T>(Type<T>) { return squared_norm<T, kVector<T>>(p, stream); });
}
int select_norm(const SquaredNorm& p) { return reinterpret_cast<std::uintptr_t>(p.x) % 16 == 0 ? 1 : 0; }

std::size_t norm_workspace(const SquaredNorm& p) {
  return static_cast<std::size_t>(ceil_div(p.n, kFlatBlock)) * sizeof(double);
}

// --- AdamW ---

/// Groups that one launch takes as its argument.
constexpr int kGroupsPerLaunch = 64;
/// Elements that a block of threads takes at a time.
constexpr int kChunk = 2048;

struct Group {
  std::int64_t begin, end;
  std::int64_t first_chunk;   ///< chunks of the groups before it
  int number;                 ///< among all groups
};

struct Groups {
  Group group[kGroupsPerLaunch];
  int count = 0;
  std::int64_t chunks = 0;
};

template <class T>
struct State {
  const T* grad;
  T* param;
  T* exp_avg;
  T* exp_avg_sq;
  std::uint16_t* low;   ///< may be null
  Dtype low_dtype;
  Computed<T> one_minus_beta1, beta2, one_minus_beta2, eps;
};

/// What changes from update to update, as `A` of computed_dtype.
template <class A>
struct Coefficients {
  A clip, decay, step_size, inverse_root;
};

template <class A>
__device__ __forceinline__ A flush_denormal(A x) {
  return abs(x) < std::numeric_limits<A>::min() ? A{0} : x;
}

/// Rounds what was stored as T once more.
template <int width, class T, class Low>
__device__ __forceinline__ void store_low(Low* low, const Computed<T> (&x)[width]) {
  float stored[width];
#pragma unroll
  for (int k = 0; k < width; ++k) stored[k] = static_cast<float>(widen(narrow<T>(x[k])));
  store_vector(low, stored);
}

/// The step of elements i .. i + width - 1.
template <int width, class T>
__device__ __forceinline__ void step(const State<T>& s, const Coefficients<Computed<T>>& c, std::int64_t i) {
  using A = Computed<T>;
  A g[width], p[width], m[width], v[width];
  load_vector(s.grad + i, g);
  load_vector(s.exp_avg + i, m);
  load_vector(s.exp_avg_sq + i, v);
  load_vector(s.param + i, p);
#pragma unroll
  for (int k = 0; k < width; ++k) {
    g[k] *= c.clip;
    m[k] = flush_denormal(fma(s.one_minus_beta1, g[k] - m[k], m[k]));
    v[k] = flush_denormal(fma(s.beta2, v[k], s.one_minus_beta2 * g[k] * g[k]));
    p[k] = p[k] * c.decay - c.step_size * m[k] / fma(sqrt(v[k]), c.inverse_root, s.eps);
  }
  store_vector(s.exp_avg + i, m);
  store_vector(s.exp_avg_sq + i, v);
  store_vector(s.param + i, p);
  if (s.low == nullptr) return;
  if (s.low_dtype == Dtype::f16)
    store_low<width, T>(reinterpret_cast<f16*>(s.low + i), p);
  else
    store_low<width, T>(reinterpret_cast<bf16*>(s.low + i), p);
}

template <class T, int width>
__global__ void __launch_bounds__(kThreads, 1)
    adamw_step(const __grid_constant__ Groups groups, const State<T> state, const AdamWCoefficients* coefficients,
               const double* clip, const std::int32_t* skip) {
  using A = Computed<T>;
  if (skip != nullptr && *skip != 0) return;
  Coefficients<A> now;
  now.clip = clip == nullptr ? A{1} : static_cast<A>(*clip);
  for (std::int64_t chunk = blockIdx.x; chunk < groups.chunks; chunk += gridDim.x) {
    int g = 0;
    while (g + 1 < groups.count && groups.group[g + 1].first_chunk <= chunk) ++g;
    const AdamWCoefficients& given = coefficients[groups.group[g].number];
    now.decay = static_cast<A>(given.decay);
    now.step_size = static_cast<A>(given.step_size);
    now.inverse_root = static_cast<A>(given.inverse_root);
    const std::int64_t begin = groups.group[g].begin + (chunk - groups.group[g].first_chunk) * kChunk;
    const int count = static_cast<int>(min(std::int64_t{kChunk}, groups.group[g].end - begin));
    const int whole = count - count % width;
    for (int i = static_cast<int>(threadIdx.x) * width; i < whole; i += kThreads * width)
      step<width>(state, now, begin + i);
    if constexpr (width > 1)
      for (int i = whole + static_cast<int>(threadIdx.x); i < count; i += kThreads)
        step<1>(state, now, begin + i);
  }
}

template <class T>
State<T> state_of(const AdamW& p) {
  using A = Computed<T>;
  return {.grad = static_cast<const T*>(p.grad),
          .param = static_cast<T*>(p.param),
          .exp_avg = static_cast<T*>(p.exp_avg),
          .exp_avg_sq = static_cast<T*>(p.exp_avg_sq),
          .low = static_cast<std::uint16_t*>(p.low),
          .low_dtype = p.low_dtype,
          .one_minus_beta1 = static_cast<A>(1 - p.beta1),
          .beta2 = static_cast<A>(p.beta2),
          .one_minus_beta2 = static_cast<A>(1 - p.beta2),
          .eps = static_cast<A>(p.eps)};
}

/// Whether every chunk of every group begins where `width` elements of each buffer can be read at once.
template <class T, int width>
bool groups_are_aligned(const AdamW& p) {
  for (int g = 0; g < p.group_count; ++g)
    if (p.groups[g].begin < p.groups[g].end && p.groups[g].begin % width != 0) return false;
  const auto aligned = [](const void* buffer) { return rows_are_aligned<width>(static_cast<const T*>(buffer), width); };
  return aligned(p.grad) && aligned(p.param) && aligned(p.exp_avg) && aligned(p.exp_avg_sq) &&
         rows_are_aligned<width>(static_cast<const std::uint16_t*>(p.low), width);
}

template <class T, int width>
Status adamw(const AdamW& p, Stream stream) {
  if (!groups_are_aligned<T, width>(p)) return unsupported("a buffer or a group's begin is not aligned to 16 bytes");
  const State<T> state = state_of<T>(p);
  for (int next = 0; next < p.group_count;) {
    Groups groups;
    for (; next < p.group_count && groups.count < kGroupsPerLaunch; ++next) {
      const AdamWGroup& from = p.groups[next];
      if (from.begin == from.end) continue;
      groups.group[groups.count++] = {from.begin, from.end, groups.chunks, next};
      groups.chunks += ceil_div(from.end - from.begin, kChunk);
    }
    if (groups.count == 0) break;
    const Status status = launch(adamw_step<T, width>, dim3(walking_blocks(groups.chunks, 1)), dim3(kThreads), 0,
                                 stream, groups, state, p.coefficients, p.clip, p.skip);
    if (!status.ok()) return status;
  }
  return {};
}

Status adamw_by_element(const AdamW& p, Stream stream) {
  return by_floating(p.dtype, [&]<class T>(Type<T>) { return adamw<T, 1>(p, stream); });
}
Status adamw_by_vector(const AdamW& p, Stream stream) {
  return by_floating(p.dtype, [&]<class T>(Type<T>) { return adamw<T, kVector<T>>(p, stream); });
}
int select_adamw(const AdamW& p) {
  bool aligned = false;
  (void)by_floating(p.dtype, [&]<class T>(Type<T>) {
    aligned = groups_are_aligned<T, kVector<T>>(p);
    return Status{};
  });
  return aligned ? 1 : 0;
}

constexpr Variant norm_variants[] = {
    {"by_element", "a block of threads for 4096 elements, one read at a time", "not yet measured",
     erased_run<SquaredNorm, norm_by_element>},
    {"by_vector", "16 bytes read at a time", "not yet measured; selected where x is aligned to 16 bytes",
     erased_run<SquaredNorm, norm_by_vector>},
};
constexpr Variant adamw_variants[] = {
    {"by_element", "all groups in one launch, a thread steps single elements", "not yet measured",
     erased_run<AdamW, adamw_by_element>},
    {"by_vector", "16 bytes of each buffer at a time", "not yet measured; selected where all is aligned to 16 bytes",
     erased_run<AdamW, adamw_by_vector>},
};
constexpr KernelEntry entries[] = {
    entry<SquaredNorm, check_floating<SquaredNorm>, norm_workspace, select_norm>(norm_variants),
    entry<AdamW, check_floating<AdamW>, no_workspace<AdamW>, select_adamw>(adamw_variants),
};

}  // namespace

extern const Family adamw_family;
const Family adamw_family = family(entries);

}  // namespace sinter::kernels::cuda
