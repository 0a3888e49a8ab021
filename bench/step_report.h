// What step_bench says of a training step: its time, and each kernel's beside what the device could do.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "core/io/json.h"
#include "core/runtime/launch_trace.h"

namespace sinter::bench {

/// The most that the device did in this run; 0 where it was not asked.
struct Ceilings {
  double copy = 0;    ///< bytes a second that a plain copy reads and writes
  double flops = 0;   ///< a second, of a large product in the step's dtype
};

struct StepReport {
  std::string device{}, backend{}, job{};
  std::int64_t samples = 0, tokens = 0;        ///< of a step
  std::vector<double> spans{};                 ///< milliseconds of a step, the mean of each span
  bool replayed = false;                       ///< the steps were graphs
  Ceilings ceilings{};
  std::vector<TracedLaunch> launches{};        ///< of one step, in their order
};

/// The shortest time, in microseconds, that a launch with this cost takes where nothing is in a cache: its bytes at
/// the speed of a copy or its FLOPs at that of a product, whichever takes longer. 0 without ceilings. Costs of
/// adamw and squared_norm count rows that an update leaves out (kernels/touched_rows.h), since only the device knows
/// these.
double floor_of(const kernels::Cost& cost, const Ceilings& ceilings);

/// Launches that belong together in a table: their sums.
struct StepRow {
  StepPhase phase{};
  std::string kernel{}, variant{}, module{};   ///< modules of different layers are one: "bert.encoder.layer.*.output"
  std::int64_t launches = 0;
  kernels::Cost cost{};
  double microseconds = 0, floor = 0;

  double above_floor() const { return microseconds - floor; }
};

/// A row for each phase.
std::vector<StepRow> phases(const StepReport& report);
/// A row for each kernel, variant and module of a phase: of each phase the slowest first.
std::vector<StepRow> kernels_of(const StepReport& report);

/// Everything in Markdown: the step, its phases, its kernels, and which of them is furthest above its floor.
std::string markdown(const StepReport& report);
/// The same with every launch.
Json to_json(const StepReport& report);

}  // namespace sinter::bench
