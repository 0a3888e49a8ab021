#include "kernels/gather.h"

#include <cstring>
#include <type_traits>

#include "kernels/base/entry.h"
#include "kernels/base/families.h"
#include "kernels/cpu/cast.h"
#include "kernels/cpu/strided_loop.h"

namespace sinter::kernels::cpu {
namespace {

constexpr Status kOutOfRange = invalid("an index lies outside [0, n)");

/// One comparison an element: as unsigned, a negative index is larger than any n.
bool in_range(const std::int64_t* index, std::int64_t count, std::int64_t n) {
  std::int64_t bad = 0;
#pragma omp simd reduction(| : bad)
  for (std::int64_t k = 0; k < count; ++k)
    bad |= static_cast<std::int64_t>(static_cast<std::uint64_t>(index[k]) >= static_cast<std::uint64_t>(n));
  return bad == 0;
}

bool in_range(const std::int64_t* index, std::int64_t count, std::int64_t n, std::int64_t skip) {
  if (skip == -1) return in_range(index, count, n);
  for (std::int64_t k = 0; k < count; ++k)
    if (index[k] != skip && (index[k] < 0 || index[k] >= n)) return false;
  return true;
}

/// Rows of single elements: a loop instead of a memcpy for each.
template <class Bits>
void select_elements(const IndexSelect& p, Stream stream) {
  const Bits* src = static_cast<const Bits*>(p.src);
  Bits* dst = static_cast<Bits*>(p.dst);
  parallel_ranges(stream, p.outer * p.m, kGrain, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t k = begin; k < end;) {
      const std::int64_t o = k / p.m, j = k % p.m, count = std::min(end - k, p.m - j);
      for (std::int64_t i = 0; i < count; ++i) dst[k + i] = src[o * p.n + p.index[j + i]];
      k += count;
    }
  });
}

void select_rows(const IndexSelect& p, Stream stream) {
  const std::size_t size = size_of(p.dtype), row = static_cast<std::size_t>(p.inner) * size;
  const std::int64_t grain = std::max<std::int64_t>(1, kGrain / p.inner);
  parallel_ranges(stream, p.outer * p.m, grain, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t o = begin / p.m, j = begin % p.m, k = begin; k < end; ++k) {
      std::memcpy(element(p.dst, k * p.inner, size), element(p.src, (o * p.n + p.index[j]) * p.inner, size), row);
      if (++j == p.m) {
        j = 0;
        ++o;
      }
    }
  });
}

Status run_index_select(const IndexSelect& p, Stream stream) {
  if (!in_range(p.index, p.m, p.n)) return kOutOfRange;
  if (p.outer == 0 || p.inner == 0) return {};
  if (p.inner == 1)
    with_bits(p.dtype, [&]<class Bits>() { select_elements<Bits>(p, stream); });
  else
    select_rows(p, stream);
  return {};
}

template <class T>
void add_to(T& place, T x) {
  if constexpr (std::is_integral_v<T>) {
    using U = std::make_unsigned_t<T>;
    place = static_cast<T>(static_cast<U>(place) + static_cast<U>(x));
  } else {
    place += x;
  }
}

/// Calls fn(o, first, last) on the stream's threads for ranges [first, last) of the inner dimension. Every place is
/// added to by one task only, so the order of its additions is the loop's. Ranges are narrow enough for several threads
/// where outer is 1, and wide enough that a row is read in whole cache lines.
template <class Fn>
void parallel_columns(Stream stream, std::int64_t outer, std::int64_t m, std::int64_t inner, Fn&& fn) {
  constexpr std::int64_t kColumns = 128;
  if (outer * m * inner <= kGrain) {
    for (std::int64_t o = 0; o < outer; ++o) fn(o, std::int64_t{0}, inner);
    return;
  }
  const std::int64_t ranges = (inner + kColumns - 1) / kColumns;
  const std::int64_t block = std::max<std::int64_t>(1, m * std::min(inner, kColumns));
  const std::int64_t grain = std::max<std::int64_t>(1, kGrain / block);
  parallel_ranges(stream, outer * ranges, grain, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t k = begin; k < end; ++k) {
      const std::int64_t first = k % ranges * kColumns;
      fn(k / ranges, first, std::min(inner, first + kColumns));
    }
  });
}

template <class T>
void index_add(const IndexAdd& p, Stream stream) {
  parallel_columns(stream, p.outer, p.m, p.inner, [&](std::int64_t o, std::int64_t first, std::int64_t last) {
    for (std::int64_t j = 0; j < p.m; ++j) {
      if (p.skip != -1 && p.index[j] == p.skip) continue;
      const T* src = static_cast<const T*>(p.src) + (o * p.m + j) * p.inner;
      T* dst = static_cast<T*>(p.dst) + (o * p.n + p.index[j]) * p.inner;
#pragma omp simd
      for (std::int64_t i = first; i < last; ++i) add_to(dst[i], src[i]);
    }
  });
}

template <class T>
void scatter_add(const ScatterAdd& p, Stream stream) {
  parallel_columns(stream, p.outer, p.m, p.inner, [&](std::int64_t o, std::int64_t first, std::int64_t last) {
    T* dst = static_cast<T*>(p.dst) + o * p.n * p.inner;
    for (std::int64_t j = 0; j < p.m; ++j) {
      const std::int64_t row = (o * p.m + j) * p.inner;
      const T* src = static_cast<const T*>(p.src) + row;
      const std::int64_t* index = p.index + row;
      for (std::int64_t i = first; i < last; ++i) add_to(dst[index[i] * p.inner + i], src[i]);
    }
  });
}

template <class Bits>
void gather(const Gather& p, Stream stream) {
  const Bits* src = static_cast<const Bits*>(p.src);
  Bits* dst = static_cast<Bits*>(p.dst);
  const std::int64_t grain = std::max<std::int64_t>(1, kGrain / std::max<std::int64_t>(1, p.inner));
  parallel_ranges(stream, p.outer * p.m, grain, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t o = begin / p.m, j = begin % p.m, k = begin; k < end; ++k) {
      const Bits* from = src + o * p.n * p.inner;
      const std::int64_t* index = p.index + k * p.inner;
      for (std::int64_t i = 0; i < p.inner; ++i) dst[k * p.inner + i] = from[index[i] * p.inner + i];
      if (++j == p.m) {
        j = 0;
        ++o;
      }
    }
  });
}

template <class Fn>
void with_number(Dtype dtype, Fn&& fn) {
  switch (dtype) {
    case Dtype::f32: return fn.template operator()<float>();
    case Dtype::f64: return fn.template operator()<double>();
    case Dtype::i64: return fn.template operator()<std::int64_t>();
    default: return fn.template operator()<std::int32_t>();
  }
}

Status run_index_add(const IndexAdd& p, Stream stream) {
  if (!in_range(p.index, p.m, p.n, p.skip)) return kOutOfRange;
  with_number(p.dtype, [&]<class T>() { index_add<T>(p, stream); });
  return {};
}

Status run_gather(const Gather& p, Stream stream) {
  if (!in_range(p.index, p.outer * p.m * p.inner, p.n)) return kOutOfRange;
  with_bits(p.dtype, [&]<class Bits>() { gather<Bits>(p, stream); });
  return {};
}

Status run_scatter_add(const ScatterAdd& p, Stream stream) {
  if (!in_range(p.index, p.outer * p.m * p.inner, p.n)) return kOutOfRange;
  with_number(p.dtype, [&]<class T>() { scatter_add<T>(p, stream); });
  return {};
}

template <class P>
Status supports_add(const P& p) {
  if (p.dtype != Dtype::f32 && p.dtype != Dtype::f64 && p.dtype != Dtype::i64 && p.dtype != Dtype::i32)
    return unsupported("the CPU adds f32, f64, i64 and i32 only");
  return check(p);
}

constexpr Variant index_select_variants[] = {{"rows", "one memcpy a row; a loop where rows are single elements",
                                              "f32 2048 rows of 768: 50-60 GB/s",
                                              erased_run<IndexSelect, run_index_select>}};
constexpr Variant index_add_variants[] = {{"columns", "each task owns a range of columns and walks all rows in order",
                                           "deterministic without sorting the indices",
                                           erased_run<IndexAdd, run_index_add>}};
constexpr Variant gather_variants[] = {{"rows", "ranges of rows", "the only variant; not timed",
                                        erased_run<Gather, run_gather>}};
constexpr Variant scatter_add_variants[] = {{"columns", "each task owns a range of columns and walks all rows in order",
                                             "deterministic without sorting the indices",
                                             erased_run<ScatterAdd, run_scatter_add>}};
constexpr KernelEntry entries[] = {entry<IndexSelect, check>(index_select_variants),
                                   entry<IndexAdd, supports_add<IndexAdd>>(index_add_variants),
                                   entry<Gather, check>(gather_variants),
                                   entry<ScatterAdd, supports_add<ScatterAdd>>(scatter_add_variants)};

}  // namespace

extern const Family gather_family;
const Family gather_family = family(entries);

}  // namespace sinter::kernels::cpu
