#include "kernels/bias_gelu.h"

#include "kernels/base/by_dtype.cuh"
#include "kernels/base/column_sum.cuh"
#include "kernels/base/families.h"
#include "kernels/base/grid.cuh"
#include "kernels/base/vec.cuh"

namespace sinter::kernels::cuda {
namespace {

constexpr int kThreads = 256;
/// Elements side by side that a thread of the vector forms owns.
constexpr int kEight = 8;
/// The tile of a warp in the backward's vector form: 4 lanes of 8 columns, 8 lanes below each other.
constexpr int kTileColumns = 32, kLanesAcross = kTileColumns / kEight, kLanesDown = kWarp / kLanesAcross;
constexpr int kWarps = kThreads / kWarp;

template <class T>
const T* in(const void* p) {
  return static_cast<const T*>(p);
}
template <class T>
T* out(void* p) {
  return static_cast<T*>(p);
}

/// Cumulative distribution function of the normal distribution. Its lower tail has the absolute accuracy of erf, which
/// is all that the contract asks for and half the instructions of erfc.
template <class A>
__device__ __forceinline__ A normal_cdf(A u) {
  return (A{1} + erf(u * static_cast<A>(0.70710678118654752440))) * static_cast<A>(0.5);
}
template <class A>
__device__ __forceinline__ A gelu(A u) {
  return u * normal_cdf(u);
}
template <class A>
__device__ __forceinline__ A gelu_derivative(A u) {
  const A density = exp(static_cast<A>(-0.5) * u * u) * static_cast<A>(0.39894228040143267794);
  return normal_cdf(u) + u * density;
}

/// x + bias for N elements from column c, x pointing to the first.
template <int N, class T, class A>
__device__ __forceinline__ void load_biased(const T* x, const A* bias, std::int64_t c, A (&u)[N]) {
  load_vector<N>(x, u);
  if (bias == nullptr) return;
  A added[N];
  load_vector<N>(bias + c, added);
#pragma unroll
  for (int i = 0; i < N; ++i) u[i] += added[i];
}

// --- Forward ---

/// N elements a thread.
template <class T, int N>
__global__ void __launch_bounds__(kThreads, 1)
    gelu_of_vectors(std::int64_t count, std::int64_t cols, const T* x, const Computed<T>* bias, T* y) {
  const std::int64_t step = static_cast<std::int64_t>(gridDim.x) * kThreads * N;
  for (std::int64_t i = (static_cast<std::int64_t>(blockIdx.x) * kThreads + threadIdx.x) * N; i < count; i += step) {
    Computed<T> u[N];
    load_biased<N>(x + i, bias, i % cols, u);
#pragma unroll
    for (int e = 0; e < N; ++e) u[e] = gelu(u[e]);
    store_vector<N>(y + i, u);
  }
}

template <int N>
Status forward(const BiasGelu& p, Stream stream) {
  const std::int64_t count = p.rows * p.cols;
  if (count == 0) return {};
  return by_floating(p.dtype, [&]<class T>(Type<T>) {
    using A = Computed<T>;
    return launch(gelu_of_vectors<T, N>, dim3(walking_blocks(count, kThreads * N)), dim3(kThreads), 0, stream, count,
                  p.cols, in<T>(p.x), in<A>(p.bias), out<T>(p.y));
  });
}

Status takes_eights(const BiasGelu& p) {
  return by_floating(p.dtype, [&]<class T>(Type<T>) {
    if (rows_are_aligned<kEight>(in<T>(p.x), p.cols) && rows_are_aligned<kEight>(in<T>(p.y), p.cols) &&
        rows_are_aligned<kEight>(in<Computed<T>>(p.bias), p.cols))
      return Status{};
    return unsupported("vectors are aligned multiples of 8 columns");
  });
}

Status forward_of_eights(const BiasGelu& p, Stream stream) {
  const Status takes = takes_eights(p);
  return takes.ok() ? forward<kEight>(p, stream) : takes;
}

int select_forward(const BiasGelu& p) { return takes_eights(p).ok() ? 1 : 0; }

// --- Backward ---

template <class T>
struct Gradient {
  using A = Computed<T>;

  std::int64_t rows, cols;
  const T* dy;
  const T* x;
  const A* bias;
  T* dx;
  A* partial;   ///< [column_blocks(rows)][cols]; null: no dbias

  explicit Gradient(const BiasGeluBackward& p)
      : rows(p.rows), cols(p.cols), dy(in<T>(p.dy)), x(in<T>(p.x)), bias(in<A>(p.bias)), dx(out<T>(p.dx)),
        partial(p.dbias == nullptr ? nullptr : out<A>(p.workspace)) {}

  /// dx of N elements of row r from column c, which it adds to `sum`.
  template <int N>
  __device__ __forceinline__ void add_elements(std::int64_t r, std::int64_t c, A (&sum)[N]) const {
    const std::int64_t i = r * cols + c;
    A u[N], gradient[N];
    load_biased<N>(x + i, bias, c, u);
    load_vector<N>(dy + i, gradient);
#pragma unroll
    for (int e = 0; e < N; ++e) {
      gradient[e] *= gelu_derivative(u[e]);
      sum[e] += gradient[e];
    }
    store_vector<N>(dx + i, gradient);
  }
};

/// A thread walks down the rows of one column of a column block.
template <class T>
__global__ void __launch_bounds__(kThreads, 1) gradient_by_column(std::int64_t across, Gradient<T> p) {
  for (std::int64_t tile = blockIdx.x; tile < across * column_blocks(p.rows); tile += gridDim.x) {
    const std::int64_t b = tile / across, c = tile % across * kThreads + threadIdx.x;
    if (c >= p.cols) continue;
    Computed<T> sum[1] = {0};
    for (std::int64_t r = b * kColumnSumRows; r < min(p.rows, (b + 1) * kColumnSumRows); ++r) p.add_elements(r, c, sum);
    if (p.partial != nullptr) p.partial[b * p.cols + c] = sum[0];
  }
}

/// A warp walks down the rows of 32 columns of a column block, 8 rows at a time.
template <class T>
__global__ void __launch_bounds__(kThreads, 1) gradient_by_warp(std::int64_t across, Gradient<T> p) {
  const int lane = static_cast<int>(threadIdx.x % kWarp);
  const std::int64_t step = static_cast<std::int64_t>(gridDim.x) * kWarps;
  std::int64_t tile = static_cast<std::int64_t>(blockIdx.x) * kWarps + threadIdx.x / kWarp;
  for (; tile < across * column_blocks(p.rows); tile += step) {
    const std::int64_t b = tile / across, c = tile % across * kTileColumns + lane % kLanesAcross * kEight;
    Computed<T> sum[kEight] = {};
    if (c < p.cols) {
#pragma unroll 2
      for (std::int64_t r = b * kColumnSumRows + lane / kLanesAcross; r < min(p.rows, (b + 1) * kColumnSumRows);
           r += kLanesDown)
        p.add_elements(r, c, sum);
    }
    if (p.partial == nullptr) continue;
#pragma unroll
    for (int e = 0; e < kEight; ++e)
#pragma unroll
      for (int down = kLanesDown / 2; down > 0; down /= 2)
        sum[e] += __shfl_xor_sync(kWholeWarp, sum[e], down * kLanesAcross);
    if (lane < kLanesAcross && c < p.cols) store_vector<kEight>(p.partial + b * p.cols + c, sum);
  }
}

/// dx and the partial sums by `kernel`, for tiles of `columns` columns of which a block takes `tiles`; then the sums.
template <class T>
Status backward(const BiasGeluBackward& p, void (*kernel)(std::int64_t, Gradient<T>), std::int64_t columns,
                std::int64_t tiles, Stream stream) {
  using A = Computed<T>;
  const std::int64_t across = ceil_div(p.cols, columns);
  if (p.rows > 0) {
    const unsigned blocks = walking_blocks(across * column_blocks(p.rows), tiles);
    const Status status = launch(kernel, dim3(blocks), dim3(kThreads), 0, stream, across, Gradient<T>(p));
    if (!status.ok()) return status;
  }
  return add_column_blocks(p.rows, p.cols, in<A>(p.workspace), ColumnSums<A>{{out<A>(p.dbias)}}, stream);
}

Status backward_by_column(const BiasGeluBackward& p, Stream stream) {
  return by_floating(
      p.dtype, [&]<class T>(Type<T>) { return backward<T>(p, gradient_by_column<T>, kThreads, 1, stream); });
}

Status takes_eights(const BiasGeluBackward& p) {
  return by_floating(p.dtype, [&]<class T>(Type<T>) {
    if (rows_are_aligned<kEight>(in<T>(p.dy), p.cols) && rows_are_aligned<kEight>(in<T>(p.x), p.cols) &&
        rows_are_aligned<kEight>(in<T>(p.dx), p.cols) && rows_are_aligned<kEight>(in<Computed<T>>(p.bias), p.cols))
      return Status{};
    return unsupported("vectors are aligned multiples of 8 columns");
  });
}

Status backward_by_warp(const BiasGeluBackward& p, Stream stream) {
  if (const Status takes = takes_eights(p); !takes.ok()) return takes;
  return by_floating(
      p.dtype, [&]<class T>(Type<T>) { return backward<T>(p, gradient_by_warp<T>, kTileColumns, kWarps, stream); });
}

int select_backward(const BiasGeluBackward& p) { return takes_eights(p).ok() ? 1 : 0; }

std::size_t backward_workspace(const BiasGeluBackward& p) {
  return p.dbias == nullptr ? 0 : column_sum_bytes(p.dtype, 1, p.rows, p.cols);
}

constexpr Variant forward_variants[] = {
    {"by_element", "a thread for each element", "not yet measured", erased_run<BiasGelu, forward<1>>},
    {"by_eights", "8 elements a thread in accesses of 16 bytes", "not yet measured",
     erased_run<BiasGelu, forward_of_eights>}};
constexpr Variant backward_variants[] = {
    {"by_column", "a thread walks down a column of 64 rows with its sum", "not yet measured",
     erased_run<BiasGeluBackward, backward_by_column>},
    {"by_warp", "8 columns a thread in accesses of 16 bytes; 8 lanes of a warp share a column's rows",
     "not yet measured", erased_run<BiasGeluBackward, backward_by_warp>}};

constexpr KernelEntry entries[] = {
    entry<BiasGelu, check_floating<BiasGelu>, no_workspace<BiasGelu>, select_forward>(forward_variants),
    entry<BiasGeluBackward, check_floating<BiasGeluBackward>, backward_workspace, select_backward>(backward_variants),
};

}  // namespace

extern const Family bias_gelu_family;
const Family bias_gelu_family = family(entries);

}  // namespace sinter::kernels::cuda
