// Reading a tensor over a broadcast shape, and checks that ops share. For core's own files.
#pragma once

#include "core/tensor.h"

namespace sinter {

/// Strides with which `tensor` is read over `shape` (0 where it repeats); a usage error that names `op` where it does
/// not broadcast to it.
kernels::Strides broadcast_steps(const Tensor& tensor, const Shape& shape, const char* op);

/// Throws unless all tensors have one dtype and one device.
void check_same_kind(const char* op, std::initializer_list<const Tensor*> tensors);

/// Throws unless all tensors have one device.
void check_same_device(const char* op, std::initializer_list<const Tensor*> tensors);

/// Throws unless `vector` can stand beside the columns of a matrix x: [columns], on the device of x, and in the dtype
/// that x is computed in (that of x, but f32 beside f16 and bf16).
void check_vector(const char* op, const char* what, const Tensor& x, const Tensor& vector, std::int64_t columns);

/// Device and dtype of what is kept about rows and columns of x: the dtype that x is computed in.
TensorOptions computed_options(const Tensor& x);

/// Throws unless `tensor` has this shape: "<op>: <what> is [3], it must be [4]".
void check_shape(const char* op, const char* what, const Tensor& tensor, const Shape& expected);

/// Throws unless `tensor` has this dtype.
void check_dtype(const char* op, const char* what, const Tensor& tensor, Dtype expected);

}  // namespace sinter
