// What scale_bench times between ranks.
#pragma once

#include <cstdint>
#include <vector>

#include "bench/scale_report.h"
#include "core/process_group.h"

namespace sinter::bench {

/// The greatest of every rank's values, one by one. Every rank calls it with equally many.
std::vector<double> slowest(ProcessGroup& ranks, const std::vector<double>& seconds);

/// all_reduce, reduce_scatter, all_gather (in place) and broadcast of f32 on `device`: sizes from `least` to `most`
/// bytes, each four times the one before, rounded down to whole elements for every rank. Every rank calls it.
std::vector<CollectiveTime> time_collectives(ProcessGroup& ranks, Device device, std::int64_t least, std::int64_t most,
                                             std::int64_t repetitions);

}  // namespace sinter::bench
