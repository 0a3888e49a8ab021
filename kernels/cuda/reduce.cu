#include "kernels/reduce.h"

#include <algorithm>
#include <limits>

#include "kernels/base/by_dtype.cuh"
#include "kernels/base/collective.cuh"
#include "kernels/base/families.h"
#include "kernels/base/grid.cuh"
#include "kernels/base/vec.cuh"
#include "kernels/base/walk.cuh"

namespace sinter::kernels::cuda {
namespace {

constexpr int kThreads = 256;
constexpr int kWarps = kThreads / kWarp;
/// Of a block that reduces one output.
constexpr int kOutputThreads = 128;
/// Inputs of one output that a warp reduces at most; longer rows are cut, so that a few long ones fill the device.
constexpr std::int64_t kRowChunk = 4096;
/// The same for the columns of a tile.
constexpr std::int64_t kColumnChunk = 256;
/// Below so many neighbouring outputs a tile of columns is mostly empty.
constexpr std::int64_t kFewColumns = 8;

// --- Values ---

/// What inputs of type T are reduced in; booleans, which are stored as bytes, are counted.
template <class T>
struct Reduced {
  using type = Computed<T>;
};
template <> struct Reduced<std::int64_t> { using type = std::int64_t; };
template <> struct Reduced<std::int32_t> { using type = std::int32_t; };
template <> struct Reduced<std::uint8_t> { using type = std::int64_t; };
template <class T>
using Accumulator = typename Reduced<T>::type;

/// What outputs are stored as.
template <class T>
using Result = std::conditional_t<std::is_same_v<T, std::uint8_t>, std::int64_t, T>;

template <class T>
__device__ __forceinline__ Accumulator<T> accumulator_of(T x) {
  if constexpr (std::is_integral_v<T>)
    return static_cast<Accumulator<T>>(x);
  else
    return widen(x);
}
template <class Out, class A>
__device__ __forceinline__ Out result_of(A x) {
  if constexpr (std::is_integral_v<Out>)
    return x;
  else
    return narrow<Out>(x);
}

/// As Max of collective.cuh.
struct Min {
  template <class A>
  static __device__ __forceinline__ A of(A a, A b) {
    return b < a || b != b ? b : a;
  }
  template <class A>
  static __device__ __forceinline__ A identity() {
    if constexpr (std::is_integral_v<A>)
      return std::numeric_limits<A>::max();
    else
      return static_cast<A>(INFINITY);
  }
};

// --- How a call is cut ---

/// The kept and the reduced dimensions of a call, each merged on its own.
struct Split {
  LoopNest<1> kept, reduced;

  explicit Split(const Reduce& p) {
    for (int d = 0; d < p.extents.rank; ++d)
      ((p.reduced >> d & 1u) != 0 ? reduced : kept).append(p.extents.size[d], {p.in_strides.step[d]});
    kept.finish();
    reduced.finish();
  }
  std::int64_t outputs() const { return kept.count(); }
  std::int64_t inputs() const { return reduced.count(); }
  bool has_rows() const { return reduced.rank == 1 && reduced.inner_step(0) == 1 && inputs() > 0; }
  bool has_columns() const { return kept.inner_step(0) == 1 && inputs() > 0; }
  std::int64_t row_chunks() const { return ceil_div(inputs(), kRowChunk); }
  std::int64_t column_chunks() const { return ceil_div(inputs(), kColumnChunk); }
};

// --- A block for each output ---

template <class T, class Op, class Out>
__global__ void __launch_bounds__(kOutputThreads, 1)
    reduce_by_block(Walk<1, std::int64_t> kept, Walk<1, std::int64_t> reduced, const T* in, Out* out) {
  using A = Accumulator<T>;
  SINTER_SHARED(A, parts, [kOutputThreads / kWarp]);
  for (std::int64_t o = blockIdx.x; o < kept.count; o += gridDim.x) {
    std::int64_t from[1], at[1];
    kept.offsets(o, from);
    A x = Op::template identity<A>();
    for (std::int64_t i = threadIdx.x; i < reduced.count; i += kOutputThreads) {
      reduced.offsets(i, at);
      x = Op::of(x, accumulator_of(in[from[0] + at[0]]));
    }
    x = block_all<Op, kOutputThreads>(x, parts);
    if (threadIdx.x == 0) out[o] = result_of<Out>(x);
    __syncthreads();
  }
}

template <class T, class Op, class Out>
Status launch_by_block(const LoopNest<1>& kept, const LoopNest<1>& reduced, const T* in, Out* out, Stream stream) {
  return launch(reduce_by_block<T, Op, Out>, dim3(walking_blocks(kept.count(), 1)), dim3(kOutputThreads), 0, stream,
                Walk<1, std::int64_t>(kept), Walk<1, std::int64_t>(reduced), in, out);
}

template <class T, class Op>
Status run_by_block(const Reduce& p, const Split& s, Stream stream) {
  return launch_by_block<T, Op>(s.kept, s.reduced, static_cast<const T*>(p.in), static_cast<Result<T>*>(p.out),
                                stream);
}

/// The results of chunks, `chunk_step` elements apart for the same output, `output_step` for the same chunk, made one.
template <class T, class Op>
Status join_chunks(const Reduce& p, std::int64_t outputs, std::int64_t output_step, std::int64_t chunks,
                   std::int64_t chunk_step, Stream stream) {
  using A = Accumulator<T>;
  LoopNest<1> kept, reduced;
  kept.append(outputs, {output_step});
  kept.finish();
  reduced.append(chunks, {chunk_step});
  reduced.finish();
  return launch_by_block<A, Op>(kept, reduced, static_cast<const A*>(p.workspace), static_cast<Result<T>*>(p.out),
                                stream);
}

// --- A warp for each row ---

/// Output o's chunk c goes to out[o * chunks + c]. Lane l takes the vectors l, l + 32, ... of a chunk, whether they are
/// read as vectors (`aligned`) or one element after the other: the same bits.
template <class T, class Op, bool aligned, class Out>
__global__ void __launch_bounds__(kThreads, 1)
    reduce_rows(Walk<1, std::int64_t> kept, std::int64_t cols, std::int64_t chunks, const T* in, Out* out) {
  using A = Accumulator<T>;
  constexpr int width = kVector<T>;
  const std::int64_t lane = threadIdx.x % kWarp, warp = threadIdx.x / kWarp;
  for (std::int64_t piece = std::int64_t{blockIdx.x} * kWarps + warp; piece < kept.count * chunks;
       piece += std::int64_t{gridDim.x} * kWarps) {
    std::int64_t from[1];
    kept.offsets(piece / chunks, from);
    const T* const row = in + from[0];
    const std::int64_t begin = piece % chunks * kRowChunk, end = begin + kRowChunk < cols ? begin + kRowChunk : cols;
    A x[width];
#pragma unroll
    for (int k = 0; k < width; ++k) x[k] = Op::template identity<A>();
    for (std::int64_t c = begin + lane * width; c < end; c += kWarp * width) {
      if (aligned && c + width <= end) {
        const Pack<T, width> pack = *reinterpret_cast<const Pack<T, width>*>(row + c);
#pragma unroll
        for (int k = 0; k < width; ++k) x[k] = Op::of(x[k], accumulator_of(pack.element[k]));
      } else {
#pragma unroll
        for (int k = 0; k < width; ++k)
          if (c + k < end) x[k] = Op::of(x[k], accumulator_of(row[c + k]));
      }
    }
#pragma unroll
    for (int k = 1; k < width; ++k) x[0] = Op::of(x[0], x[k]);
    x[0] = warp_all<Op>(x[0]);
    if (lane == 0) out[piece] = result_of<Out>(x[0]);
  }
}

/// True when every row begins at a vector.
template <class T>
bool rows_begin_aligned(const LoopNest<1>& kept, const void* in) {
  bool aligned = reinterpret_cast<std::uintptr_t>(in) % 16 == 0;
  for (int d = 0; d < kept.rank; ++d)
    aligned = aligned && (kept.size[d] == 1 || kept.step[0][d] % kVector<T> == 0);
  return aligned;
}

template <class T, class Op, class Out>
Status launch_rows(const Split& s, const T* in, Out* out, Stream stream) {
  const auto kernel =
      rows_begin_aligned<T>(s.kept, in) ? reduce_rows<T, Op, true, Out> : reduce_rows<T, Op, false, Out>;
  return launch(kernel, dim3(walking_blocks(s.outputs() * s.row_chunks(), kWarps)), dim3(kThreads), 0, stream,
                Walk<1, std::int64_t>(s.kept), s.inputs(), s.row_chunks(), in, out);
}

template <class T, class Op>
Status run_rows(const Reduce& p, const Split& s, Stream stream) {
  if (!s.has_rows()) return unsupported("the reduced elements of an output must lie side by side");
  const auto in = static_cast<const T*>(p.in);
  if (s.row_chunks() == 1) return launch_rows<T, Op>(s, in, static_cast<Result<T>*>(p.out), stream);
  const Status status = launch_rows<T, Op>(s, in, static_cast<Accumulator<T>*>(p.workspace), stream);
  return status.ok() ? join_chunks<T, Op>(p, s.outputs(), s.row_chunks(), s.row_chunks(), 1, stream) : status;
}

// --- 32 neighbouring columns for each block ---

/// Output o's chunk c goes to out[c * outputs + o]; `cols` outputs lie side by side. Warp w takes every 8th input of a
/// chunk from the w-th on; the warps' results are then joined in order.
template <class T, class Op, class Out>
__global__ void __launch_bounds__(kThreads, 1)
    reduce_columns(Walk<1, std::int64_t> kept, Walk<1, std::int64_t> reduced, std::int64_t cols, std::int64_t chunks,
                   const T* in, Out* out) {
  using A = Accumulator<T>;
  SINTER_SHARED(A, parts, [kWarps][kWarp]);
  const int lane = static_cast<int>(threadIdx.x) % kWarp, warp = static_cast<int>(threadIdx.x) / kWarp;
  const std::int64_t tiles = ceil_div(cols, kWarp), pieces = kept.count / cols * tiles * chunks;
  for (std::int64_t piece = blockIdx.x; piece < pieces; piece += gridDim.x) {
    const std::int64_t chunk = piece / tiles % chunks, col = piece % tiles * kWarp + lane;
    const std::int64_t o = piece / tiles / chunks * cols + col;
    const std::int64_t begin = chunk * kColumnChunk;
    const std::int64_t end = begin + kColumnChunk < reduced.count ? begin + kColumnChunk : reduced.count;
    A x = Op::template identity<A>();
    if (col < cols) {
      std::int64_t from[1], at[1];
      kept.offsets(o, from);
      for (std::int64_t i = begin + warp; i < end; i += kWarps) {
        reduced.offsets(i, at);
        x = Op::of(x, accumulator_of(in[from[0] + at[0]]));
      }
    }
    parts[warp][lane] = x;
    __syncthreads();
    if (warp == 0 && col < cols) {
#pragma unroll
      for (int w = 1; w < kWarps; ++w) x = Op::of(x, parts[w][lane]);
      out[chunk * kept.count + o] = result_of<Out>(x);
    }
    __syncthreads();
  }
}

template <class T, class Op, class Out>
Status launch_columns(const Split& s, const T* in, Out* out, Stream stream) {
  const std::int64_t cols = s.kept.size[s.kept.rank - 1];
  const std::int64_t pieces = s.outputs() / cols * ceil_div(cols, kWarp) * s.column_chunks();
  return launch(reduce_columns<T, Op, Out>, dim3(walking_blocks(pieces, 1)), dim3(kThreads), 0, stream,
                Walk<1, std::int64_t>(s.kept), Walk<1, std::int64_t>(s.reduced), cols, s.column_chunks(), in, out);
}

template <class T, class Op>
Status run_columns(const Reduce& p, const Split& s, Stream stream) {
  if (!s.has_columns()) return unsupported("the outputs must stem from elements that lie side by side");
  const auto in = static_cast<const T*>(p.in);
  if (s.column_chunks() == 1) return launch_columns<T, Op>(s, in, static_cast<Result<T>*>(p.out), stream);
  const Status status = launch_columns<T, Op>(s, in, static_cast<Accumulator<T>*>(p.workspace), stream);
  return status.ok() ? join_chunks<T, Op>(p, s.outputs(), 1, s.column_chunks(), s.outputs(), stream) : status;
}

// --- Reduce ---

enum VariantIndex : int { by_block, rows, columns };

template <VariantIndex variant, class T, class Op>
Status run_as(const Reduce& p, const Split& s, Stream stream) {
  if constexpr (variant == rows)
    return run_rows<T, Op>(p, s, stream);
  else if constexpr (variant == columns)
    return run_columns<T, Op>(p, s, stream);
  else
    return run_by_block<T, Op>(p, s, stream);
}

/// fn(Type<T>{}) for the types that can be reduced: booleans as bytes.
template <class Fn>
Status by_reduced_type(Dtype dtype, Fn&& fn) {
  switch (dtype) {
    case Dtype::i64: return fn(Type<std::int64_t>{});
    case Dtype::i32: return fn(Type<std::int32_t>{});
    case Dtype::boolean: return fn(Type<std::uint8_t>{});
    default: return by_floating(dtype, fn);
  }
}

template <VariantIndex variant>
Status run_reduce(const Reduce& p, Stream stream) {
  const Split s(p);
  if (s.outputs() == 0) return {};
  return by_reduced_type(p.dtype, [&]<class T>(Type<T>) {
    if constexpr (!std::is_same_v<T, std::uint8_t>) {
      if (p.op == ReduceOp::max) return run_as<variant, T, Max>(p, s, stream);
      if (p.op == ReduceOp::min) return run_as<variant, T, Min>(p, s, stream);
    }
    return run_as<variant, T, Add>(p, s, stream);
  });
}

int select_reduce(const Reduce& p) {
  const Split s(p);
  if (s.has_rows()) return rows;
  return s.has_columns() && s.kept.size[s.kept.rank - 1] >= kFewColumns ? columns : by_block;
}

/// The results of chunks, for the variant that cuts the inputs into more of them.
std::size_t workspace_of(const Reduce& p) {
  const Split s(p);
  std::int64_t chunks = 1;
  if (s.has_rows()) chunks = s.row_chunks();
  if (s.has_columns()) chunks = std::max(chunks, s.column_chunks());
  const bool wide = p.dtype == Dtype::f64 || p.dtype == Dtype::i64 || p.dtype == Dtype::boolean;
  return chunks == 1 ? 0 : static_cast<std::size_t>(s.outputs() * chunks * (wide ? 8 : 4));
}

constexpr bool is_number(Dtype dtype) { return dtype != Dtype::boolean && dtype != Dtype::u8; }

Status supports_reduce(const Reduce& p) {
  if (!is_number(p.dtype) && !(p.dtype == Dtype::boolean && p.op == ReduceOp::sum))
    return unsupported("this reduction has no such dtype");
  return check(p);
}

// --- ArgReduce ---

/// The best element so far and its place.
template <class A>
struct Best {
  A value;
  std::int64_t place;
};

/// A total order: NaN, then the larger value, then the smaller place.
template <class A>
__device__ __forceinline__ bool wins(const Best<A>& x, const Best<A>& y) {
  const bool x_nan = x.value != x.value, y_nan = y.value != y.value;
  if (x_nan != y_nan) return x_nan;
  if (!x_nan && x.value != y.value) return x.value > y.value;
  return x.place < y.place;
}

template <class T>
__device__ __forceinline__ Best<Accumulator<T>> candidate(const T* column, std::int64_t place, std::int64_t inner) {
  return {accumulator_of(column[place * inner]), place};
}

template <class T>
__global__ void __launch_bounds__(kThreads, 1)
    argmax_by_thread(std::int64_t outputs, std::int64_t n, std::int64_t inner, const T* in, std::int64_t* out) {
  for (std::int64_t o = std::int64_t{blockIdx.x} * kThreads + threadIdx.x; o < outputs;
       o += std::int64_t{gridDim.x} * kThreads) {
    const T* const column = in + o / inner * n * inner + o % inner;
    Best<Accumulator<T>> best = candidate(column, 0, inner);
    for (std::int64_t j = 1; j < n; ++j) {
      const Best<Accumulator<T>> x = candidate(column, j, inner);
      if (wins(x, best)) best = x;
    }
    out[o] = best.place;
  }
}

/// Lanes without an element of their own repeat the first one, which changes nothing.
template <class T>
__global__ void __launch_bounds__(kThreads, 1)
    argmax_by_warp(std::int64_t outputs, std::int64_t n, std::int64_t inner, const T* in, std::int64_t* out) {
  const std::int64_t lane = threadIdx.x % kWarp, warp = threadIdx.x / kWarp;
  for (std::int64_t o = std::int64_t{blockIdx.x} * kWarps + warp; o < outputs; o += std::int64_t{gridDim.x} * kWarps) {
    const T* const column = in + o / inner * n * inner + o % inner;
    Best<Accumulator<T>> best = candidate(column, lane < n ? lane : 0, inner);
    for (std::int64_t j = lane + kWarp; j < n; j += kWarp) {
      const Best<Accumulator<T>> x = candidate(column, j, inner);
      if (wins(x, best)) best = x;
    }
#pragma unroll
    for (int step = kWarp / 2; step > 0; step /= 2) {
      const Best<Accumulator<T>> x = {__shfl_xor_sync(kWholeWarp, best.value, step),
                                      __shfl_xor_sync(kWholeWarp, best.place, step)};
      if (wins(x, best)) best = x;
    }
    if (lane == 0) out[o] = best.place;
  }
}

enum ArgVariantIndex : int { by_thread, by_warp };

template <ArgVariantIndex variant>
Status run_arg_reduce(const ArgReduce& p, Stream stream) {
  const std::int64_t outputs = p.outer * p.inner;
  if (outputs == 0) return {};
  return by_reduced_type(p.dtype, [&]<class T>(Type<T>) {
    constexpr int outputs_per_block = variant == by_thread ? kThreads : kWarps;
    const auto kernel = variant == by_thread ? argmax_by_thread<T> : argmax_by_warp<T>;
    return launch(kernel, dim3(walking_blocks(outputs, outputs_per_block)), dim3(kThreads), 0, stream, outputs, p.n,
                  p.inner, static_cast<const T*>(p.in), p.out);
  });
}

/// Threads of a warp read side by side: along the row, or across columns.
int select_arg_reduce(const ArgReduce& p) { return p.inner >= kFewColumns ? by_thread : by_warp; }

Status supports_arg_reduce(const ArgReduce& p) {
  if (!is_number(p.dtype)) return unsupported("argmax has no such dtype");
  return check(p);
}

constexpr Variant reduce_variants[] = {
    {"by_block", "a block for each output, any strides", "not yet measured", erased_run<Reduce, run_reduce<by_block>>},
    {"rows", "a warp for each row or 4096 elements of it, 16 bytes a lane", "not yet measured",
     erased_run<Reduce, run_reduce<rows>>},
    {"columns", "a block for 32 neighbouring columns of 256 inputs", "not yet measured",
     erased_run<Reduce, run_reduce<columns>>},
};
constexpr Variant arg_reduce_variants[] = {
    {"by_thread", "a thread for each output", "not yet measured", erased_run<ArgReduce, run_arg_reduce<by_thread>>},
    {"by_warp", "a warp for each output", "not yet measured", erased_run<ArgReduce, run_arg_reduce<by_warp>>},
};
constexpr KernelEntry entries[] = {
    entry<Reduce, supports_reduce, workspace_of, select_reduce>(reduce_variants),
    entry<ArgReduce, supports_arg_reduce, no_workspace<ArgReduce>, select_arg_reduce>(arg_reduce_variants),
};

}  // namespace

extern const Family reduce_family;
const Family reduce_family = family(entries);

}  // namespace sinter::kernels::cuda
