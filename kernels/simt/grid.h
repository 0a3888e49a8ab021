// Runs the blocks of one launch, one after the other, and the threads of a block as fibers.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "kernels/simt/device.h"
#include "kernels/simt/machine.h"
#include "kernels/simt/shared_memory.h"

namespace sinter::kernels::simt {

enum class Collective : std::uint8_t { shuffle, vote, reduce, sync, mma, ldmatrix };

/// A warp collective for which some lanes wait.
struct PendingCollective {
  bool used = false;
  Collective kind = Collective::sync;
  std::uint32_t mask = 0, arrived = 0;
  Place place;
  void* operands[kWarpLanes] = {};   ///< of each lane, on its stack
};

struct Warp {
  static constexpr int kMostPending = 4;   ///< a warp's parts may stand at different ones

  Thread* lanes[kWarpLanes] = {};
  std::uint32_t existing = 0, ended = 0;
  PendingCollective pending[kMostPending];

  std::uint32_t expected(const PendingCollective& collective) const { return collective.mask & existing & ~ended; }
};

/// One for each host thread, kept for its fibers.
class Grid {
 public:
  static Grid& of_this_thread();

  /// Runs the launch; "" or the report of the fault that ended it.
  std::string run(Device& device, const Launch& launch);

  // For the functions of machine.h, which run on the fiber of current_thread.
  int barrier(Combine combine, bool predicate, const Place& place);
  void collective(Collective kind, std::uint32_t mask, void* operands, const Place& place);
  SharedMemory& shared_memory() { return shared_; }
  Device& device() { return *device_; }
  enum class Describe : std::uint8_t { nothing, threads };
  /// Leaves the block; `what` may stand on the fiber's stack.
  [[noreturn]] void fail(const char* what, Describe describe = Describe::nothing, const Place* place = nullptr);

 private:
  Grid() = default;

  void begin_block(std::uint64_t number);
  [[noreturn]] static void fiber_body();
  void run_threads();                       ///< on a fiber: fresh threads, as long as there are some
  void end_thread(Thread& thread);
  void park(Thread::State state, const Place& place);
  void make_ready(Thread& thread);
  Thread* next_ready();
  Fiber* next_fiber();                      ///< of a ready thread or for a fresh one; null: nobody can run
  Fiber& idle_fiber();
  void switch_to(Fiber& fiber);
  void release_barrier(const Thread* last);
  void complete(Warp& warp, PendingCollective& collective, const Thread* last);
  std::string describe_threads() const;
  std::uint64_t random();

  Device* device_ = nullptr;
  const Launch* launch_ = nullptr;
  SharedMemory shared_;

  Fiber* running_ = nullptr;
  std::unique_ptr<Fiber> main_;
  std::vector<std::unique_ptr<Fiber>> fibers_;
  std::vector<Fiber*> idle_;

  std::vector<Thread> threads_;
  std::vector<Warp> warps_;
  std::vector<std::uint32_t> start_order_;
  std::size_t started_ = 0, alive_ = 0;
  std::vector<Thread*> ready_;              // a ring
  std::size_t ready_begin_ = 0, ready_count_ = 0;

  std::vector<Thread*> at_barrier_;
  Place barrier_place_;
  int barrier_count_ = 0, barrier_result_ = 0;
  bool barrier_all_ = true;

  std::uint64_t random_state_ = 1;
  const char* fault_ = nullptr;
  Describe fault_describe_ = Describe::nothing;
  const Place* fault_place_ = nullptr;
};

}  // namespace sinter::kernels::simt
