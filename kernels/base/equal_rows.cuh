// Sums over the rows of a matrix that share an index, in ascending order and without a sort: the warp of the first row
// with an index adds up all that have it. Looking for them costs at most m / 32 steps of the warp for each of m rows.
#pragma once

#include <cstdint>
#include <type_traits>

#include "kernels/base/collective.cuh"
#include "kernels/base/vec.cuh"

namespace sinter::kernels {

/// What sums of elements stored as T are kept in: integers wrap.
template <class T>
struct Summed {
  using type = Computed<T>;
};
template <>
struct Summed<std::int64_t> {
  using type = std::uint64_t;
};
template <>
struct Summed<std::int32_t> {
  using type = std::uint32_t;
};
template <class T>
using Sum = typename Summed<T>::type;

template <class T>
__device__ __forceinline__ Sum<T> to_sum(T x) {
  if constexpr (std::is_integral_v<T>)
    return static_cast<Sum<T>>(x);
  else
    return widen(x);
}
template <class T>
__device__ __forceinline__ T from_sum(Sum<T> x) {
  if constexpr (std::is_integral_v<T>)
    return static_cast<T>(x);
  else
    return narrow<T>(x);
}

/// Whether some index[e], e < j, equals `wanted`. For whole warps with the same arguments, as the next.
__device__ __forceinline__ bool stands_before(const std::int64_t* index, std::int64_t j, std::int64_t wanted) {
  const unsigned lane = threadIdx.x % kWarp;
  bool found = false;
  for (std::int64_t e = 0; e < j && !found; e += kWarp)
    found = __any_sync(kWholeWarp, e + lane < j && index[e + lane] == wanted) != 0;
  return found;
}

/// sum += rows[e] for every e in [first, m) with index[e] == wanted, e ascending; `rows` points to this lane's `width`
/// columns, lanes that are not `active` have none. Several rows are under way together.
template <int width, class T>
__device__ __forceinline__ void add_equal_rows(const std::int64_t* index, std::int64_t first, std::int64_t m,
                                               std::int64_t wanted, const T* rows, std::int64_t cols, bool active,
                                               Sum<T> (&sum)[width]) {
  constexpr int kAtOnce = 8;
  const unsigned lane = threadIdx.x % kWarp;
  for (std::int64_t e = first; e < m; e += kWarp) {
    unsigned equal = __ballot_sync(kWholeWarp, e + lane < m && index[e + lane] == wanted);
    while (equal != 0) {
      const int count = __popc(equal);
      Pack<T, width> row[kAtOnce] = {};
#pragma unroll
      for (int k = 0; k < kAtOnce; ++k) {
        if (active && k < count)
          row[k] = *reinterpret_cast<const Pack<T, width>*>(rows + (e + __ffs(static_cast<int>(equal)) - 1) * cols);
        equal &= equal - 1;
      }
#pragma unroll
      for (int k = 0; k < kAtOnce; ++k)
#pragma unroll
        for (int w = 0; w < width; ++w) sum[w] += to_sum(row[k].element[w]);  // 0 of rows that are not there
    }
  }
}

}  // namespace sinter::kernels
