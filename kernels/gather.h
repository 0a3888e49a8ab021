// Reading and adding rows and elements at computed places. Indices are i64 and must lie in [0, n): callers that take
// them from outside check first (core does). For one out of range a kernel on the CPU answers invalid_argument, before
// writing; one on CUDA, which reads it too late for an answer, stops itself with device_fail.
//
// Sums are of dtype and rounded at every addition; those of f16 and bf16 (CUDA alone) are f32 and rounded once.
#pragma once

#include "kernels/base/dtype.h"
#include "kernels/base/kernel.h"

namespace sinter::kernels {

/// dst[o, j, i] = src[o, index[j], i]. src [outer, n, inner], index [m], dst [outer, m, inner], all contiguous.
/// Embedding lookup is outer = 1. Every dtype.
struct IndexSelect {
  static constexpr KernelId id = KernelId::index_select;
  Dtype dtype = Dtype::f32;
  std::int64_t outer = 0, n = 0, inner = 0, m = 0;
  const void* src = nullptr;
  const std::int64_t* index = nullptr;
  void* dst = nullptr;
};

/// dst[o, index[j], i] += src[o, j, i], in ascending j for each place (so deterministic). Same shapes, dst and src
/// swapped. Floating dtypes, i64, i32. Rows j with index[j] == skip add nothing (-1: none); padding rows of embeddings.
struct IndexAdd {
  static constexpr KernelId id = KernelId::index_add;
  Dtype dtype = Dtype::f32;
  std::int64_t outer = 0, n = 0, inner = 0, m = 0;
  std::int64_t skip = -1;
  const void* src = nullptr;
  const std::int64_t* index = nullptr;
  void* dst = nullptr;
};

/// dst[o, j, i] = src[o, index[o, j, i], i]. src [outer, n, inner], index and dst [outer, m, inner]. Every dtype.
struct Gather {
  static constexpr KernelId id = KernelId::gather;
  Dtype dtype = Dtype::f32;
  std::int64_t outer = 0, n = 0, inner = 0, m = 0;
  const void* src = nullptr;
  const std::int64_t* index = nullptr;
  void* dst = nullptr;
};

/// dst[o, index[o, j, i], i] += src[o, j, i], in ascending j for each place. dst [outer, n, inner]. The dtypes of
/// IndexAdd.
struct ScatterAdd {
  static constexpr KernelId id = KernelId::scatter_add;
  Dtype dtype = Dtype::f32;
  std::int64_t outer = 0, n = 0, inner = 0, m = 0;
  const void* src = nullptr;
  const std::int64_t* index = nullptr;
  void* dst = nullptr;
};

namespace detail {
template <class P>
constexpr Status check_gather(const P& p) {
  if (p.outer < 0 || p.n < 0 || p.inner < 0 || p.m < 0) return invalid("a size must not be negative");
  return {};
}
template <class P>
constexpr Cost cost_gather(const P& p, double indices, bool adds) {
  const double moved = static_cast<double>(p.outer * p.m * p.inner);
  const double bytes = moved * static_cast<double>(size_of(p.dtype));
  return {bytes * (adds ? 2 : 1) + indices * 8, bytes, adds ? moved : 0};
}
}  // namespace detail

constexpr Status check(const IndexSelect& p) { return detail::check_gather(p); }
constexpr Status check(const IndexAdd& p) { return detail::check_gather(p); }
constexpr Status check(const Gather& p) { return detail::check_gather(p); }
constexpr Status check(const ScatterAdd& p) { return detail::check_gather(p); }

constexpr Cost cost(const IndexSelect& p) { return detail::cost_gather(p, static_cast<double>(p.m), false); }
constexpr Cost cost(const IndexAdd& p) { return detail::cost_gather(p, static_cast<double>(p.m), true); }
constexpr Cost cost(const Gather& p) {
  return detail::cost_gather(p, static_cast<double>(p.outer * p.m * p.inner), false);
}
constexpr Cost cost(const ScatterAdd& p) {
  return detail::cost_gather(p, static_cast<double>(p.outer * p.m * p.inner), true);
}

}  // namespace sinter::kernels
