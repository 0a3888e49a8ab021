#include "kernels/cross_entropy.h"

#include <limits>

#include "kernels/base/by_dtype.cuh"
#include "kernels/base/collective.cuh"
#include "kernels/base/families.h"
#include "kernels/base/grid.cuh"
#include "kernels/base/vec.cuh"

namespace sinter::kernels::cuda {
namespace {

constexpr int kThreads = 256;

/// What both directions know of the rows.
template <class T>
struct Rows {
  std::int64_t rows, classes, ignore_index;
  Computed<T> smoothing;
  const T* x;
  const std::int64_t* labels;

  __device__ __forceinline__ std::int64_t label(std::int64_t r) const {
    const std::int64_t label = labels[r];
    if (label != ignore_index && (label < 0 || label >= classes))
      device_fail("a label lies outside [0, classes) and is not ignore_index");
    return label;
  }
};

template <class T, class P>
Rows<T> rows_of(const P& p) {
  return {p.rows, p.classes, p.ignore_index, static_cast<Computed<T>>(p.label_smoothing), static_cast<const T*>(p.x),
          p.labels};
}

// --- Forward ---

/// Sums over a row: lse = max + log(sum). `below` is the sum of x - max: sums of x itself would lose the digits of rows
/// far from zero.
template <class A>
struct RowSums {
  A max, sum, below;
};

template <class T>
__device__ __forceinline__ void write_row(const Rows<T>& rows, std::int64_t r, const RowSums<Computed<T>>& s,
                                          Computed<T>* loss, Computed<T>* lse) {
  using A = Computed<T>;
  const std::int64_t label = rows.label(r);
  const A log_sum = log(s.sum), e = rows.smoothing;
  A value = 0;
  if (label != rows.ignore_index) {
    // Terms with weight 0 are left out: an infinite logit would make them NaN.
    if (e < A{1}) value += (A{1} - e) * (log_sum - (load(rows.x + r * rows.classes + label) - s.max));
    if (e > A{0}) value += e * (log_sum - s.below / static_cast<A>(rows.classes));
  }
  loss[r] = value;
  lse[r] = s.max + log_sum;
}

/// The result over the `threads` threads that share a row: a warp or the block.
template <class Op, int threads, class A>
__device__ __forceinline__ A all_of_row(A x, A* parts) {
  if constexpr (threads == kWarp)
    return warp_all<Op>(x);
  else
    return block_all<Op, threads>(x, parts);
}

/// `threads` threads read a row twice: for the largest element, and for the sums.
template <class T, int threads>
__global__ void __launch_bounds__(kThreads, 1)
    two_passes(const Rows<T> rows, Computed<T>* loss, Computed<T>* lse) {
  using A = Computed<T>;
  SINTER_SHARED(A, parts, [3][kThreads / kWarp]);
  constexpr int teams = kThreads / threads;
  const int rank = static_cast<int>(threadIdx.x) % threads;
  for (std::int64_t r = std::int64_t{blockIdx.x} * teams + threadIdx.x / threads; r < rows.rows;
       r += std::int64_t{gridDim.x} * teams) {
    const T* row = rows.x + r * rows.classes;
    A largest = Max::identity<A>();
    for (std::int64_t c = rank; c < rows.classes; c += threads) largest = Max::of(largest, load(row + c));
    largest = all_of_row<Max, threads>(largest, parts[0]);
    A sum = 0, below = 0;
    for (std::int64_t c = rank; c < rows.classes; c += threads) {
      const A z = load(row + c) - largest;
      below += z;
      sum += exp(z);
    }
    sum = all_of_row<Add, threads>(sum, parts[1]);
    below = all_of_row<Add, threads>(below, parts[2]);
    if (rank == 0) write_row(rows, r, {largest, sum, below}, loss, lse);
  }
}

/// A block reads a row once: each thread scales its sum of exponentials anew when it meets a larger element.
template <class T, int width>
__global__ void __launch_bounds__(kThreads, 1) one_pass(const Rows<T> rows, Computed<T>* loss, Computed<T>* lse) {
  using A = Computed<T>;
  SINTER_SHARED(A, parts, [2][kThreads / kWarp]);
  constexpr A lowest = -std::numeric_limits<A>::infinity();
  for (std::int64_t r = blockIdx.x; r < rows.rows; r += gridDim.x) {
    const T* row = rows.x + r * rows.classes;
    A largest = lowest, sum = 0;
    for (std::int64_t c = std::int64_t{threadIdx.x} * width; c < rows.classes; c += kThreads * width) {
      A value[width];
      load_vector(row + c, value);
      A here = value[0];
#pragma unroll
      for (int k = 1; k < width; ++k) here = Max::of(here, value[k]);
      const A scale_to = Max::of(largest, here);
      if (scale_to == lowest) continue;   // nothing but -inf so far
      sum *= exp(largest - scale_to);
#pragma unroll
      for (int k = 0; k < width; ++k) sum += exp(value[k] - scale_to);
      largest = scale_to;
    }
    const A row_largest = block_all<Max, kThreads>(largest, parts[0]);
    sum = block_all<Add, kThreads>(sum * exp(largest - row_largest), parts[1]);
    if (threadIdx.x == 0) write_row(rows, r, {row_largest, sum, A{0}}, loss, lse);
  }
}

template <class T>
Status launch_forward(void (*kernel)(Rows<T>, Computed<T>*, Computed<T>*), int rows_per_block, const CrossEntropy& p,
                      Stream stream) {
  return launch(kernel, dim3(walking_blocks(p.rows, rows_per_block)), dim3(kThreads), 0, stream, rows_of<T>(p),
                static_cast<Computed<T>*>(p.loss), static_cast<Computed<T>*>(p.lse));
}

Status forward_by_block(const CrossEntropy& p, Stream stream) {
  if (p.rows == 0) return {};
  return by_floating(p.dtype, [&]<class T>(Type<T>) {
    return launch_forward<T>(two_passes<T, kThreads>, 1, p, stream);
  });
}
Status forward_by_warp(const CrossEntropy& p, Stream stream) {
  if (p.rows == 0) return {};
  return by_floating(p.dtype, [&]<class T>(Type<T>) {
    return launch_forward<T>(two_passes<T, kWarp>, kThreads / kWarp, p, stream);
  });
}
Status forward_online(const CrossEntropy& p, Stream stream) {
  if (p.label_smoothing != 0) return unsupported("label smoothing needs the row's largest element first");
  if (p.rows == 0) return {};
  return by_floating(p.dtype, [&]<class T>(Type<T>) {
    const bool aligned = rows_are_aligned<kVector<T>>(static_cast<const T*>(p.x), p.classes);
    return launch_forward<T>(aligned ? one_pass<T, kVector<T>> : one_pass<T, 1>, 1, p, stream);
  });
}

/// Classes for which a block would have less than two vectors a thread.
constexpr std::int64_t kMostClassesOfWarp = 1024;

int select_forward(const CrossEntropy& p) {
  enum { by_block, by_warp, online };
  if (p.classes <= kMostClassesOfWarp) return by_warp;
  return p.label_smoothing != 0 ? by_block : online;
}

// --- Backward ---

/// The gradient of a row's elements.
template <class T>
class RowGradient {
 public:
  using A = Computed<T>;

  __device__ __forceinline__ RowGradient(const Rows<T>& rows, const A* dloss, const A* lse, std::int64_t r)
      : label_(rows.label(r)), ignored_(label_ == rows.ignore_index), dloss_(dloss[r]), lse_(lse[r]),
        everywhere_(rows.smoothing / static_cast<A>(rows.classes)), at_label_(A{1} - rows.smoothing) {}

  __device__ __forceinline__ A of(std::int64_t c, A x) const {
    const A target = c == label_ ? everywhere_ + at_label_ : everywhere_;
    return ignored_ ? A{0} : dloss_ * (exp(x - lse_) - target);
  }

 private:
  std::int64_t label_;
  bool ignored_;
  A dloss_, lse_, everywhere_, at_label_;
};

/// `width` elements a thread, which may stand in several rows.
template <class T, int width>
__global__ void __launch_bounds__(kThreads, 1)
    backward(const Rows<T> rows, const Computed<T>* dloss, const Computed<T>* lse, T* dx) {
  using A = Computed<T>;
  const std::int64_t total = rows.rows * rows.classes, step = std::int64_t{gridDim.x} * kThreads * width;
  for (std::int64_t k = (std::int64_t{blockIdx.x} * kThreads + threadIdx.x) * width; k < total; k += step) {
    std::int64_t r = k / rows.classes, c = k - r * rows.classes;
    RowGradient<T> gradient(rows, dloss, lse, r);
    const bool whole = k + width <= total;
    A value[width] = {};
    if (whole)
      load_vector(rows.x + k, value);
    else
      for (int w = 0; w < width && k + w < total; ++w) value[w] = load(rows.x + k + w);
#pragma unroll
    for (int w = 0; w < width; ++w) {
      value[w] = gradient.of(c, value[w]);
      if (++c < rows.classes || k + w + 1 >= total || w + 1 == width) continue;
      c = 0;
      gradient = RowGradient<T>(rows, dloss, lse, ++r);
    }
    if (whole)
      store_vector(dx + k, value);
    else
      for (int w = 0; w < width && k + w < total; ++w) store(dx + k + w, value[w]);
  }
}

template <class T, int width>
Status launch_backward(const CrossEntropyBackward& p, Stream stream) {
  if (!rows_are_aligned<width>(static_cast<const T*>(p.x), width) ||
      !rows_are_aligned<width>(static_cast<const T*>(p.dx), width))
    return unsupported("x or dx is not aligned to 16 bytes");
  if (p.rows == 0) return {};
  const unsigned blocks = walking_blocks(p.rows * p.classes, std::int64_t{kThreads} * width);
  return launch(backward<T, width>, dim3(blocks), dim3(kThreads), 0, stream, rows_of<T>(p),
                static_cast<const Computed<T>*>(p.dloss), static_cast<const Computed<T>*>(p.lse),
                static_cast<T*>(p.dx));
}

Status backward_by_element(const CrossEntropyBackward& p, Stream stream) {
  return by_floating(p.dtype, [&]<class T>(Type<T>) { return launch_backward<T, 1>(p, stream); });
}
Status backward_by_vector(const CrossEntropyBackward& p, Stream stream) {
  return by_floating(p.dtype, [&]<class T>(Type<T>) { return launch_backward<T, kVector<T>>(p, stream); });
}
int select_backward(const CrossEntropyBackward& p) {
  const auto aligned = [](const void* buffer) { return reinterpret_cast<std::uintptr_t>(buffer) % 16 == 0; };
  return aligned(p.x) && aligned(p.dx) ? 1 : 0;
}

constexpr Variant forward_variants[] = {
    {"by_block", "a block for each row, which it reads twice",
     "not yet measured; selected for long rows with smoothing", erased_run<CrossEntropy, forward_by_block>},
    {"by_warp", "a warp for each row", "not yet measured; selected for up to 1024 classes",
     erased_run<CrossEntropy, forward_by_warp>},
    {"online", "a block reads a row once, 16 bytes at a time, and scales its sum on the way",
     "not yet measured; selected for long rows", erased_run<CrossEntropy, forward_online>},
};
constexpr Variant backward_variants[] = {
    {"by_element", "a thread for each element", "not yet measured",
     erased_run<CrossEntropyBackward, backward_by_element>},
    {"by_vector", "16 bytes a thread, across the borders of rows", "not yet measured; selected where aligned",
     erased_run<CrossEntropyBackward, backward_by_vector>},
};

constexpr KernelEntry entries[] = {
    entry<CrossEntropy, check_floating<CrossEntropy>, no_workspace<CrossEntropy>, select_forward>(forward_variants),
    entry<CrossEntropyBackward, check_floating<CrossEntropyBackward>, no_workspace<CrossEntropyBackward>,
          select_backward>(backward_variants),
};

}  // namespace

extern const Family cross_entropy_family;
const Family cross_entropy_family = family(entries);

}  // namespace sinter::kernels::cuda
