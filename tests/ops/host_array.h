// Values on the host, for references that share no code with the ops: read through strides, kept as doubles.
#pragma once

#include <functional>
#include <vector>

#include "core/tensor.h"

namespace sinter::testing {

/// Row-major values of any dtype (i64 exact up to 2^53).
struct HostArray {
  Shape shape;
  std::vector<double> values;

  HostArray() = default;
  explicit HostArray(const Shape& sizes);
  /// Reads every element of `tensor` through its strides; from another device than the CPU, of a dense copy.
  static HostArray of(const Tensor& tensor);

  std::int64_t size(int d) const { return shape.at(d); }
  /// Element at an index of as many places as the rank.
  double& at(std::initializer_list<std::int64_t> index) { return values[flat(Shape(index))]; }
  double at(std::initializer_list<std::int64_t> index) const { return values[flat(Shape(index))]; }
  double& at(const Shape& index) { return values[flat(index)]; }
  double at(const Shape& index) const { return values[flat(index)]; }
  /// Element at the trailing places of `index`; a size of 1 repeats.
  double broadcast_at(const Shape& index) const;

 private:
  std::size_t flat(const Shape& index) const;
};

/// Calls fn(index) for every index of `shape` in row-major order.
void for_each_index(const Shape& shape, const std::function<void(const Shape&)>& fn);

/// An array of `shape` with fn(index) at every index.
HostArray make_array(const Shape& shape, const std::function<double(const Shape&)>& fn);

/// The shape to which both broadcast (which must exist).
Shape common_shape(const Shape& a, const Shape& b);

}  // namespace sinter::testing
