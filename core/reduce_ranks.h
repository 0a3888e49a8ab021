// The reduction that every ProcessGroup on the host computes.
#pragma once

#include <cstdint>
#include <span>

#include "core/process_group.h"

namespace sinter {

/// Element i of every output, i in [0, numel), becomes ((x_0 + x_1) + x_2) + ..., or the maximum in which NaN wins, where
/// x_r is element i of inputs[r]. In the dtype, which is f32, f64, i64 or i32, with denormals flushed; integers wrap
/// around. At least one input. An output may be one of the inputs; otherwise they do not overlap. Allocates nothing.
void reduce_ranks(Dtype dtype, ReduceKind kind, std::span<const void* const> inputs, std::span<void* const> outputs,
                  std::int64_t numel) noexcept;

}  // namespace sinter
