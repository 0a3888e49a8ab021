#include "kernels/softmax.h"

#include <type_traits>

#include "kernels/base/by_dtype.cuh"
#include "kernels/base/collective.cuh"
#include "kernels/base/families.h"
#include "kernels/base/grid.cuh"
#include "kernels/base/vec.cuh"

namespace sinter::kernels::cuda {
namespace {

constexpr int kThreads = 256;
/// The forms that give each row a warp: rows of a block, and the longest row that a warp holds.
constexpr int kRowsOfWarps = 4;
constexpr std::int64_t kLongestRow = 1024;

template <class T>
const T* in(const void* p) {
  return static_cast<const T*>(p);
}

template <int n>
using Count = std::integral_constant<int, n>;

/// fn(Count<n>{}) where 32 lanes hold a row of `cols` <= kLongestRow with n elements each.
template <class Fn>
Status by_elements(std::int64_t cols, Fn&& fn) {
  if (cols <= kWarp) return fn(Count<1>{});
  if (cols <= 4 * kWarp) return fn(Count<4>{});
  if (cols <= 16 * kWarp) return fn(Count<16>{});
  return fn(Count<32>{});
}

/// fn(k, c) for each element, at column c, that this lane owns of its warp's row. No collective inside fn.
template <int n, class Fn>
__device__ __forceinline__ void for_elements(std::int64_t cols, Fn&& fn) {
#pragma unroll
  for (int k = 0; k < n; ++k) {
    const int c = k * kWarp + static_cast<int>(threadIdx.x % kWarp);
    if (c < cols) fn(k, c);
  }
}

/// Rows that a warp takes: rows r, r + step ...
__device__ __forceinline__ std::int64_t first_row_of_warp() {
  return static_cast<std::int64_t>(blockIdx.x) * kRowsOfWarps + threadIdx.x / kWarp;
}
__device__ __forceinline__ std::int64_t step_of_warps() { return static_cast<std::int64_t>(gridDim.x) * kRowsOfWarps; }

// --- Forward ---

template <class T>
struct Rows {
  using A = Computed<T>;

  bool logarithms;
  std::int64_t rows, cols;
  const T* x;
  T* y;

  explicit Rows(const Softmax& p)
      : logarithms(p.log), rows(p.rows), cols(p.cols), x(in<T>(p.x)), y(static_cast<T*>(p.y)) {}

  /// `above` is x less the row's maximum, `divisor` what y is divided by or, of logarithms, what is taken off.
  __device__ __forceinline__ A result(A above, A divisor) const {
    return logarithms ? above - divisor : exp(above) / divisor;
  }
  __device__ __forceinline__ A divisor(A sum) const { return logarithms ? log(sum) : sum; }
};

template <class T>
__global__ void __launch_bounds__(kThreads, 1) softmax_by_block(Rows<T> p) {
  using A = Computed<T>;
  SINTER_SHARED(A, max_parts, [kThreads / kWarp]);
  SINTER_SHARED(A, sum_parts, [kThreads / kWarp]);
  for (std::int64_t r = blockIdx.x; r < p.rows; r += gridDim.x) {
    const T* const x = p.x + r * p.cols;
    A max = Max::identity<A>();
    for (std::int64_t c = threadIdx.x; c < p.cols; c += kThreads) max = Max::of(max, load(x + c));
    max = block_all<Max, kThreads>(max, max_parts);
    A sum = 0;
    for (std::int64_t c = threadIdx.x; c < p.cols; c += kThreads) sum += exp(load(x + c) - max);
    const A divisor = p.divisor(block_all<Add, kThreads>(sum, sum_parts));
    for (std::int64_t c = threadIdx.x; c < p.cols; c += kThreads)
      store(p.y + r * p.cols + c, p.result(load(x + c) - max, divisor));
  }
}

template <class T, int n>
__global__ void __launch_bounds__(kRowsOfWarps * kWarp, 1) softmax_by_warp(Rows<T> p) {
  using A = Computed<T>;
  for (std::int64_t r = first_row_of_warp(); r < p.rows; r += step_of_warps()) {
    A row[n] = {}, max = Max::identity<A>(), sum = 0;
    for_elements<n>(p.cols, [&](int k, int c) {
      row[k] = load(p.x + r * p.cols + c);
      max = Max::of(max, row[k]);
    });
    max = warp_all<Max>(max);
    for_elements<n>(p.cols, [&](int k, int) {
      row[k] -= max;
      sum += exp(row[k]);
    });
    const A divisor = p.divisor(warp_all<Add>(sum));
    for_elements<n>(p.cols, [&](int k, int c) { store(p.y + r * p.cols + c, p.result(row[k], divisor)); });
  }
}

// --- Backward ---

template <class T>
struct GradientRows {
  using A = Computed<T>;

  bool logarithms;
  std::int64_t rows, cols;
  const T* dy;
  const T* y;
  T* dx;

  explicit GradientRows(const SoftmaxBackward& p)
      : logarithms(p.log), rows(p.rows), cols(p.cols), dy(in<T>(p.dy)), y(in<T>(p.y)), dx(static_cast<T*>(p.dx)) {}

  __device__ __forceinline__ A term(A gradient, A result) const {
    return logarithms ? gradient : gradient * result;
  }
  __device__ __forceinline__ A input_gradient(A gradient, A result, A sum) const {
    return logarithms ? gradient - exp(result) * sum : result * (gradient - sum);
  }
};

template <class T>
__global__ void __launch_bounds__(kThreads, 1) gradient_by_block(GradientRows<T> p) {
  using A = Computed<T>;
  SINTER_SHARED(A, parts, [2][kThreads / kWarp]);
  int turn = 0;   // one barrier a row: the next row's parts are others
  for (std::int64_t r = blockIdx.x; r < p.rows; r += gridDim.x, turn = 1 - turn) {
    const std::int64_t row = r * p.cols;
    A sum = 0;
    for (std::int64_t c = threadIdx.x; c < p.cols; c += kThreads)
      sum += p.term(load(p.dy + row + c), load(p.y + row + c));
    sum = block_all<Add, kThreads>(sum, parts[turn]);
    for (std::int64_t c = threadIdx.x; c < p.cols; c += kThreads)
      store(p.dx + row + c, p.input_gradient(load(p.dy + row + c), load(p.y + row + c), sum));
  }
}

template <class T, int n>
__global__ void __launch_bounds__(kRowsOfWarps * kWarp, 1) gradient_by_warp(GradientRows<T> p) {
  using A = Computed<T>;
  for (std::int64_t r = first_row_of_warp(); r < p.rows; r += step_of_warps()) {
    const std::int64_t row = r * p.cols;
    A gradient[n] = {}, result[n] = {}, sum = 0;
    for_elements<n>(p.cols, [&](int k, int c) {
      gradient[k] = load(p.dy + row + c);
      result[k] = load(p.y + row + c);
      sum += p.term(gradient[k], result[k]);
    });
    sum = warp_all<Add>(sum);
    for_elements<n>(p.cols, [&](int k, int c) {
      store(p.dx + row + c, p.input_gradient(gradient[k], result[k], sum));
    });
  }
}

// --- Launchers ---

template <class P>
Status takes_warps(const P& p) {
  if (p.cols <= kLongestRow) return {};
  return unsupported("a warp holds at most 1024 columns");
}

template <class P>
int select(const P& p) {
  return takes_warps(p).ok() ? 1 : 0;
}

Status by_block(const Softmax& p, Stream stream) {
  if (p.rows == 0) return {};
  return by_floating(p.dtype, [&]<class T>(Type<T>) {
    return launch(softmax_by_block<T>, dim3(walking_blocks(p.rows, 1)), dim3(kThreads), 0, stream, Rows<T>(p));
  });
}

Status by_warp(const Softmax& p, Stream stream) {
  if (const Status takes = takes_warps(p); !takes.ok() || p.rows == 0) return takes;
  return by_floating(p.dtype, [&]<class T>(Type<T>) {
    return by_elements(p.cols, [&]<int n>(Count<n>) {
      return launch(softmax_by_warp<T, n>, dim3(walking_blocks(p.rows, kRowsOfWarps)), dim3(kRowsOfWarps * kWarp), 0,
                    stream, Rows<T>(p));
    });
  });
}

Status backward_by_block(const SoftmaxBackward& p, Stream stream) {
  if (p.rows * p.cols == 0) return {};
  return by_floating(p.dtype, [&]<class T>(Type<T>) {
    return launch(gradient_by_block<T>, dim3(walking_blocks(p.rows, 1)), dim3(kThreads), 0, stream, GradientRows<T>(p));
  });
}

Status backward_by_warp(const SoftmaxBackward& p, Stream stream) {
  if (const Status takes = takes_warps(p); !takes.ok() || p.rows * p.cols == 0) return takes;
  return by_floating(p.dtype, [&]<class T>(Type<T>) {
    return by_elements(p.cols, [&]<int n>(Count<n>) {
      return launch(gradient_by_warp<T, n>, dim3(walking_blocks(p.rows, kRowsOfWarps)), dim3(kRowsOfWarps * kWarp), 0,
                    stream, GradientRows<T>(p));
    });
  });
}

constexpr const char* kByBlock = "a block for each row, which it reads once for each step of the formula";
constexpr const char* kByWarp = "a warp for each row of at most 1024 columns, which it holds in registers";

constexpr Variant softmax_variants[] = {
    {"by_block", kByBlock, "not yet measured", erased_run<Softmax, by_block>},
    {"by_warp", kByWarp, "not yet measured", erased_run<Softmax, by_warp>}};
constexpr Variant softmax_backward_variants[] = {
    {"by_block", kByBlock, "not yet measured", erased_run<SoftmaxBackward, backward_by_block>},
    {"by_warp", kByWarp, "not yet measured", erased_run<SoftmaxBackward, backward_by_warp>}};

constexpr KernelEntry entries[] = {
    entry<Softmax, check_floating<Softmax>, no_workspace<Softmax>, select<Softmax>>(softmax_variants),
    entry<SoftmaxBackward, check_floating<SoftmaxBackward>, no_workspace<SoftmaxBackward>, select<SoftmaxBackward>>(
        softmax_backward_variants)};

}  // namespace

extern const Family softmax_family;
const Family softmax_family = family(entries);

}  // namespace sinter::kernels::cuda
