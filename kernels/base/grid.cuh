// How many blocks a launch takes.
#pragma once

#include <algorithm>
#include <cstdint>

namespace sinter::kernels {

constexpr std::int64_t ceil_div(std::int64_t n, std::int64_t d) { return (n + d - 1) / d; }

/// Blocks that a grid may have along x.
inline constexpr std::int64_t kMostBlocks = 0x7fffffff;

/// Blocks of a kernel that walks on. An emulated device gets few, so that in the tests every such kernel takes second
/// and third trips through its loop.
#ifdef __CUDACC__
inline constexpr std::int64_t kMostWalkingBlocks = kMostBlocks;
#else
inline constexpr std::int64_t kMostWalkingBlocks = 5;
#endif

/// Blocks along x for n > 0 pieces of work at `per_block` each, for kernels that walk on by the size of the grid where
/// it does not reach. Results do not depend on it.
constexpr unsigned walking_blocks(std::int64_t n, std::int64_t per_block) {
  return static_cast<unsigned>(std::min(ceil_div(n, per_block), kMostWalkingBlocks));
}

/// The same for kernels that do not walk on. n / per_block is at most kMostBlocks: the launcher refuses more, or more
/// do not fit into the memory of any device.
constexpr unsigned blocks_for(std::int64_t n, std::int64_t per_block) {
  return static_cast<unsigned>(ceil_div(n, per_block));
}

}  // namespace sinter::kernels
