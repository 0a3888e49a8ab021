#include "core/shape.h"

#include <algorithm>

#include "core/error.h"

namespace sinter {

Shape::Shape(std::span<const std::int64_t> sizes) {
  for (const std::int64_t size : sizes) push_back(size);
}

int Shape::dimension(int d) const {
  if (d < -rank_ || d >= rank_)
    fail(ErrorCode::usage, "dimension ", d, " is out of range for shape ", str(), ", which has rank ", rank_);
  return d < 0 ? d + rank_ : d;
}

std::int64_t Shape::numel() const {
  std::int64_t n = 1;
  for (const std::int64_t size : *this)
    if (__builtin_mul_overflow(n, size, &n)) fail(ErrorCode::usage, "shape ", str(), " has more than 2^63 elements");
  return n;
}

void Shape::push_back(std::int64_t size) { insert(rank_, size); }

void Shape::insert(int d, std::int64_t size) {
  if (rank_ == kernels::kMaxRank)
    fail(ErrorCode::unsupported, "tensors have at most ", kernels::kMaxRank, " dimensions");
  std::copy_backward(sizes_.begin() + d, sizes_.begin() + rank_, sizes_.begin() + rank_ + 1);
  sizes_[static_cast<std::size_t>(d)] = size;
  ++rank_;
}

void Shape::erase(int d) {
  std::copy(sizes_.begin() + d + 1, sizes_.begin() + rank_, sizes_.begin() + d);
  --rank_;
}

std::string Shape::str() const {
  std::string text = "[";
  for (int d = 0; d < rank_; ++d) text += (d == 0 ? "" : ", ") + std::to_string((*this)[d]);
  return text + "]";
}

kernels::Extents Shape::extents() const {
  kernels::Extents extents;
  extents.rank = rank_;
  std::copy(begin(), end(), extents.size);
  return extents;
}

kernels::Strides Shape::steps() const {
  kernels::Strides strides;
  std::copy(begin(), end(), strides.step);
  return strides;
}

Shape contiguous_strides(const Shape& shape) {
  Shape strides = shape;
  std::int64_t step = 1;
  for (int d = shape.rank() - 1; d >= 0; --d) {
    strides[d] = step;
    step *= shape[d];
  }
  return strides;
}

bool can_broadcast(const Shape& a, const Shape& b) {
  for (int d = 1; d <= std::min(a.rank(), b.rank()); ++d) {
    const std::int64_t x = a[a.rank() - d], y = b[b.rank() - d];
    if (x != y && x != 1 && y != 1) return false;
  }
  return true;
}

Shape broadcast(const Shape& a, const Shape& b, const char* op) {
  if (!can_broadcast(a, b)) fail(ErrorCode::usage, op, ": shapes ", a, " and ", b, " cannot be broadcast");
  const Shape& longer = a.rank() >= b.rank() ? a : b;
  const Shape& shorter = a.rank() >= b.rank() ? b : a;
  Shape result = longer;
  const int shift = longer.rank() - shorter.rank();
  for (int d = 0; d < shorter.rank(); ++d) {
    if (longer[d + shift] == 1) result[d + shift] = shorter[d];
  }
  return result;
}

}  // namespace sinter
