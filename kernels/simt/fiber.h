// A stack of its own for each thread of an emulated block, and the switch between two of them (about 20 ns).
#pragma once

#include <cstddef>

namespace sinter::kernels::simt {

/// Runs `body` when it is first switched to. A body never returns: its last act is a switch to another fiber, after
/// which restart() makes the fiber fresh again. Under the address sanitizer every switch is announced to it.
class Fiber {
 public:
  /// The calling thread's own stack: a place to come back to.
  Fiber();
  /// A stack with a guard page below it. `number` shifts its top, so that the stacks of a block do not fight for the
  /// same cache sets.
  Fiber(void (*body)(), unsigned number);
  ~Fiber();
  Fiber(const Fiber&) = delete;
  Fiber& operator=(const Fiber&) = delete;

  /// The next switch enters the body from its beginning.
  void restart();
  /// Leaves `from`, on whose stack the caller runs; returns when somebody switches back to it.
  static void switch_between(Fiber& from, Fiber& to);
  /// What a body calls first.
  static void entered();

  const std::byte* stack() const { return stack_; }
  std::size_t stack_bytes() const { return bytes_; }

 private:
  void (*body_)() = nullptr;
  void* stack_pointer_ = nullptr;
  std::byte* stack_ = nullptr;   ///< lowest byte
  std::size_t bytes_ = 0;
  unsigned number_ = 0;
  bool owns_stack_ = false;
  void* fake_stack_ = nullptr;   ///< the address sanitizer's
};

}  // namespace sinter::kernels::simt
