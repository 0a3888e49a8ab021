// Loops over contiguous elements in vectors, with one body for whole vectors and for the tail.
#pragma once

#include <cstdint>
#include <initializer_list>
#include <type_traits>

#include "kernels/cpu/simd.h"

namespace sinter::kernels::cpu {

/// Which lanes of a vector take part: all of them, or the first `count`. A kernel's loop body is a template over the
/// two, so that the tail of a row runs the same arithmetic as the rest of it.
struct AllLanes {};
struct FirstLanes {
  std::int64_t count;
};

template <class T>
inline Vec<T> load(const T* p, AllLanes) {
  return Vec<T>::load(p);
}
template <class T>
inline Vec<T> load(const T* p, FirstLanes lanes) {
  return Vec<T>::load(p, lanes.count);
}
template <class T>
inline void store(T* p, Vec<T> x, AllLanes) {
  x.store(p);
}
template <class T>
inline void store(T* p, Vec<T> x, FirstLanes lanes) {
  x.store(p, lanes.count);
}

/// How a kernel writes its result. An ordinary store first reads the line, which costs a third of the bandwidth where
/// nothing stays in cache until it is used again; writing around the caches does not. The bits are the same.
enum class Stores { cached, around };
template <Stores S>
using StoresTag = std::integral_constant<Stores, S>;

/// Results of at least this many bytes are written around the caches: far more than the caches of a core.
inline constexpr std::int64_t kAroundBytes = std::int64_t{16} << 20;

/// Around for a large `out` of rows that start on cache lines, unless it is one of the inputs (their lines are in cache
/// already).
template <class T>
inline Stores stores_for(const void* out, std::initializer_list<const void*> inputs, std::int64_t rows,
                         std::int64_t cols) {
  constexpr std::int64_t kLine = 64, size = sizeof(T);
  for (const void* in : inputs)
    if (in == out) return Stores::cached;
  const bool aligned = reinterpret_cast<std::uintptr_t>(out) % kLine == 0 && cols * size % kLine == 0;
  return out != nullptr && aligned && rows * cols * size >= kAroundBytes ? Stores::around : Stores::cached;
}

/// fn(StoresTag<S>) for the S chosen at run time.
template <class Fn>
inline void with_stores(Stores stores, Fn&& fn) {
  if (stores == Stores::around)
    fn(StoresTag<Stores::around>{});
  else
    fn(StoresTag<Stores::cached>{});
}

template <Stores S, class T>
inline void store(T* p, Vec<T> x, AllLanes) {
  if constexpr (S == Stores::around)
    x.stream(p);
  else
    x.store(p);
}
template <Stores S, class T>
inline void store(T* p, Vec<T> x, FirstLanes lanes) {
  x.store(p, lanes.count);
}

/// At the end of a task: its writes around the caches become visible before the pool says that it has ended.
template <Stores S>
inline void finish_stores() {
  if constexpr (S == Stores::around) _mm_sfence();
}

/// x with the lanes that do not take part set to zero.
template <class T>
inline Vec<T> only(Vec<T> x, AllLanes) {
  return x;
}
template <class T>
inline Vec<T> only(Vec<T> x, FirstLanes lanes) {
  return x.keep((1u << lanes.count) - 1u);
}

/// fn(i, lanes) for the vectors that cover [begin, end): AllLanes for whole ones, FirstLanes for the rest.
template <class T, class Fn>
inline void for_vectors(std::int64_t begin, std::int64_t end, Fn&& fn) {
  std::int64_t i = begin;
  for (; i + Vec<T>::size <= end; i += Vec<T>::size) fn(i, AllLanes{});
  if (i < end) fn(i, FirstLanes{end - i});
}

/// Sum over [0, n) of the vectors term(i, lanes), whose lanes that do not take part must be zero. Four accumulators
/// hide the latency of the additions; their order depends on n alone.
template <class T, class Fn>
inline T sum_vectors(std::int64_t n, Fn&& term) {
  constexpr std::int64_t size = Vec<T>::size;
  Vec<T> a = Vec<T>::all(0), b = a, c = a, d = a;
  std::int64_t i = 0;
  for (; i + 4 * size <= n; i += 4 * size) {
    a = a + term(i, AllLanes{});
    b = b + term(i + size, AllLanes{});
    c = c + term(i + 2 * size, AllLanes{});
    d = d + term(i + 3 * size, AllLanes{});
  }
  for_vectors<T>(i, n, [&](std::int64_t j, auto lanes) { a = a + term(j, lanes); });
  return reduce_add((a + b) + (c + d));
}

/// fn(constant R, r) for groups of rows that cover [begin, end): R = N rows at a time, then one by one.
template <int N, class Fn>
inline void for_row_groups(std::int64_t begin, std::int64_t end, Fn&& fn) {
  std::int64_t r = begin;
  for (; r + N <= end; r += N) fn(std::integral_constant<int, N>{}, r);
  for (; r < end; ++r) fn(std::integral_constant<int, 1>{}, r);
}

/// Asks for the cache line of p + elements; that address may lie behind the buffer.
template <class T>
inline void prefetch(const T* p, std::int64_t elements) {
  const auto address = reinterpret_cast<std::uintptr_t>(p) + static_cast<std::uintptr_t>(elements) * sizeof(T);
  _mm_prefetch(reinterpret_cast<const char*>(address), _MM_HINT_T0);
}

/// fn of each lane by a scalar function: for f64, where accuracy matters and speed does not.
template <class Fn>
inline Vec<double> by_lane(Vec<double> x, Fn&& fn) {
  for (int i = 0; i < Vec<double>::size; ++i) x.v[i] = fn(x.v[i]);
  return x;
}

}  // namespace sinter::kernels::cpu
