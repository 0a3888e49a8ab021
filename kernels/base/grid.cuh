// How many blocks a launch takes.
#pragma once

#include <algorithm>
#include <cstdint>

namespace sinter::kernels {

constexpr std::int64_t ceil_div(std::int64_t n, std::int64_t d) { return (n + d - 1) / d; }

/// Blocks along x for n > 0 pieces of work at `per_block` each. Kernels walk on by the size of the grid where that is
/// more than a grid may have.
constexpr unsigned blocks_for(std::int64_t n, std::int64_t per_block) {
  return static_cast<unsigned>(std::min<std::int64_t>(ceil_div(n, per_block), 0x7fffffff));
}

}  // namespace sinter::kernels
