#include "kernels/copy.h"

#include <cstring>
#include <utility>

#include "kernels/base/entry.h"
#include "kernels/base/families.h"
#include "kernels/cpu/cast.h"
#include "kernels/cpu/strided_loop.h"
#include "kernels/cpu/vector_loop.h"

namespace sinter::kernels::cpu {
namespace {

/// n elements, steps in elements.
using CopyRow = void (*)(const void* src, std::int64_t src_step, void* dst, std::int64_t dst_step, std::int64_t n);

template <class To, class From>
void convert_row(const void* src, std::int64_t src_step, void* dst, std::int64_t dst_step, std::int64_t n) {
  const From* from = static_cast<const From*>(src);
  To* to = static_cast<To*>(dst);
  if (src_step == 1 && dst_step == 1) {
#pragma omp simd
    for (std::int64_t i = 0; i < n; ++i) to[i] = cast<To>(from[i]);
  } else {
    for (std::int64_t i = 0; i < n; ++i) to[i * dst_step] = cast<To>(from[i * src_step]);
  }
}

template <class Bits>
void fill_row(Bits value, Bits* dst, std::int64_t step, std::int64_t n) {
  if (step == 1) {
    for (std::int64_t i = 0; i < n; ++i) dst[i] = value;
  } else {
    for (std::int64_t i = 0; i < n; ++i) dst[i * step] = value;
  }
}

template <class Bits>
void move_row(const void* src, std::int64_t src_step, void* dst, std::int64_t dst_step, std::int64_t n) {
  const Bits* from = static_cast<const Bits*>(src);
  Bits* to = static_cast<Bits*>(dst);
  if (src_step == 1 && dst_step == 1) {
    std::memcpy(to, from, static_cast<std::size_t>(n) * sizeof(Bits));
  } else if (src_step == 0) {
    fill_row(*from, to, dst_step, n);
  } else {
    for (std::int64_t i = 0; i < n; ++i) to[i * dst_step] = from[i * src_step];
  }
}

CopyRow row_function(Dtype from, Dtype to) {
  if (from == to) return with_bits(from, []<class Bits>() -> CopyRow { return move_row<Bits>; });
  return with_type(from, [to]<class From>() -> CopyRow {
    return with_type(to, []<class To>() -> CopyRow { return convert_row<To, From>; });
  });
}

constexpr std::int64_t kTile = 32;

/// dst[i * dst_step + j] = src[i + j * src_step] for one tile: rows x cols of at most kTile each.
template <class Bits>
void transpose_tile(const Bits* src, std::int64_t src_step, Bits* dst, std::int64_t dst_step, std::int64_t rows,
                    std::int64_t cols) {
  Bits tile[kTile][kTile + 1];
  for (std::int64_t j = 0; j < cols; ++j)
    for (std::int64_t i = 0; i < rows; ++i) tile[i][j] = src[i + j * src_step];
  for (std::int64_t i = 0; i < rows; ++i)
    for (std::int64_t j = 0; j < cols; ++j) dst[i * dst_step + j] = tile[i][j];
}

/// Copies a nest whose last dimension has dst step 1 and whose dimension `row` has src step 1, in square tiles: read
/// along the one, written along the other, so that each cache line is touched once.
template <class Bits>
void transpose(Stream stream, const LoopNest<2>& nest, int row, const void* src, void* dst) {
  const int last = nest.rank - 1;
  LoopNest<2> outer;
  for (int d = 0; d < last; ++d)
    if (d != row) outer.append(nest.size[d], {nest.step[0][d], nest.step[1][d]});
  outer.finish();
  const std::int64_t rows = nest.size[row], cols = nest.size[last], bands = (rows + kTile - 1) / kTile;
  const auto band = [&](std::int64_t index) {
    const std::int64_t first = index % bands * kTile, height = std::min(kTile, rows - first);
    for_runs(outer, index / bands, index / bands + 1, [&](const std::int64_t (&offsets)[2], std::int64_t) {
      Bits* to = static_cast<Bits*>(dst) + offsets[0] + first * nest.step[0][row];
      const Bits* from = static_cast<const Bits*>(src) + offsets[1] + first;
      for (std::int64_t j = 0; j < cols; j += kTile)
        transpose_tile(from + j * nest.step[1][last], nest.step[1][last], to + j, nest.step[0][row], height,
                       std::min(kTile, cols - j));
    });
  };
  const std::int64_t grain = std::max<std::int64_t>(1, kGrain / (kTile * cols));
  parallel_ranges(stream, outer.count() * bands, grain, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t i = begin; i < end; ++i) band(i);
  });
}

/// The dimension that makes the nest a transpose of same-sized elements worth tiling, or -1.
int transposed_dimension(const LoopNest<2>& nest) {
  const int last = nest.rank - 1;
  if (nest.step[0][last] != 1 || nest.step[1][last] == 1 || nest.step[1][last] == 0 || nest.size[last] < 8) return -1;
  for (int d = 0; d < last; ++d)
    if (nest.step[1][d] == 1 && nest.size[d] >= 8) return d;
  return -1;
}

Status run_copy(const Copy& p, Stream stream) {
  // A copy may run in any order; this one writes memory in ascending order.
  const Strides* const operands[] = {&p.dst_strides, &p.src_strides};
  const LoopNest<2> nest = make_ordered_nest(p.extents, operands);
  if (nest.count() == 0) return {};
  if (p.src_dtype == p.dst_dtype)
    if (const int row = transposed_dimension(nest); row >= 0) {
      with_bits(p.src_dtype, [&]<class Bits>() { transpose<Bits>(stream, nest, row, p.src, p.dst); });
      return {};
    }
  const CopyRow row = row_function(p.src_dtype, p.dst_dtype);
  const std::size_t src_size = size_of(p.src_dtype), dst_size = size_of(p.dst_dtype);
  parallel_runs(stream, nest, [&](const std::int64_t (&offsets)[2], std::int64_t n) {
    row(element(p.src, offsets[1], src_size), nest.inner_step(1), element(p.dst, offsets[0], dst_size),
        nest.inner_step(0), n);
  });
  return {};
}

template <class T>
T fill_value(const Fill& p) {
  if constexpr (std::is_integral_v<T>)
    return cast<T>(p.integer);
  else
    return cast<T>(p.value);
}

/// n elements written around the caches, for what does not fit in them: an ordinary store first reads the line.
template <class T>
void fill_around(T value, T* to, std::int64_t n) {
  constexpr std::int64_t kElements = sizeof(__m256i) / sizeof(T);
  T elements[kElements];
  for (T& element : elements) element = value;
  const __m256i pattern = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(elements));
  std::int64_t i = 0;
  for (; i < n && reinterpret_cast<std::uintptr_t>(to + i) % sizeof(__m256i) != 0; ++i) to[i] = value;
  for (; i + kElements <= n; i += kElements) _mm256_stream_si256(reinterpret_cast<__m256i*>(to + i), pattern);
  for (; i < n; ++i) to[i] = value;
  finish_stores<Stores::around>();
}

Status run_fill(const Fill& p, Stream stream) {
  const Strides* const operands[] = {&p.dst_strides};
  const LoopNest<1> nest = make_nest(p.extents, operands);
  with_type(p.dtype, [&]<class T>() {
    const T value = fill_value<T>(p);
    const std::int64_t step = nest.inner_step(0);
    const bool around = step == 1 && nest.count() * static_cast<std::int64_t>(sizeof(T)) >= kAroundBytes;
    parallel_runs(stream, nest, [&](const std::int64_t (&offsets)[1], std::int64_t n) {
      T* const to = static_cast<T*>(p.dst) + offsets[0];
      if (around)
        fill_around(value, to, n);
      else
        fill_row(value, to, step, n);
    });
  });
  return {};
}

constexpr Variant copy_variants[] = {{"merged", "merges dimensions, then memcpy, vector loops or square tiles",
                                      "f32 2048x768: 55-73 GB/s contiguous, 1-6 GB/s transposed",
                                      erased_run<Copy, run_copy>}};
constexpr Variant fill_variants[] = {{"merged", "merges dimensions, then vector stores; large ones around the caches",
                                      "f32 2048x768: 59-70 GB/s", erased_run<Fill, run_fill>}};
constexpr KernelEntry entries[] = {entry<Copy, check>(copy_variants), entry<Fill, check>(fill_variants)};

}  // namespace

extern const Family copy_family;
const Family copy_family = family(entries);

}  // namespace sinter::kernels::cpu
