// Reading and adding at computed places. Indices are i64 and may be on the CPU whatever the device of x: there, one out
// of range is a usage error that names it.
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

/// On the CPU, looks at the elements of `index` (i64): one outside [0, n) is a usage error that names op, value, place
/// and rule. Elsewhere the kernel that meets one stops with an error of the device.
void check_indices(const char* op, const char* what, const Tensor& index, std::int64_t n);
/// The same, and `index` dense on `device`.
Tensor checked_indices(const char* op, const char* what, const Tensor& index, std::int64_t n, Device device);

}  // namespace sinter
