// What a step takes of a device's memory while it is observed or captured. Private to core/runtime.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <unordered_map>
#include <vector>

#include "core/device.h"
#include "core/runtime/step_arena.h"

namespace sinter {

/// Stands between the tensors of one thread and the allocator of one device, from construction to destruction.
/// Observing, memory comes from the allocator, and its lifetimes are noted. Capturing, the n-th allocation gets the
/// n-th place of a plan.
class StepRecorder {
 public:
  explicit StepRecorder(Device device);
  StepRecorder(Device device, const StepPlan& plan, std::shared_ptr<Storage> arena);
  ~StepRecorder();
  StepRecorder(const StepRecorder&) = delete;
  StepRecorder& operator=(const StepRecorder&) = delete;

  /// That of the calling thread, if it is for `device`; else null.
  static StepRecorder* active(Device device);
  bool capturing() const { return plan_ != nullptr; }
  /// The number of this recording in the process, from 1; 0 observing. Memory that was taken from the arena is given
  /// back to the recorder with this number and to nobody else.
  std::uint64_t capture() const { return capture_; }
  /// Null observing.
  const std::shared_ptr<Storage>& arena() const { return arena_; }

  void* allocate(std::size_t bytes);
  void deallocate(void* memory);
  /// Error(unsupported): "a captured step cannot <what>", and which op and module wants to.
  [[noreturn]] void refuse(const std::string& what) const;

  /// The lifetimes as a plan, observing. What is still alive has no end in it.
  StepPlan plan() const;
  /// Error(unsupported) that names a tensor which outlives the captured step, and Error(internal) where the step was
  /// another one than that of the plan.
  void check_end() const;

 private:
  Device device_;
  const StepPlan* plan_ = nullptr;
  std::shared_ptr<Storage> arena_;
  std::uint64_t capture_ = 0;
  StepRecorder* before_;
  std::vector<StepPiece> pieces_;   // observed
  std::unordered_map<void*, std::size_t> alive_;   // by number of the allocation
  std::size_t next_ = 0;            // allocations so far
  std::size_t time_ = 0;            // allocations and deallocations so far
  std::string problem_;             // that a destructor could not throw
};

}  // namespace sinter
