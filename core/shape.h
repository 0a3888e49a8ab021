// Sizes and strides of a tensor, stored in place.
#pragma once

#include <array>
#include <cstdint>
#include <initializer_list>
#include <ostream>
#include <span>
#include <string>

#include "kernels/base/strided.h"

namespace sinter {

/// Up to six sizes (or strides), no allocation. Rank 0 is a scalar.
class Shape {
 public:
  Shape() = default;
  Shape(std::initializer_list<std::int64_t> sizes) : Shape(std::span(sizes.begin(), sizes.size())) {}
  /// More than kMaxRank sizes is a usage error.
  explicit Shape(std::span<const std::int64_t> sizes);

  int rank() const { return rank_; }
  std::int64_t operator[](int d) const { return sizes_[static_cast<std::size_t>(d)]; }
  std::int64_t& operator[](int d) { return sizes_[static_cast<std::size_t>(d)]; }
  /// Negative dimensions count from the end, as in torch: at(-1) is the last. Out of range is a usage error.
  std::int64_t at(int d) const { return sizes_[static_cast<std::size_t>(dimension(d))]; }
  /// `d` as a non-negative dimension, or a usage error.
  int dimension(int d) const;
  std::int64_t numel() const;

  void push_back(std::int64_t size);
  void insert(int d, std::int64_t size);
  void erase(int d);

  const std::int64_t* begin() const { return sizes_.data(); }
  const std::int64_t* end() const { return sizes_.data() + rank_; }
  std::string str() const;  ///< "[2, 3]"

  kernels::Extents extents() const;
  kernels::Strides steps() const;

  friend bool operator==(const Shape& a, const Shape& b) {
    return std::equal(a.begin(), a.end(), b.begin(), b.end());
  }
  friend std::ostream& operator<<(std::ostream& out, const Shape& shape) { return out << shape.str(); }

 private:
  std::array<std::int64_t, kernels::kMaxRank> sizes_{};
  int rank_ = 0;
};

/// Strides of a dense row-major tensor.
Shape contiguous_strides(const Shape& shape);

/// The common shape of a broadcast (numpy's rule); a usage error that names both shapes and `op` where there is none.
Shape broadcast(const Shape& a, const Shape& b, const char* op);
/// True when broadcast() has an answer.
bool can_broadcast(const Shape& a, const Shape& b);

}  // namespace sinter
