// The borders of every sum over the rows of a matrix, on every backend.
#pragma once

#include <cstdint>

namespace sinter::kernels {

/// Rows of one partial sum.
inline constexpr std::int64_t kColumnSumRows = 64;

constexpr std::int64_t column_blocks(std::int64_t rows) { return (rows + kColumnSumRows - 1) / kColumnSumRows; }

}  // namespace sinter::kernels
