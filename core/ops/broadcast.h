// Reading a tensor over a broadcast shape, and checks that ops share. For core's own files.
#pragma once

#include "core/tensor.h"

namespace sinter {

/// Strides with which `tensor` is read over `shape` (0 where it repeats); a usage error that names `op` where it does
/// not broadcast to it.
kernels::Strides broadcast_steps(const Tensor& tensor, const Shape& shape, const char* op);

/// Throws unless all tensors have one dtype and one device.
void check_same_kind(const char* op, std::initializer_list<const Tensor*> tensors);

/// Throws unless `tensor` has this shape: "<op>: <what> is [3], it must be [4]".
void check_shape(const char* op, const char* what, const Tensor& tensor, const Shape& expected);

/// Throws unless `tensor` has this dtype.
void check_dtype(const char* op, const char* what, const Tensor& tensor, Dtype expected);

}  // namespace sinter
