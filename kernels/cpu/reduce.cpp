#include "kernels/reduce.h"

#include <algorithm>

#include "kernels/base/entry.h"
#include "kernels/base/families.h"
#include "kernels/cpu/reduce_tree.h"
#include "kernels/cpu/strided_loop.h"

namespace sinter::kernels::cpu {
namespace {

/// Outputs that one ColumnReducer takes: its lanes fill half of a first-level cache in f32.
constexpr int kColumns = 128;
/// Partial results of one output that is cut for several threads. They live on the stack of the calling thread.
constexpr std::int64_t kMaxChunks = 128;

/// The kept and the reduced dimensions of a call, each merged on its own.
struct Split {
  LoopNest<1> kept, reduced;
  std::int64_t outputs = 0, inputs = 0;

  explicit Split(const Reduce& p) {
    for (int d = 0; d < p.extents.rank; ++d)
      ((p.reduced >> d & 1u) != 0 ? reduced : kept).append(p.extents.size[d], {p.in_strides.step[d]});
    kept.finish();
    reduced.finish();
    outputs = kept.count();
    inputs = reduced.count();
  }
};

/// Inputs of a chunk: a power of two of blocks, so that a chunk is a whole subtree, and few enough chunks for the
/// stack.
std::int64_t chunk_size(std::int64_t inputs) {
  std::int64_t chunk = kGrain;
  while ((inputs + chunk - 1) / chunk > kMaxChunks) chunk *= 2;
  return chunk;
}
static_assert(kGrain % kReduceBlock == 0 && ((kGrain / kReduceBlock) & (kGrain / kReduceBlock - 1)) == 0);

template <class In, class T, class Op>
T reduce_range(const In* in, const LoopNest<1>& reduced, std::int64_t begin, std::int64_t end) {
  RowReducer<In, T, Op> reducer;
  if (begin < end)
    for_runs(reduced, begin, end, [&](const std::int64_t (&offset)[1], std::int64_t n) {
      reducer.feed(in + offset[0], reduced.inner_step(0), n);
    });
  return reducer.finish();
}

/// One output at a time; long ones are cut into chunks where there are too few outputs for the threads.
template <class In, class T, class Op>
void reduce_rows(const Split& s, const In* in, T* out, Stream stream) {
  if (s.outputs < 16 && s.inputs >= 2 * kGrain) {
    const std::int64_t chunk = chunk_size(s.inputs);
    for (std::int64_t o = 0; o < s.outputs; ++o) {
      T partial[kMaxChunks];
      const In* start = in;
      for_runs(s.kept, o, o + 1, [&](const std::int64_t (&offset)[1], std::int64_t) { start = in + offset[0]; });
      parallel_ranges(stream, s.inputs, chunk, [&](std::int64_t begin, std::int64_t end) {
        partial[begin / chunk] = reduce_range<In, T, Op>(start, s.reduced, begin, end);
      });
      ReduceCounter<T, Op, 1> counter;
      for (std::int64_t c = 0; c * chunk < s.inputs; ++c) counter.push(partial + c);
      counter.finish(out + o);
    }
    return;
  }
  const std::int64_t grain = std::max<std::int64_t>(1, kGrain / std::max<std::int64_t>(1, s.inputs));
  parallel_ranges(stream, s.outputs, grain, [&](std::int64_t begin, std::int64_t end) {
    std::int64_t o = begin;
    for_runs(s.kept, begin, end, [&](const std::int64_t (&offset)[1], std::int64_t n) {
      for (std::int64_t i = 0; i < n; ++i)
        out[o++] = reduce_range<In, T, Op>(in + offset[0] + i * s.kept.inner_step(0), s.reduced, 0, s.inputs);
    });
  });
}

template <class In, class T, class Op, int W>
void reduce_column_range(const LoopNest<1>& reduced, const In* in, std::int64_t width, std::int64_t begin,
                         std::int64_t end, T* result) {
  ColumnReducer<In, T, Op, W> reducer(width);
  if (begin < end)
    for_runs(reduced, begin, end, [&](const std::int64_t (&offset)[1], std::int64_t n) {
      for (std::int64_t i = 0; i < n; ++i) reducer.feed(in + offset[0] + i * reduced.inner_step(0));
    });
  reducer.finish(result);
}

/// Outputs that lie side by side in memory, W at a time; long columns are cut into chunks where outputs are few.
template <class In, class T, class Op, int W>
void reduce_columns(const Split& s, const In* in, T* out, Stream stream) {
  const std::int64_t row = s.kept.size[s.kept.rank - 1], ranges = (row + W - 1) / W;
  const std::int64_t groups = s.outputs / row * ranges;
  const auto start_of = [&](std::int64_t group) {
    const In* start = in;
    const std::int64_t first = group / ranges * row + group % ranges * W;
    for_runs(s.kept, first, first + 1, [&](const std::int64_t (&offset)[1], std::int64_t) { start = in + offset[0]; });
    return start;
  };
  const auto store = [&](std::int64_t group, const T* result) {
    const std::int64_t column = group % ranges * W;
    std::copy(result, result + std::min<std::int64_t>(W, row - column), out + group / ranges * row + column);
  };
  const auto width_of = [&](std::int64_t group) { return std::min<std::int64_t>(W, row - group % ranges * W); };

  if (groups < 4 && s.inputs * W >= 2 * kGrain) {
    constexpr std::int64_t kChunks = 16;
    std::int64_t chunk = kReduceBlock;
    while ((s.inputs + chunk - 1) / chunk > kChunks) chunk *= 2;
    for (std::int64_t g = 0; g < groups; ++g) {
      T partial[kChunks][W];
      const In* start = start_of(g);
      parallel_ranges(stream, s.inputs, chunk, [&](std::int64_t begin, std::int64_t end) {
        reduce_column_range<In, T, Op, W>(s.reduced, start, width_of(g), begin, end, partial[begin / chunk]);
      });
      ReduceCounter<T, Op, W> counter;
      for (std::int64_t c = 0; c * chunk < s.inputs; ++c) counter.push(partial[c]);
      T result[W];
      counter.finish(result);
      store(g, result);
    }
    return;
  }
  const std::int64_t grain = std::max<std::int64_t>(1, kGrain / std::max<std::int64_t>(1, s.inputs * W));
  parallel_ranges(stream, groups, grain, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t g = begin; g < end; ++g) {
      T result[W];
      reduce_column_range<In, T, Op, W>(s.reduced, start_of(g), width_of(g), 0, s.inputs, result);
      store(g, result);
    }
  });
}

template <class In, class T, class Op>
void reduce(const Reduce& p, Stream stream) {
  const Split s(p);
  if (s.outputs == 0) return;
  const In* in = static_cast<const In*>(p.in);
  T* out = static_cast<T*>(p.out);
  const std::int64_t row = s.kept.size[s.kept.rank - 1];
  const bool side_by_side = s.kept.inner_step(0) == 1 && row >= 8 && s.reduced.inner_step(0) != 1;
  if (!side_by_side)
    reduce_rows<In, T, Op>(s, in, out, stream);
  else if (row >= 64)
    reduce_columns<In, T, Op, kColumns>(s, in, out, stream);
  else
    reduce_columns<In, T, Op, 16>(s, in, out, stream);
}

template <class T>
void reduce_number(const Reduce& p, Stream stream) {
  switch (p.op) {
    case ReduceOp::max: return reduce<T, T, Max>(p, stream);
    case ReduceOp::min: return reduce<T, T, Min>(p, stream);
    default: return reduce<T, T, Sum>(p, stream);
  }
}

Status run_reduce(const Reduce& p, Stream stream) {
  switch (p.dtype) {
    case Dtype::f32: reduce_number<float>(p, stream); break;
    case Dtype::f64: reduce_number<double>(p, stream); break;
    case Dtype::i64: reduce_number<std::int64_t>(p, stream); break;
    case Dtype::i32: reduce_number<std::int32_t>(p, stream); break;
    default: reduce<std::uint8_t, std::int64_t, Sum>(p, stream); break;
  }
  return {};
}

/// Does x replace the best so far? The first NaN replaces everything and is replaced by nothing.
template <class T>
bool wins(T x, T best) {
  return x > best || (x != x && best == best);
}

/// Two passes: the largest element in vectors, then its first place.
template <class T>
std::int64_t argmax_row(const T* x, std::int64_t n) {
  RowReducer<T, T, Max> reducer;
  reducer.feed(x, 1, n);
  const T best = reducer.finish();
  std::int64_t j = 0;
  if (best != best)
    while (x[j] == x[j]) ++j;
  else
    while (x[j] != best) ++j;
  return j;
}

template <class T>
void argmax_columns(const T* x, std::int64_t n, std::int64_t inner, std::int64_t width, std::int64_t* out) {
  T best[kColumns];
  std::int64_t place[kColumns];
  for (std::int64_t i = 0; i < width; ++i) {
    best[i] = x[i];
    place[i] = 0;
  }
  for (std::int64_t j = 1; j < n; ++j) {
    const T* row = x + j * inner;
#pragma omp simd
    for (std::int64_t i = 0; i < width; ++i) {
      const bool better = wins(row[i], best[i]);
      best[i] = better ? row[i] : best[i];
      place[i] = better ? j : place[i];
    }
  }
  std::copy(place, place + width, out);
}

template <class T>
void argmax(const ArgReduce& p, Stream stream) {
  const T* in = static_cast<const T*>(p.in);
  const std::int64_t ranges = (p.inner + kColumns - 1) / kColumns;
  const std::int64_t work = p.n * std::min<std::int64_t>(p.inner, kColumns);
  parallel_ranges(stream, p.outer * ranges, std::max<std::int64_t>(1, kGrain / std::max<std::int64_t>(1, work)),
                  [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t k = begin; k < end; ++k) {
      const std::int64_t o = k / ranges, first = k % ranges * kColumns;
      const T* x = in + o * p.n * p.inner + first;
      if (p.inner == 1)
        p.out[o] = argmax_row(x, p.n);
      else
        argmax_columns(x, p.n, p.inner, std::min<std::int64_t>(kColumns, p.inner - first), p.out + o * p.inner + first);
    }
  });
}

Status run_arg_reduce(const ArgReduce& p, Stream stream) {
  switch (p.dtype) {
    case Dtype::f32: argmax<float>(p, stream); break;
    case Dtype::f64: argmax<double>(p, stream); break;
    case Dtype::i64: argmax<std::int64_t>(p, stream); break;
    default: argmax<std::int32_t>(p, stream); break;
  }
  return {};
}

constexpr bool is_number(Dtype dtype) {
  return dtype == Dtype::f32 || dtype == Dtype::f64 || dtype == Dtype::i64 || dtype == Dtype::i32;
}

Status supports_reduce(const Reduce& p) {
  if (!is_number(p.dtype) && !(p.dtype == Dtype::boolean && p.op == ReduceOp::sum))
    return unsupported("the CPU reduces f32, f64, i64 and i32, and counts booleans");
  return check(p);
}

Status supports_arg_reduce(const ArgReduce& p) {
  if (!is_number(p.dtype)) return unsupported("the CPU takes the argmax of f32, f64, i64 and i32 only");
  return check(p);
}

constexpr Variant reduce_variants[] = {{"tree", "the same fixed tree along rows and across columns",
                                        "f32 2048x768: sum 27-48 GB/s, max of rows 5 GB/s",
                                        erased_run<Reduce, run_reduce>}};
constexpr Variant arg_reduce_variants[] = {{"vectors", "the largest value in vectors, then its first place",
                                            "f32 2048x768: rows 5 GB/s, columns 18-20 GB/s",
                                            erased_run<ArgReduce, run_arg_reduce>}};
constexpr KernelEntry entries[] = {entry<Reduce, supports_reduce>(reduce_variants),
                                   entry<ArgReduce, supports_arg_reduce>(arg_reduce_variants)};

}  // namespace

extern const Family reduce_family;
const Family reduce_family = family(entries);

}  // namespace sinter::kernels::cpu
