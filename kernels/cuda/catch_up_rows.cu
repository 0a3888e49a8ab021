#include "kernels/catch_up_rows.h"

#include <algorithm>

#include "kernels/base/by_dtype.cuh"
#include "kernels/base/families.h"
#include "kernels/base/grid.cuh"
#include "kernels/cuda/adamw_step.cuh"

namespace sinter::kernels::cuda {
namespace {

/// A row of 768 columns in f32 is 192 vectors.
constexpr int kThreads = 192;
/// Steps after which it is asked again what has become zero.
constexpr std::int64_t kSteps = 32;

/// The coefficients of consecutive steps.
struct History {
  const AdamWCoefficients* first;
  std::int64_t size, stride;

  /// The place of step s.
  __device__ __forceinline__ std::int64_t place(std::int64_t s) const { return s % size; }
  __device__ __forceinline__ const AdamWCoefficients& at(std::int64_t place) const { return first[place * stride]; }
};

template <class T>
struct State {
  T* param;
  T* exp_avg;
  T* exp_avg_sq;
  std::uint16_t* low;   ///< may be null
  Dtype low_dtype;
};

/// +0, and no denormal that a later step flushes.
template <class A>
__device__ __forceinline__ bool is_plain_zero(A x) {
  return x == 0 && !signbit(x);
}
/// A number whose root is one: without momentum a step then changes p by its decay alone.
template <class A>
__device__ __forceinline__ bool is_square(A x) {
  return x >= 0 && !signbit(x) && isfinite(x);
}

template <class T, int width>
struct Elements {
  using A = Computed<T>;
  A p[width], m[width], v[width];

  __device__ __forceinline__ bool move() const {
    bool any = false;
#pragma unroll
    for (int k = 0; k < width; ++k) any = any || !is_plain_zero(m[k]) || !is_square(v[k]);
    return any;
  }
  __device__ __forceinline__ void take_step(const AdamWConstants<A>& k, const AdamWCoefficients& now) {
    const AdamWNow<A> coefficients(now);
#pragma unroll
    for (int i = 0; i < width; ++i) {
      take_adamw_step(k, coefficients, A{0}, p[i], m[i], v[i]);
      p[i] = rounded<T>(p[i]);
      m[i] = rounded<T>(m[i]);
      v[i] = rounded<T>(v[i]);
    }
  }
  /// The same where every m is +0 and every v a square.
  __device__ __forceinline__ void decay(const AdamWConstants<A>& k, const AdamWCoefficients& now) {
    const A factor = static_cast<A>(now.decay);
#pragma unroll
    for (int i = 0; i < width; ++i) {
      v[i] = rounded<T>(flush_denormal(fma(k.beta2, v[i], A{0})));
      p[i] = rounded<T>(fma(p[i], factor, -A{0}));
    }
  }
};

/// Elements i .. i + width - 1 of the table take the steps from + 1 .. to.
template <int width, class T>
__device__ __forceinline__ void replay(const State<T>& state, const AdamWConstants<Computed<T>>& constants,
                                       const History& history, std::int64_t from, std::int64_t to, std::int64_t i) {
  Elements<T, width> e;
  load_vector(state.param + i, e.p);
  load_vector(state.exp_avg + i, e.m);
  load_vector(state.exp_avg_sq + i, e.v);
  std::int64_t place = history.place(from + 1);
  for (std::int64_t left = to - from; left > 0;) {
    const std::int64_t count = min(min(left, kSteps), history.size - place);
    if (e.move())
      for (std::int64_t s = place; s < place + count; ++s) e.take_step(constants, history.at(s));
    else
      for (std::int64_t s = place; s < place + count; ++s) e.decay(constants, history.at(s));
    left -= count;
    place = place + count == history.size ? 0 : place + count;
  }
  store_vector(state.param + i, e.p);
  store_vector(state.exp_avg + i, e.m);
  store_vector(state.exp_avg_sq + i, e.v);
  store_low<width, T>(state.low == nullptr ? nullptr : state.low + i, state.low_dtype, e.p);
}

/// A block for each row. Which of the blocks of a row that is named several times comes first takes it, and the others
/// find it current; the exchange is atomic.
template <class T, int width>
__global__ void __launch_bounds__(kThreads, 1)
    catch_up(std::int64_t count, std::int64_t rows, std::int64_t cols, const std::int64_t* ids,
             const std::int64_t* step, std::int64_t* current, AdamWConstants<Computed<T>> constants, History history,
             State<T> state) {
  SINTER_SHARED(std::int64_t, from, [1]);
  const std::int64_t to = *step;
  for (std::int64_t j = blockIdx.x; j < count; j += gridDim.x) {
    const std::int64_t row = ids == nullptr ? j : ids[j];
    if (row < 0 || row >= rows) device_fail("ids: every index must lie in [0, rows)");
    if (threadIdx.x == 0) {
      auto* const place = reinterpret_cast<unsigned long long*>(current + row);
      from[0] = static_cast<std::int64_t>(atomicExch(place, static_cast<unsigned long long>(to)));
      if (to - from[0] < 0 || to - from[0] > history.size)
        device_fail("a row lags by more steps than the history holds");
    }
    __syncthreads();
    const std::int64_t first = from[0];
    if (first < to)
      for (std::int64_t c = static_cast<std::int64_t>(threadIdx.x) * width; c < cols; c += kThreads * width)
        replay<width>(state, constants, history, first, to, row * cols + c);
    __syncthreads();   // before the next row's `from`
  }
}

template <class T, int width>
bool aligned(const CatchUpRows& p) {
  const auto rows = [&](const void* buffer) { return rows_are_aligned<width>(static_cast<const T*>(buffer), p.cols); };
  return rows(p.param) && rows(p.exp_avg) && rows(p.exp_avg_sq) &&
         rows_are_aligned<width>(static_cast<const std::uint16_t*>(p.low), p.cols);
}

template <class T, int width>
Status launch_catch_up(const CatchUpRows& p, Stream stream) {
  if (!aligned<T, width>(p)) return unsupported("rows are not aligned to 16 bytes");
  const std::int64_t count = p.ids == nullptr ? p.rows : p.n;
  if (count == 0) return {};
  return launch(catch_up<T, width>, dim3(walking_blocks(count, 1)), dim3(kThreads), 0, stream, count, p.rows, p.cols,
                p.ids, p.step, p.current, AdamWConstants<Computed<T>>(p),
                History{p.history, p.history_size, p.history_stride},
                State<T>{static_cast<T*>(p.param), static_cast<T*>(p.exp_avg), static_cast<T*>(p.exp_avg_sq),
                         static_cast<std::uint16_t*>(p.low), p.low_dtype});
}

Status by_element(const CatchUpRows& p, Stream stream) {
  return by_floating(p.dtype, [&]<class T>(Type<T>) { return launch_catch_up<T, 1>(p, stream); });
}
Status by_vector(const CatchUpRows& p, Stream stream) {
  return by_floating(p.dtype, [&]<class T>(Type<T>) { return launch_catch_up<T, kVector<T>>(p, stream); });
}
int select(const CatchUpRows& p) {
  bool vectors = false;
  (void)by_floating(p.dtype, [&]<class T>(Type<T>) {
    vectors = aligned<T, kVector<T>>(p);
    return Status{};
  });
  return vectors ? 1 : 0;
}

constexpr Variant variants[] = {
    {"by_element", "a block a row, a thread replays the missed steps of single elements", "not yet measured",
     erased_run<CatchUpRows, by_element>},
    {"by_vector", "16 bytes a thread", "not yet measured; selected where rows are aligned to 16 bytes",
     erased_run<CatchUpRows, by_vector>},
};
constexpr KernelEntry entries[] = {
    entry<CatchUpRows, check_floating<CatchUpRows>, no_workspace<CatchUpRows>, select>(variants)};

}  // namespace

extern const Family catch_up_rows_family;
const Family catch_up_rows_family = family(entries);

}  // namespace sinter::kernels::cuda
