#include "kernels/adamw.h"

#include <cmath>
#include <utility>

#include "kernels/base/by_dtype.cuh"
#include "kernels/base/collective.cuh"
#include "kernels/base/families.h"
#include "kernels/base/grid.cuh"
#include "kernels/base/marked_rows.cuh"
#include "kernels/base/vec.cuh"
#include "kernels/cuda/adamw_step.cuh"

namespace sinter::kernels::cuda {
namespace {

constexpr int kThreads = 256;

// --- Squared norm ---
//
// A block of threads adds one block of kFlatBlock elements; one block of threads then adds the partial sums. A partial
// sum is never negative, so that its sign is free to say that an element of the block is not finite: no flag has to be
// cleared before or combined by atomics.

/// A gradient of which some elements may stand elsewhere, in 16 bits.
template <class T>
struct Gradient {
  const T* wide;
  const std::uint16_t* low;   ///< null: everything is in `wide`
  Dtype low_dtype;
  LowRanges ranges;
};

/// Whether element i, and with it the vector that begins there, stands in 16 bits.
template <class T>
__device__ __forceinline__ bool is_low(const Gradient<T>& x, std::int64_t i) {
  bool low = false;
  if (x.low != nullptr) end_of_side(x.ranges, i, i + 1, low);
  return low;
}

/// f16 and bf16 values are exact in A.
template <int width, class Low, class A>
__device__ __forceinline__ void load_low(const Low* low, A (&value)[width]) {
  float narrow[width];
  load_vector(low, narrow);
#pragma unroll
  for (int k = 0; k < width; ++k) value[k] = static_cast<A>(narrow[k]);
}
template <int width, class T>
__device__ __forceinline__ void load_gradient(const Gradient<T>& x, bool low, std::int64_t i,
                                              Computed<T> (&value)[width]) {
  if (!low)
    load_vector(x.wide + i, value);
  else if (x.low_dtype == Dtype::f16)
    load_low(reinterpret_cast<const f16*>(x.low) + i, value);
  else
    load_low(reinterpret_cast<const bf16*>(x.low) + i, value);
}

/// The squares of elements i, i + step, ... below `end`, each `width` of them read at once; `low(i)` says where.
template <int width, class T, class Low>
__device__ __forceinline__ Computed<T> sum_of_squares(const Gradient<T>& x, std::int64_t block, int begin, int end,
                                                      int step, Low&& low) {
  Computed<T> sum = 0;
  for (int i = begin; i < end; i += step) {
    Computed<T> value[width];
    load_gradient(x, low(block + i), block + i, value);
#pragma unroll
    for (int k = 0; k < width; ++k) sum += value[k] * value[k];
  }
  return sum;
}
/// Those of one thread in a block of `count` elements.
template <int width, class T, class Low>
__device__ __forceinline__ Computed<T> thread_sum(const Gradient<T>& x, std::int64_t block, int count, Low&& low) {
  const int lane = static_cast<int>(threadIdx.x), whole = count - count % width;
  Computed<T> sum = sum_of_squares<width>(x, block, lane * width, whole, kThreads * width, low);
  if constexpr (width > 1) sum += sum_of_squares<1>(x, block, whole + lane, count, kThreads, low);
  return sum;
}

/// The sum over a block of elements whose first sum was not finite: in f64, which finite values of the shorter types
/// cannot overflow. Negative where an element is not finite; NaN where one is NaN.
template <class T>
__device__ __forceinline__ double wide_partial(const Gradient<T>& x, std::int64_t block, int n, double* parts) {
  double sum = 0;
  bool nonfinite = false;
  for (int i = static_cast<int>(threadIdx.x); i < n; i += kThreads) {
    Computed<T> value[1];
    load_gradient(x, is_low(x, block + i), block + i, value);
    const double wide = static_cast<double>(value[0]);
    sum += wide * wide;
    nonfinite = nonfinite || !std::isfinite(wide);
  }
  nonfinite = __syncthreads_or(nonfinite) != 0;
  sum = block_all<Add, kThreads>(sum, parts);
  return nonfinite ? -sum : sum;
}

/// Whether elements [begin, end) lie in rows without a mark. The whole block must call it.
__device__ __forceinline__ bool holds_zeros(const TouchedRows& table, std::int64_t begin, std::int64_t end) {
  if (!lies_inside(table, begin, end)) return false;
  bool touched = false;
  const std::int64_t last = row_of(table, end - 1);
  for (std::int64_t r = row_of(table, begin) + threadIdx.x; r <= last; r += kThreads)
    touched = touched || table.touched[r] != 0;
  return __syncthreads_or(touched) == 0;
}

/// A grid has room for the blocks of 2^43 elements.
template <class T, int width>
__global__ void __launch_bounds__(kThreads, 1)
    partial_squares(std::int64_t n, const Gradient<T> x, const TouchedRows table, double* partial) {
  using A = Computed<T>;
  SINTER_SHARED(A, parts, [kThreads / kWarp]);
  SINTER_SHARED(double, wide_parts, [kThreads / kWarp]);
  const std::int64_t begin = blockIdx.x * kFlatBlock, end = min(begin + kFlatBlock, n);
  const int count = static_cast<int>(end - begin);
  if (holds_zeros(table, begin, end)) {   // for all threads, or for none
    if (threadIdx.x == 0) partial[blockIdx.x] = 0;
    return;
  }
  bool low = false;
  const bool same = x.low == nullptr || end_of_side(x.ranges, begin, end, low) == end;
  A sum = same && !low ? thread_sum<width>(x, begin, count, [](std::int64_t) { return false; })
                       : thread_sum<width>(x, begin, count, [&](std::int64_t i) { return same || is_low(x, i); });
  sum = block_all<Add, kThreads>(sum, parts);
  double total = static_cast<double>(sum);
  if (!std::isfinite(sum)) total = wide_partial(x, begin, count, wide_parts);  // all threads have the same sum
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
  const Gradient<T> x{static_cast<const T*>(p.x), static_cast<const std::uint16_t*>(p.low_x), p.low_dtype,
                      p.low_ranges};
  auto* partial = static_cast<double*>(p.workspace);
  if (!rows_are_aligned<width>(x.wide, kFlatBlock) || !rows_are_aligned<width>(x.low, kFlatBlock))
    return unsupported("x is not aligned to 16 bytes");
  const std::int64_t blocks = ceil_div(p.n, kFlatBlock);
  if (blocks > 0) {
    const Status status =
        launch(partial_squares<T, width>, dim3(blocks_for(blocks, 1)), dim3(kThreads), 0, stream, p.n, x, p.table,
               partial);
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
int select_norm(const SquaredNorm& p) {
  const auto is_aligned = [](const void* x) { return reinterpret_cast<std::uintptr_t>(x) % 16 == 0; };
  return is_aligned(p.x) && is_aligned(p.low_x) ? 1 : 0;
}

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
  Gradient<T> grad;
  T* param;
  T* exp_avg;
  T* exp_avg_sq;
  std::uint16_t* low;   ///< may be null; of the dtype and in the ranges of `grad`
  AdamWConstants<Computed<T>> constants;
};

/// The step of elements i .. i + width - 1; `low`: whether they have a 16-bit side.
template <int width, class T>
__device__ __forceinline__ void step(const State<T>& s, Computed<T> clip, const AdamWNow<Computed<T>>& now,
                                     std::int64_t i, bool low) {
  using A = Computed<T>;
  A g[width], p[width], m[width], v[width];
  load_gradient(s.grad, low && s.grad.low != nullptr, i, g);
  load_vector(s.exp_avg + i, m);
  load_vector(s.exp_avg_sq + i, v);
  load_vector(s.param + i, p);
#pragma unroll
  for (int k = 0; k < width; ++k) take_adamw_step(s.constants, now, g[k] * clip, p[k], m[k], v[k]);
  store_vector(s.exp_avg + i, m);
  store_vector(s.exp_avg_sq + i, v);
  store_vector(s.param + i, p);
  store_low<width, T>(low && s.low != nullptr ? s.low + i : nullptr, s.grad.low_dtype, p);
}

template <class A>
__device__ __forceinline__ A clip_factor(const double* clip) {
  return clip == nullptr ? A{1} : static_cast<A>(*clip);
}

template <class T, int width>
__global__ void __launch_bounds__(kThreads, 1)
    adamw_step(const __grid_constant__ Groups groups, const State<T> state, const AdamWCoefficients* coefficients,
               const double* clip, const std::int32_t* skip) {
  using A = Computed<T>;
  if (skip != nullptr && *skip != 0) return;
  const A factor = clip_factor<A>(clip);
  for (std::int64_t chunk = blockIdx.x; chunk < groups.chunks; chunk += gridDim.x) {
    int g = 0;
    while (g + 1 < groups.count && groups.group[g + 1].first_chunk <= chunk) ++g;
    const AdamWNow<A> now(coefficients[groups.group[g].number]);
    const std::int64_t begin = groups.group[g].begin + (chunk - groups.group[g].first_chunk) * kChunk;
    const int count = static_cast<int>(min(std::int64_t{kChunk}, groups.group[g].end - begin));
    const int whole = count - count % width;
    bool low = false;
    const LowRanges& ranges = state.grad.ranges;
    const bool same = end_of_side(ranges, begin, begin + count, low) == begin + count;
    const auto is_low_at = [&](std::int64_t i) {
      bool here = low;
      if (!same) end_of_side(ranges, i, i + 1, here);
      return here;
    };
    for (int i = static_cast<int>(threadIdx.x) * width; i < whole; i += kThreads * width)
      step<width>(state, factor, now, begin + i, is_low_at(begin + i));
    if constexpr (width > 1)
      for (int i = whole + static_cast<int>(threadIdx.x); i < count; i += kThreads)
        step<1>(state, factor, now, begin + i, is_low_at(begin + i));
  }
}

/// The touched rows of the deferred table: a block for 32 rows.
template <class T, int width>
__global__ void __launch_bounds__(kThreads, 1)
    adamw_touched(const DeferredRows deferred, const State<T> state, const AdamWCoefficients* coefficients,
                  const double* clip, const std::int32_t* skip) {
  using A = Computed<T>;
  if (skip != nullptr && *skip != 0) return;
  const TouchedRows& table = deferred.table;
  const A factor = clip_factor<A>(clip);
  const AdamWNow<A> now(*coefficients);
  for (std::int64_t first = std::int64_t{blockIdx.x} * kWarp; first < table.rows;
       first += std::int64_t{gridDim.x} * kWarp) {
    const unsigned marked = marked_rows(table.touched, first, table.rows);
    for_marked_rows(marked, first, [&](std::int64_t row) {
      for (std::int64_t c = static_cast<std::int64_t>(threadIdx.x) * width; c < table.cols; c += kThreads * width)
        step<width>(state, factor, now, table.begin + row * table.cols + c, state.grad.ranges.ranges == nullptr);
    });
    if (threadIdx.x >= kWarp || (marked >> threadIdx.x & 1u) == 0) continue;
    if (deferred.current[first + threadIdx.x] != *deferred.step - 1)
      device_fail("a touched row has not seen the update before this one");
    deferred.current[first + threadIdx.x] = *deferred.step;
  }
}

template <class T>
State<T> state_of(const AdamW& p) {
  return {.grad = {static_cast<const T*>(p.grad), static_cast<const std::uint16_t*>(p.low_grad), p.low_dtype,
                   p.low_ranges},
          .param = static_cast<T*>(p.param),
          .exp_avg = static_cast<T*>(p.exp_avg),
          .exp_avg_sq = static_cast<T*>(p.exp_avg_sq),
          .low = static_cast<std::uint16_t*>(p.low),
          .constants = AdamWConstants<Computed<T>>(p)};
}

/// The ranges of elements that adamw_step takes: the groups without the deferred table.
class Ranges {
 public:
  explicit Ranges(const AdamW& p) : p_(p), table_(p.deferred.table.touched == nullptr ? -1 : group_of(p)) {}

  /// Appends to `groups` what is left and finds room there; false when nothing is left.
  bool fill(Groups& groups) {
    for (; group_ < p_.group_count && groups.count < kGroupsPerLaunch; next()) {
      const auto [begin, end] = range();
      if (begin == end) continue;
      groups.group[groups.count++] = {begin, end, groups.chunks, group_};
      groups.chunks += ceil_div(end - begin, kChunk);
    }
    return groups.count > 0;
  }
  /// Whether each begins at a multiple of `width`.
  bool begin_at_multiples_of(int width) {
    bool all = true;
    for (; group_ < p_.group_count; next())
      if (const auto [begin, end] = range(); begin < end) all = all && begin % width == 0;
    return all;
  }

 private:
  std::pair<std::int64_t, std::int64_t> range() const {
    const AdamWGroup& group = p_.groups[group_];
    if (group_ != table_) return {group.begin, group.end};
    const TouchedRows& table = p_.deferred.table;
    if (!behind_table_) return {group.begin, table.begin};
    return {table.begin + table.rows * table.cols, group.end};
  }
  void next() {
    if (group_ == table_ && !behind_table_) {
      behind_table_ = true;
    } else {
      ++group_;
    }
  }

  const AdamW& p_;
  const int table_;   ///< the group of the deferred table; -1: none
  int group_ = 0;
  bool behind_table_ = false;
};

/// Whether `width` elements of each buffer can be read at once wherever chunks and touched rows begin.
template <class T, int width>
bool is_aligned(const AdamW& p) {
  const TouchedRows& table = p.deferred.table;
  if (table.touched != nullptr && (table.begin % width != 0 || table.cols % width != 0)) return false;
  const auto aligned = [](const void* buffer) { return rows_are_aligned<width>(static_cast<const T*>(buffer), width); };
  return Ranges(p).begin_at_multiples_of(width) && aligned(p.grad) && aligned(p.param) && aligned(p.exp_avg) &&
         aligned(p.exp_avg_sq) && rows_are_aligned<width>(static_cast<const std::uint16_t*>(p.low), width) &&
         rows_are_aligned<width>(static_cast<const std::uint16_t*>(p.low_grad), width);
}

template <class T, int width>
Status adamw(const AdamW& p, Stream stream) {
  if (!is_aligned<T, width>(p)) return unsupported("a buffer, a group or the table is not aligned to 16 bytes");
  const State<T> state = state_of<T>(p);
  Status status;
  Ranges ranges(p);
  for (Groups groups; status.ok() && ranges.fill(groups); groups = {})
    status = launch(adamw_step<T, width>, dim3(walking_blocks(groups.chunks, 1)), dim3(kThreads), 0, stream, groups,
                    state, p.coefficients, p.clip, p.skip);
  const TouchedRows& table = p.deferred.table;
  if (!status.ok() || table.touched == nullptr || table.rows == 0) return status;
  return launch(adamw_touched<T, width>, dim3(walking_blocks(table.rows, kWarp)), dim3(kThreads), 0, stream, p.deferred,
                state, p.coefficients + group_of(p), p.clip, p.skip);
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
    aligned = is_aligned<T, kVector<T>>(p);
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
