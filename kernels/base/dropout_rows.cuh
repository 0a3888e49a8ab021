// Dropout decisions of the rows of a [rows, cols] buffer, as device code draws them (philox.h says which they are).
#pragma once

#include "kernels/base/philox.h"
#include "kernels/base/vec.cuh"

namespace sinter::kernels {

/// The decisions of one row.
struct DropoutRow {
  std::uint64_t seed = 0;
  std::uint32_t site = 0, threshold = 0, step = 0, sample = 0;
  std::int64_t first = 0;   ///< element of the sample at the row's column 0

  /// Bit i: element c + i is kept, i < N. One Philox block: N divides 8, and both c and the row's length are multiples
  /// of N. Everything is kept where dropout is off.
  template <int N>
  __device__ __forceinline__ std::uint32_t keep(std::int64_t c) const {
    static_assert(8 % N == 0);
    if (threshold == 0) return 0xffu;
    const std::int64_t element = first + c;
    const Dropout16 dropout{.seed = seed, .site = site, .threshold = threshold};
    const std::uint32_t bits = dropout_keep8(dropout, step, sample, static_cast<std::uint32_t>(element / 8));
    return bits >> (element % 8);
  }
};

/// A parameter of kernels: what `row` needs, and the scale in the type A that they compute in.
template <class A>
struct DropoutRows {
  Dropout16 dropout;
  RowMap map;
  std::int64_t cols;
  A scale;

  DropoutRows(const Dropout16& site, const RowMap& rows, std::int64_t columns)
      : dropout(site), map(rows), cols(columns), scale(static_cast<A>(site.scale())) {}

  __device__ __forceinline__ DropoutRow row(std::int64_t r) const {
    DropoutRow row{.seed = dropout.seed, .site = dropout.site, .threshold = dropout.threshold};
    if (!dropout.active()) return row;
    const auto sample = static_cast<std::uint32_t>(map.sample == nullptr ? r : map.sample[r]);
    row.step = *dropout.step;
    row.sample = (dropout.first_sample == nullptr ? 0 : *dropout.first_sample) + sample;
    row.first = map.position == nullptr ? 0 : map.position[r] * cols;
    return row;
  }

  /// x = dropout(x) for elements c .. c + N - 1 of a row; N as in DropoutRow::keep.
  template <int N>
  __device__ __forceinline__ void drop(const DropoutRow& row, std::int64_t c, A (&x)[N]) const {
    const std::uint32_t keep = row.template keep<N>(c);
#pragma unroll
    for (int i = 0; i < N; ++i) x[i] = (keep >> i & 1u) != 0 ? x[i] * scale : A{0};
  }
};

}  // namespace sinter::kernels
