#include "core/ops/broadcast.h"

#include "core/error.h"

namespace sinter {

kernels::Strides broadcast_steps(const Tensor& tensor, const Shape& shape, const char* op) {
  if (broadcast(tensor.shape(), shape, op) != shape)
    fail(ErrorCode::usage, op, ": shape ", tensor.shape(), " cannot be broadcast to ", shape);
  kernels::Strides steps;
  const int shift = shape.rank() - tensor.rank();
  for (int d = 0; d < tensor.rank(); ++d)
    steps.step[d + shift] = tensor.shape()[d] == 1 ? 0 : tensor.strides()[d];
  return steps;
}

void check_same_kind(const char* op, std::initializer_list<const Tensor*> tensors) {
  const Tensor& first = **tensors.begin();
  for (const Tensor* tensor : tensors) {
    if (tensor->dtype() != first.dtype())
      fail(ErrorCode::usage, op, ": dtypes ", name(first.dtype()), " and ", name(tensor->dtype()),
           " differ; cast with to(dtype)");
  }
  check_same_device(op, tensors);
}

void check_same_device(const char* op, std::initializer_list<const Tensor*> tensors) {
  const Tensor& first = **tensors.begin();
  for (const Tensor* tensor : tensors)
    if (tensor->device() != first.device())
      fail(ErrorCode::usage, op, ": devices ", first.device().str(), " and ", tensor->device().str(),
           " differ; move with to(device)");
}

void check_vector(const char* op, const char* what, const Tensor& x, const Tensor& vector, std::int64_t columns) {
  if (const Dtype dtype = kernels::computed_dtype(x.dtype()); dtype == x.dtype()) {
    check_same_kind(op, {&x, &vector});
  } else {
    check_dtype(op, what, vector, dtype);
    check_same_device(op, {&x, &vector});
  }
  check_shape(op, what, vector, {columns});
}

TensorOptions computed_options(const Tensor& x) { return {kernels::computed_dtype(x.dtype()), x.device()}; }

void check_shape(const char* op, const char* what, const Tensor& tensor, const Shape& expected) {
  if (tensor.shape() != expected)
    fail(ErrorCode::usage, op, ": ", what, " is ", tensor.shape(), ", it must be ", expected);
}

void check_dtype(const char* op, const char* what, const Tensor& tensor, Dtype expected) {
  if (tensor.dtype() != expected)
    fail(ErrorCode::usage, op, ": ", what, " is ", name(tensor.dtype()), ", it must be ", name(expected));
}

}  // namespace sinter
