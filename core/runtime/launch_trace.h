// Which kernels a piece of work launches, and how long each runs.
//
//   LaunchTrace trace(Device::cuda());
//   step();                                  // whatever the calling thread launches there
//   trace.stop();
//   for (const TracedLaunch& launch : trace.launches()) ...
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "core/device.h"
#include "kernels/base/kernel.h"

namespace sinter {

/// Part of a training step that a kernel belongs to. update: what no op of the model or of its loss launches, as
/// gradient norms, the optimizer, and setting gradients to zero.
enum class StepPhase : std::uint8_t { forward, backward, update };
/// "forward", "backward", "update".
const char* name(StepPhase phase);

struct TracedLaunch {
  StepPhase phase = StepPhase::forward;
  kernels::KernelId kernel{};
  const char* variant = "";     ///< of the kernel
  std::string op{};             ///< whose forward or backward launched it, or a phrase as "AdamW"
  std::string module{};         ///< "bert.encoder.layer.3.output"; empty outside of modules
  kernels::Cost cost{};         ///< of the contract: what must be moved and computed
  double microseconds = 0;      ///< from when the stream reaches the launch to when it has left it behind
};

/// Notes and times every kernel that the calling thread launches on one device, from construction to stop(). Launches
/// of a captured step are traced while it is captured, and timed anew at each of its replays, the last of which this
/// must outlive. The times become part of the graph, which makes it slower: time the whole of a step by one that was
/// captured without.
///
/// Times of a GPU come from its own clock, which ticks in half microseconds or less, and contain the gap before a
/// kernel. Memory that is copied or filled without a kernel is not traced. Traces of a thread may be nested; the inner
/// one notes.
class LaunchTrace {
 public:
  explicit LaunchTrace(Device device);
  ~LaunchTrace();
  LaunchTrace(const LaunchTrace&) = delete;
  LaunchTrace& operator=(const LaunchTrace&) = delete;

  /// By the thread that made it. May be called again.
  void stop();
  /// Waits for the device. In the order of the launches, with the times of their last run. Error(usage) while it still
  /// traces, or where a captured step never ran.
  std::vector<TracedLaunch> launches() const;

  /// That of the calling thread, if it traces `device`; else null. These three are for Runtime.
  static LaunchTrace* active(Device device);
  void begin(kernels::KernelId id, const kernels::Variant& variant, const kernels::Cost& cost, const char* op);
  void end();

 private:
  void record_time();

  Device device_;
  LaunchTrace* before_ = nullptr;
  bool tracing_ = true;
  std::vector<TracedLaunch> launches_;
  std::vector<kernels::Event> events_;   // before and behind each launch
};

}  // namespace sinter
