// Reading and adding at computed places. Indices are i64; one out of range is a usage error that names it.
#pragma once

#include "core/tensor.h"

namespace sinter {

/// Rows index[j] of dimension d: x [..., n, ...], index [m] -> [..., m, ...].
Tensor index_select(const Tensor& x, int d, const Tensor& index);
/// x with source's row j added to row index[j] of dimension d, in ascending j. A new tensor.
Tensor index_add(const Tensor& x, int d, const Tensor& index, const Tensor& source);
/// out[..., j, ...] = x[..., index[..., j, ...], ...]; index has x's rank and its sizes but along d.
Tensor gather(const Tensor& x, int d, const Tensor& index);
/// x with source[..., j, ...] added at [..., index[..., j, ...], ...]. A new tensor.
Tensor scatter_add(const Tensor& x, int d, const Tensor& index, const Tensor& source);

/// Throws when an element of `index` (i64, contiguous, on the CPU) lies outside [0, n): names op, value, place and
/// rule.
void check_indices(const char* op, const char* what, const Tensor& index, std::int64_t n);

}  // namespace sinter
