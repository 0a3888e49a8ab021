// Tables of whose rows a training step touches few, as the word table of a language model: their gradient is zero but
// in rows that are marked, so that nobody needs to read, write or zero the others.
#pragma once

#include "kernels/base/dtype.h"
#include "kernels/base/kernel.h"
#include "kernels/base/on_device.h"

namespace sinter::kernels {

/// A table [rows, cols] in a flat buffer, of whose gradient every row is zero whose mark is 0.
struct TouchedRows {
  std::int64_t begin = 0, rows = 0, cols = 0;   ///< elements begin .. begin + rows * cols - 1
  const std::int32_t* touched = nullptr;        ///< [rows], 0 or 1, device memory; null: there is no such table
};

/// Whether elements [begin, end) of the buffer, at least one, all belong to the table.
SINTER_HOST_DEVICE inline bool lies_inside(const TouchedRows& p, std::int64_t begin, std::int64_t end) {
  return p.touched != nullptr && begin >= p.begin && end <= p.begin + p.rows * p.cols;
}
/// The row of an element of the buffer that belongs to the table.
SINTER_HOST_DEVICE inline std::int64_t row_of(const TouchedRows& p, std::int64_t element) {
  return (element - p.begin) / p.cols;
}

/// touched[ids[i]] = 1. ids i64 [n], in any order, repeated or not. For one outside [0, rows) the CPU answers
/// invalid_argument before anything is written; on CUDA the kernel stops itself.
struct MarkRows {
  static constexpr KernelId id = KernelId::mark_rows;
  std::int64_t rows = 0, n = 0;
  const std::int64_t* ids = nullptr;
  std::int32_t* touched = nullptr;
};

/// Rows of `table` [rows, cols] whose mark is 1 become zero, and every mark 0. Every dtype.
struct ZeroRows {
  static constexpr KernelId id = KernelId::zero_rows;
  Dtype dtype = Dtype::f32;
  std::int64_t rows = 0, cols = 0;
  std::int32_t* touched = nullptr;
  void* table = nullptr;
};

constexpr Status check(const TouchedRows& p) {
  if (p.begin < 0 || p.rows < 0 || p.cols < 0) return invalid("a table's place and sizes must not be negative");
  return {};
}
constexpr Status check(const MarkRows& p) {
  return p.rows < 0 || p.n < 0 ? invalid("a size must not be negative") : Status{};
}
constexpr Status check(const ZeroRows& p) {
  return p.rows < 0 || p.cols < 0 ? invalid("a size must not be negative") : Status{};
}

constexpr Cost cost(const MarkRows& p) {
  const double n = static_cast<double>(p.n);
  return {8 * n, 4 * n, 0};
}
/// Of the marks alone: how many rows are touched is not known here.
constexpr Cost cost(const ZeroRows& p) { return {4 * static_cast<double>(p.rows), 0, 0}; }

}  // namespace sinter::kernels
