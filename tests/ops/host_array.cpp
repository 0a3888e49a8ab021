#include "tests/ops/host_array.h"

#include "core/autograd/mode.h"
#include "kernels/base/dtype.h"

namespace sinter::testing {
namespace {

double load(const Tensor& tensor, std::int64_t offset) {
  switch (tensor.dtype()) {
    case Dtype::f32: return static_cast<double>(tensor.data<float>()[offset]);
    case Dtype::f64: return tensor.data<double>()[offset];
    case Dtype::f16: return static_cast<double>(kernels::to_float(tensor.data<kernels::f16>()[offset]));
    case Dtype::bf16: return static_cast<double>(kernels::to_float(tensor.data<kernels::bf16>()[offset]));
    case Dtype::i64: return static_cast<double>(tensor.data<std::int64_t>()[offset]);
    case Dtype::i32: return static_cast<double>(tensor.data<std::int32_t>()[offset]);
    case Dtype::u8: return static_cast<double>(tensor.data<std::uint8_t>()[offset]);
    case Dtype::boolean: break;
  }
  return tensor.data<bool>()[offset] ? 1 : 0;
}

}  // namespace

HostArray::HostArray(const Shape& sizes) : shape(sizes), values(static_cast<std::size_t>(sizes.numel())) {}

HostArray HostArray::of(const Tensor& of_any_device) {
  const NoGradGuard guard;
  const Tensor tensor = of_any_device.to(Device::cpu());
  return make_array(tensor.shape(), [&](const Shape& index) {
    std::int64_t offset = 0;
    for (int d = 0; d < index.rank(); ++d) offset += index[d] * tensor.strides()[d];
    return load(tensor, offset);
  });
}

std::size_t HostArray::flat(const Shape& index) const {
  std::int64_t place = 0;
  for (int d = 0; d < shape.rank(); ++d) place = place * shape[d] + index[d];
  return static_cast<std::size_t>(place);
}

double HostArray::broadcast_at(const Shape& index) const {
  Shape own = shape;
  const int shift = index.rank() - shape.rank();
  for (int d = 0; d < shape.rank(); ++d) own[d] = shape[d] == 1 ? 0 : index[d + shift];
  return at(own);
}

void for_each_index(const Shape& shape, const std::function<void(const Shape&)>& fn) {
  Shape index = shape;
  for (int d = 0; d < index.rank(); ++d) index[d] = 0;
  for (std::int64_t i = 0; i < shape.numel(); ++i) {
    fn(index);
    for (int d = shape.rank() - 1; d >= 0 && ++index[d] == shape[d]; --d) index[d] = 0;
  }
}

HostArray make_array(const Shape& shape, const std::function<double(const Shape&)>& fn) {
  HostArray array(shape);
  std::size_t i = 0;
  for_each_index(shape, [&](const Shape& index) { array.values[i++] = fn(index); });
  return array;
}

Shape common_shape(const Shape& a, const Shape& b) {
  Shape result = a.rank() >= b.rank() ? a : b;
  const Shape& other = a.rank() >= b.rank() ? b : a;
  const int shift = result.rank() - other.rank();
  for (int d = 0; d < other.rank(); ++d)
    if (result[d + shift] == 1) result[d + shift] = other[d];
  return result;
}

}  // namespace sinter::testing
