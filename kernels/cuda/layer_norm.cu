#include "kernels/layer_norm.h"

#include "kernels/base/by_dtype.cuh"
#include "kernels/base/column_sum.cuh"
#include "kernels/base/dropout_rows.cuh"
#include "kernels/base/families.h"
#include "kernels/base/grid.cuh"
#include "kernels/base/layer_norm_rows.cuh"
#include "kernels/base/vec.cuh"

namespace sinter::kernels::cuda {
namespace {

constexpr int kThreads = 256;
/// Rows of a block of the kernels that give each row a warp.
constexpr int kRowsOfWarps = 4;

using ResidualForward = BiasDropoutResidualLayerNorm;
using ResidualBackward = BiasDropoutResidualLayerNormBackward;

template <class T>
const T* in(const void* p) {
  return static_cast<const T*>(p);
}
template <class T>
T* out(void* p) {
  return static_cast<T*>(p);
}

// --- Forward ---

/// What a row's normalisation reads and writes beside the row itself.
template <class T>
struct Normalisation {
  using A = Computed<T>;

  std::int64_t rows, cols;
  A eps;
  const A* gamma;
  const A* beta;
  T* y;
  A* mean;
  A* rstd;

  template <class P>
  explicit Normalisation(const P& p)
      : rows(p.rows), cols(p.cols), eps(static_cast<A>(p.eps)), gamma(in<A>(p.gamma)), beta(in<A>(p.beta)),
        y(out<T>(p.y)), mean(out<A>(p.mean)), rstd(out<A>(p.rstd)) {}

  __device__ __forceinline__ void store_statistics(std::int64_t r, const RowStatistics<A>& row) const {
    if (mean != nullptr) mean[r] = row.mean;
    if (rstd != nullptr) rstd[r] = row.rstd;
  }
  bool rows_are_of_eights() const {
    return rows_of_eights(y, cols) && rows_of_eights(gamma, cols) && rows_of_eights(beta, cols);
  }
};

/// The input of LayerNorm.
template <class T>
struct PlainRows {
  using A = Computed<T>;
  struct Row {};

  std::int64_t cols;
  const T* x;

  explicit PlainRows(const LayerNorm& p) : cols(p.cols), x(in<T>(p.x)) {}

  __device__ __forceinline__ Row row(std::int64_t) const { return {}; }
  /// The N elements of row r from column c.
  template <int N>
  __device__ __forceinline__ void make(const Row&, std::int64_t r, std::int64_t c, A (&z)[N]) const {
    load_vector<N>(x + r * cols + c, z);
  }
  /// For a thread that will ask for these elements by `again`.
  __device__ __forceinline__ void prepare(const Row&, std::int64_t, std::int64_t) const {}
  __device__ __forceinline__ A again(std::int64_t r, std::int64_t c) const { return load(x + r * cols + c); }

  bool are_of_eights() const { return rows_of_eights(x, cols); }
};

/// z = dropout(x + bias) + residual, rounded to T before it is normalised, as the backward will read it.
template <class T>
struct ResidualRows {
  using A = Computed<T>;
  using Row = DropoutRow;

  std::int64_t cols;
  DropoutRows<A> dropout;
  const T* x;
  const A* bias;
  const T* residual;
  T* z;
  T* scratch;   ///< where `again` finds z: y when nobody asked for z

  explicit ResidualRows(const ResidualForward& p)
      : cols(p.cols), dropout(p.dropout, p.map, p.cols), x(in<T>(p.x)), bias(in<A>(p.bias)),
        residual(in<T>(p.residual)), z(out<T>(p.z)), scratch(out<T>(p.z == nullptr ? p.y : p.z)) {}

  __device__ __forceinline__ Row row(std::int64_t r) const { return dropout.row(r); }
  template <int N>
  __device__ __forceinline__ void compute(const Row& row, std::int64_t r, std::int64_t c, A (&sum)[N]) const {
    A added[N];
    load_vector<N>(x + r * cols + c, sum);
    if (bias != nullptr) {
      load_vector<N>(bias + c, added);
#pragma unroll
      for (int i = 0; i < N; ++i) sum[i] += added[i];
    }
    dropout.drop(row, c, sum);
    load_vector<N>(residual + r * cols + c, added);
#pragma unroll
    for (int i = 0; i < N; ++i) sum[i] = rounded<T>(sum[i] + added[i]);
  }
  template <int N>
  __device__ __forceinline__ void make(const Row& row, std::int64_t r, std::int64_t c, A (&sum)[N]) const {
    compute(row, r, c, sum);
    if (z != nullptr) store_vector<N>(z + r * cols + c, sum);
  }
  __device__ __forceinline__ void prepare(const Row& row, std::int64_t r, std::int64_t c) const {
    A sum[1];
    compute(row, r, c, sum);
    store(scratch + r * cols + c, sum[0]);
  }
  __device__ __forceinline__ A again(std::int64_t r, std::int64_t c) const { return load(scratch + r * cols + c); }

  bool are_of_eights() const {
    return rows_of_eights(x, cols) && rows_of_eights(bias, cols) && rows_of_eights(residual, cols) &&
           rows_of_eights(z, cols);
  }
};

template <class T, class Rows>
__global__ void __launch_bounds__(kThreads, 1) normalise_by_block(Normalisation<T> p, Rows rows) {
  using A = Computed<T>;
  for (std::int64_t r = blockIdx.x; r < p.rows; r += gridDim.x) {
    const auto made = rows.row(r);
    for (std::int64_t c = threadIdx.x; c < p.cols; c += kThreads) rows.prepare(made, r, c);
    const RowStatistics<A> statistics =
        block_row_statistics<kThreads>(p.cols, p.eps, [&](std::int64_t c) { return rows.again(r, c); });
    for (std::int64_t c = threadIdx.x; c < p.cols; c += kThreads) {
      A y[1] = {rows.again(r, c)};
      normalise(y, statistics, p.gamma, p.beta, c);
      store(p.y + r * p.cols + c, y[0]);
    }
    if (threadIdx.x == 0) p.store_statistics(r, statistics);
  }
}

template <class T, class Rows, int eights>
__global__ void __launch_bounds__(kRowsOfWarps * kWarp, 1) normalise_by_warp(Normalisation<T> p, Rows rows) {
  using A = Computed<T>;
  const std::int64_t step = static_cast<std::int64_t>(gridDim.x) * kRowsOfWarps;
  for (std::int64_t r = blockIdx.x * std::int64_t{kRowsOfWarps} + threadIdx.x / kWarp; r < p.rows; r += step) {
    const auto made = rows.row(r);
    A z[eights][kEight];
    for_eights<eights>(p.cols, [&](int k, int c) { rows.make(made, r, c, z[k]); });
    const RowStatistics<A> statistics = warp_row_statistics(z, p.cols, p.eps);
    for_eights<eights>(p.cols, [&](int k, int c) {
      normalise(z[k], statistics, p.gamma, p.beta, c);
      store_vector<kEight>(p.y + r * p.cols + c, z[k]);
    });
    if (threadIdx.x % kWarp == 0) p.store_statistics(r, statistics);
  }
}

template <template <class> class Rows, class P>
Status forward_by_block(const P& p, Stream stream) {
  if (p.rows == 0) return {};
  return by_floating(p.dtype, [&]<class T>(Type<T>) {
    return launch(normalise_by_block<T, Rows<T>>, dim3(walking_blocks(p.rows, 1)), dim3(kThreads), 0, stream,
                  Normalisation<T>(p), Rows<T>(p));
  });
}

template <template <class> class Rows, class P>
Status takes_warps(const P& p) {
  return by_floating(p.dtype, [&]<class T>(Type<T>) {
    if (Normalisation<T>(p).rows_are_of_eights() && Rows<T>(p).are_of_eights()) return Status{};
    return unsupported("a warp's rows are aligned multiples of 8 columns, at most 1024");
  });
}

template <template <class> class Rows, class P>
Status forward_by_warp(const P& p, Stream stream) {
  if (const Status takes = takes_warps<Rows>(p); !takes.ok() || p.rows == 0) return takes;
  return by_floating(p.dtype, [&]<class T>(Type<T>) {
    return by_eights(p.cols, [&]<int eights>(Count<eights>) {
      return launch(normalise_by_warp<T, Rows<T>, eights>, dim3(walking_blocks(p.rows, kRowsOfWarps)),
                    dim3(kRowsOfWarps * kWarp), 0, stream, Normalisation<T>(p), Rows<T>(p));
    });
  });
}

template <template <class> class Rows, class P>
int select_forward(const P& p) {
  return takes_warps<Rows>(p).ok() ? 1 : 0;
}

// --- Backward ---

/// LayerNorm's: dy as it is, dx as it comes.
template <class T>
struct PlainGradient {
  static constexpr int sums = 2;
  using A = Computed<T>;

  std::int64_t cols;
  const T* dy;
  T* dx;

  explicit PlainGradient(const LayerNormBackward& p) : cols(p.cols), dy(in<T>(p.dy)), dx(out<T>(p.dx)) {}

  template <int N>
  __device__ __forceinline__ void load_dy(std::int64_t r, std::int64_t c, A (&gradient)[N]) const {
    load_vector<N>(dy + r * cols + c, gradient);
  }
  template <int N>
  __device__ __forceinline__ void store_dz(std::int64_t r, std::int64_t c, const A (&dz)[N], A (&)[N]) const {
    if (dx != nullptr) store_vector<N>(dx + r * cols + c, dz);
  }

  bool are_of_eights() const { return rows_of_eights(dy, cols) && rows_of_eights(dx, cols); }
};

/// The residual's: dresidual = dz, dx = dropout'(dz), whose sums are dbias.
template <class T>
struct ResidualGradient {
  static constexpr int sums = 3;
  using A = Computed<T>;

  std::int64_t cols;
  DropoutRows<A> dropout;
  const T* dy;
  T* dx;   ///< null: nobody asked, or it is dresidual
  T* dresidual;

  explicit ResidualGradient(const ResidualBackward& p)
      : cols(p.cols), dropout(p.dropout, p.map, p.cols), dy(in<T>(p.dy)),
        dx(p.dx == p.dresidual ? nullptr : out<T>(p.dx)), dresidual(out<T>(p.dresidual)) {}

  template <int N>
  __device__ __forceinline__ void load_dy(std::int64_t r, std::int64_t c, A (&gradient)[N]) const {
    load_vector<N>(dy + r * cols + c, gradient);
  }
  template <int N>
  __device__ __forceinline__ void store_dz(std::int64_t r, std::int64_t c, const A (&dz)[N], A (&term)[N]) const {
    store_vector<N>(dresidual + r * cols + c, dz);
#pragma unroll
    for (int i = 0; i < N; ++i) term[i] = dz[i];
    dropout.drop(dropout.row(r), c, term);
    if (dx != nullptr) store_vector<N>(dx + r * cols + c, term);
  }

  bool are_of_eights() const {
    return rows_of_eights(dy, cols) && rows_of_eights(dx, cols) && rows_of_eights(dresidual, cols);
  }
};

template <class T>
LayerNormGradient<T> gradient_of(const LayerNormBackward& p) {
  using A = Computed<T>;
  return {p.rows, p.cols, in<T>(p.x), in<A>(p.mean), in<A>(p.rstd), in<A>(p.gamma),
          p.dgamma == nullptr ? nullptr : out<A>(p.workspace)};
}
template <class T>
LayerNormGradient<T> gradient_of(const ResidualBackward& p) {
  using A = Computed<T>;
  return {p.rows, p.cols, in<T>(p.z), in<A>(p.mean), in<A>(p.rstd), in<A>(p.gamma), out<A>(p.workspace)};
}

template <class A>
ColumnSums<A> sums_of(const LayerNormBackward& p) {
  return {{out<A>(p.dgamma), out<A>(p.dbeta)}};
}
template <class A>
ColumnSums<A> sums_of(const ResidualBackward& p) {
  return {{out<A>(p.dgamma), out<A>(p.dbeta), out<A>(p.dbias)}};
}

template <class T, class Fused>
__global__ void __launch_bounds__(kThreads, 1) gradient_by_block(LayerNormGradient<T> p, Fused fused) {
  for (std::int64_t b = blockIdx.x; b < column_blocks(p.rows); b += gridDim.x)
    backward_block<kThreads, Fused::sums>(p, fused, b);
}

template <class T, class Fused, int warps>
__global__ void __launch_bounds__(RegisterBlock<Computed<T>, warps>::threads, 1)
    gradient_in_registers(LayerNormGradient<T> p, Fused fused) {
  for (std::int64_t b = blockIdx.x; b < column_blocks(p.rows); b += gridDim.x)
    backward_block_in_registers<warps, Fused::sums>(p, fused, b);
}

/// dz and the partial sums by `launch_rows(Type<T>)`, which is not called where there are no rows; then the sums.
template <class P, class Launch>
Status backward(const P& p, Stream stream, Launch&& launch_rows) {
  return by_floating(p.dtype, [&]<class T>(Type<T> type) {
    if (p.rows > 0)
      if (const Status status = launch_rows(type); !status.ok()) return status;
    using A = Computed<T>;
    return add_column_blocks(p.rows, p.cols, in<A>(p.workspace), sums_of<A>(p), stream);
  });
}

template <template <class> class Fused, class P>
Status backward_by_block(const P& p, Stream stream) {
  return backward(p, stream, [&]<class T>(Type<T>) {
    return launch(gradient_by_block<T, Fused<T>>, dim3(walking_blocks(column_blocks(p.rows), 1)), dim3(kThreads), 0,
                  stream, gradient_of<T>(p), Fused<T>(p));
  });
}

template <template <class> class Fused, class P>
Status takes_registers(const P& p) {
  return by_floating(p.dtype, [&]<class T>(Type<T>) {
    const LayerNormGradient<T> gradient = gradient_of<T>(p);
    if (rows_of_eights(gradient.z, p.cols) && rows_of_eights(gradient.gamma, p.cols) && Fused<T>(p).are_of_eights())
      return Status{};
    return unsupported("rows in registers are aligned multiples of 8 columns, at most 1024");
  });
}

template <template <class> class Fused, class P>
Status backward_in_registers(const P& p, Stream stream) {
  if (const Status takes = takes_registers<Fused>(p); !takes.ok()) return takes;
  return backward(p, stream, [&]<class T>(Type<T>) {
    return by_eights(p.cols, [&]<int warps>(Count<warps>) {
      const dim3 block(warps * kWarp, RegisterBlock<Computed<T>, warps>::groups);
      return launch(gradient_in_registers<T, Fused<T>, warps>, dim3(walking_blocks(column_blocks(p.rows), 1)), block, 0,
                    stream, gradient_of<T>(p), Fused<T>(p));
    });
  });
}

template <template <class> class Fused, class P>
int select_backward(const P& p) {
  return takes_registers<Fused>(p).ok() ? 1 : 0;
}

template <class P, int sums>
std::size_t workspace(const P& p) {
  return column_sum_bytes(p.dtype, sums, p.rows, p.cols);
}

constexpr const char* kByWarp = "a warp for each row, which it holds in registers: one read of 16 bytes an access";
constexpr const char* kInRegisters = "the rows of a column block in registers, 8 columns a thread; sums stay there too";

constexpr Variant forward_variants[] = {
    {"by_block", "a block for each row, which it reads three times", "not yet measured",
     erased_run<LayerNorm, forward_by_block<PlainRows, LayerNorm>>},
    {"by_warp", kByWarp, "not yet measured", erased_run<LayerNorm, forward_by_warp<PlainRows, LayerNorm>>}};
constexpr Variant residual_variants[] = {
    {"by_block", "a block for each row, whose sum it writes and reads three times", "not yet measured",
     erased_run<ResidualForward, forward_by_block<ResidualRows, ResidualForward>>},
    {"by_warp", kByWarp, "not yet measured",
     erased_run<ResidualForward, forward_by_warp<ResidualRows, ResidualForward>>}};
constexpr Variant backward_variants[] = {
    {"by_block", "a block walks the rows of a column block and adds to sums in memory", "not yet measured",
     erased_run<LayerNormBackward, backward_by_block<PlainGradient, LayerNormBackward>>},
    {"in_registers", kInRegisters, "not yet measured",
     erased_run<LayerNormBackward, backward_in_registers<PlainGradient, LayerNormBackward>>}};
constexpr Variant residual_backward_variants[] = {
    {"by_block", "a block walks the rows of a column block and adds to sums in memory", "not yet measured",
     erased_run<ResidualBackward, backward_by_block<ResidualGradient, ResidualBackward>>},
    {"in_registers", kInRegisters, "not yet measured",
     erased_run<ResidualBackward, backward_in_registers<ResidualGradient, ResidualBackward>>}};

constexpr KernelEntry entries[] = {
    entry<LayerNorm, check_floating<LayerNorm>, no_workspace<LayerNorm>, select_forward<PlainRows, LayerNorm>>(
        forward_variants),
    entry<LayerNormBackward, check_floating<LayerNormBackward>, workspace<LayerNormBackward, 2>,
          select_backward<PlainGradient, LayerNormBackward>>(backward_variants),
    entry<ResidualForward, check_floating<ResidualForward>, no_workspace<ResidualForward>,
          select_forward<ResidualRows, ResidualForward>>(residual_variants),
    entry<ResidualBackward, check_floating<ResidualBackward>, workspace<ResidualBackward, 3>,
          select_backward<ResidualGradient, ResidualBackward>>(residual_backward_variants),
};

}  // namespace

extern const Family layer_norm_family;
const Family layer_norm_family = family(entries);

}  // namespace sinter::kernels::cuda
