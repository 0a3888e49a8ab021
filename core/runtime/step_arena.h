// A training step as one graph: memory planned once, launches recorded once, both used again and again.
//
//   StepArena arena(Device::cuda());
//   StepPlan plan = arena.observe(step);        // an ordinary run, of which the lifetimes of all tensors are noted
//   StepGraph graph = arena.capture(plan, step);  // the same host code; nothing is computed
//   for (...) { fill the inputs in place; graph.launch(); }
//
// A step takes its inputs from memory that it did not make, and leaves its results in such memory; what changes from
// step to step are the contents. Its work goes into the device's stream, or into one that follows it there and which it
// waits for before memory is given back.
#pragma once

#include <cstddef>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "core/device.h"
#include "core/storage.h"
#include "kernels/base/stream.h"

namespace sinter {

/// Memory that a step takes and gives back. Times count its allocations and deallocations.
struct StepPiece {
  std::size_t bytes = 0;      ///< rounded up to kernels' alignment
  std::size_t begin = 0, end = 0;   ///< alive in [begin, end); end 0: outlived the step
  std::size_t offset = 0;     ///< in the arena
  std::string owner{};        ///< "gelu in bert.encoder.layer.3.intermediate"
};

/// Where all temporaries of a step lie, in the order in which it takes them.
struct StepPlan {
  std::vector<StepPiece> pieces{};
  std::size_t bytes = 0;      ///< of the arena
  /// The owners of memory that outlived the observed run: such a step cannot be captured.
  std::vector<std::string> kept{};
};

/// Gives every piece an offset such that those which are alive together do not overlap: the largest first, each at the
/// lowest place where it fits. Sets plan.bytes.
void place(StepPlan& plan);

/// True while the calling thread captures a step of `device`: what it launches there is recorded and does not run.
bool is_captured(Device device);

/// The recorded work of a step. Lives no longer than the process's devices.
class StepGraph {
 public:
  StepGraph() = default;
  StepGraph(StepGraph&& other) noexcept;
  StepGraph& operator=(StepGraph&& other) noexcept;
  ~StepGraph();

  explicit operator bool() const { return graph_.handle != nullptr; }
  /// Puts all of it into the device's stream. The host does not wait.
  void launch() const;

 private:
  friend class StepArena;
  Device device_;
  kernels::Graph graph_;
  std::shared_ptr<Storage> memory_;   // of its temporaries
};

/// The temporaries of the captured steps of one device: they follow each other in its stream, so all lie at the same
/// addresses. It grows with the largest step; graphs that were captured before keep the memory they had.
class StepArena {
 public:
  /// Error(unsupported) for the CPU, which has no graphs.
  explicit StepArena(Device device);

  /// Runs `step` and notes what the calling thread takes of the device's memory.
  StepPlan observe(const std::function<void()>& step);
  /// Records `step`. It must do the same as when it was observed, and nothing of it is computed. Error(unsupported),
  /// which names the op and its module, for a step that waits for the device, copies from or to the host, or leaves a
  /// tensor alive; Error(internal) for one that takes other memory than the plan says.
  StepGraph capture(const StepPlan& plan, const std::function<void()>& step);

  /// False when the arena has grown since: a step that is captured anew shares the memory of the others again.
  bool holds(const StepGraph& graph) const { return graph.memory_ == memory_; }
  std::size_t bytes() const { return memory_ == nullptr ? 0 : memory_->bytes(); }
  /// Fills the arena with 0xff bytes (NaN), behind what is in the stream: for tests that nothing lives in it between
  /// two steps.
  void poison();

 private:
  Device device_;
  std::shared_ptr<Storage> memory_;
};

}  // namespace sinter
