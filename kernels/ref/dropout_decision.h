// The dropout decision of one element of a [rows, cols] buffer, one Philox block at a time.
#pragma once

#include "kernels/base/philox.h"

namespace sinter::kernels::ref {

/// What element (r, c) is multiplied by: 0 where it is dropped, else the scale (1 without dropout).
inline double dropout_factor(const Dropout16& dropout, const RowMap& map, std::int64_t cols, std::int64_t r,
                             std::int64_t c) {
  if (!dropout.active()) return 1;
  const std::uint32_t first = dropout.first_sample == nullptr ? 0 : *dropout.first_sample;
  const auto sample = static_cast<std::uint32_t>(map.sample == nullptr ? r : map.sample[r]);
  const std::int64_t position = map.position == nullptr ? 0 : map.position[r];
  const std::int64_t element = position * cols + c;
  const auto block = static_cast<std::uint32_t>(element / 8);
  const std::uint32_t kept = dropout_keep8(dropout, *dropout.step, first + sample, block) >> (element % 8) & 1u;
  return kept != 0 ? dropout.scale() : 0;
}

}  // namespace sinter::kernels::ref
