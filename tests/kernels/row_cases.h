// What the tests of the row-wise kernels share: shapes, dropout sites, and maps of packed rows.
#pragma once

#include <cstdint>
#include <vector>

#include "kernels/base/philox.h"

namespace sinter::kernels::testing {

struct RowShape {
  std::int64_t rows, cols;
};

/// Column counts around every vector width and tail, row counts around the blocks of 64.
inline const std::vector<RowShape> kRowShapes = {{0, 7},   {1, 1},   {63, 7},    {64, 33},  {65, 100}, {200, 128},
                                                 {1, 770}, {65, 384}, {64, 768}, {63, 770}, {3, 2051}};

/// Memory of a dropout site's step and first sample.
struct DropoutSite {
  std::uint32_t step = 41;
  std::uint32_t first_sample = 1000;

  Dropout16 dropout(double p) const { return {0x123456789abcdefull, &step, &first_sample, 7, dropout_threshold(p)}; }
};

/// Rows of sequences with these lengths, one after the other without padding.
struct PackedRows {
  std::vector<std::int32_t> sample, position;

  explicit PackedRows(const std::vector<std::int32_t>& lengths) {
    for (std::size_t b = 0; b < lengths.size(); ++b)
      for (std::int32_t s = 0; s < lengths[b]; ++s) {
        sample.push_back(static_cast<std::int32_t>(b));
        position.push_back(s);
      }
  }
  std::int64_t rows() const { return static_cast<std::int64_t>(sample.size()); }
  RowMap map() const { return {sample.data(), position.data()}; }
};

}  // namespace sinter::kernels::testing
