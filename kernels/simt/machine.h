// What device code calls when it runs on the emulated machine: the CUDA execution model, one fiber for each thread of a
// block, block after block on one host thread. kernels/simt/emulation.cuh gives these functions CUDA's names.
//
// A thread runs until it needs others (a barrier, a warp collective) and parks there; the last one to arrive does the
// work for all. Every collective knows its source line, so a report of divergence or deadlock names lines and threads.
#pragma once

#include <cstddef>
#include <cstdint>
#include <source_location>
#include <vector>

namespace sinter::kernels::simt {

class Fiber;
struct Warp;
using Place = std::source_location;

inline constexpr unsigned kWarpLanes = 32;
inline constexpr std::uint32_t kFullMask = 0xffffffffu;

/// uint3 and dim3.
struct Index3 {
  unsigned x = 0, y = 0, z = 0;
};
struct Extent3 {
  unsigned x = 1, y = 1, z = 1;
  std::uint64_t count() const { return std::uint64_t{x} * y * z; }
};

/// A cp.async that has not landed.
struct AsyncCopy {
  void* to;
  const void* from;
  std::uint32_t bytes, valid;   ///< bytes behind `valid` become 0
  std::uint32_t group;
};

/// One CUDA thread of the block that runs.
struct Thread {
  enum class State : std::uint8_t { fresh, running, at_barrier, at_collective, ended };

  Index3 index;
  std::uint32_t linear = 0, lane = 0;
  Warp* warp = nullptr;
  Fiber* fiber = nullptr;
  State state = State::fresh;
  Place place;                        ///< of the barrier or collective at which it waits
  std::uint32_t barriers = 0;         ///< passed
  std::uint32_t warp_syncs = 0;       ///< passed
  bool fenced = false;                ///< called __threadfence
  std::vector<AsyncCopy> copies;
  std::uint32_t copy_group = 0;       ///< number of committed groups
};

struct BlockPosition {
  Index3 block;
  Extent3 block_dim, grid_dim;
};

// Read at every threadIdx and blockIdx, hence the cheapest model, and no check whether they must be initialised first.
extern constinit thread_local __attribute__((tls_model("initial-exec"))) Thread* current_thread;
extern constinit thread_local __attribute__((tls_model("initial-exec"))) BlockPosition current_block;

enum class Combine : std::uint8_t { count, all, any };
/// __syncthreads and its reductions. Every thread of the block must call it, at one line, and none may have ended.
int barrier(Combine combine, bool predicate, const Place& place);

enum class Shuffle : std::uint8_t { index, up, down, exclusive_or };
/// __shfl_*_sync on the bits of a value. A source lane outside the mask gives 0xdeadbeef... (CUDA: undefined).
std::uint64_t shuffle(Shuffle kind, std::uint32_t mask, std::uint64_t bits, int lane, int width, const Place& place);

enum class Vote : std::uint8_t { ballot, all, any };
std::uint32_t vote(Vote kind, std::uint32_t mask, bool predicate, const Place& place);

enum class WarpReduce : std::uint8_t { add, max, min };
std::uint32_t warp_reduce(WarpReduce kind, std::uint32_t mask, std::uint32_t value, const Place& place);

void sync_warp(std::uint32_t mask, const Place& place);

enum class Half : std::uint8_t { f16, bf16 };
/// mma.sync.m16n8k16 with f32 accumulation: d = a b + c, in the fragment layout of the PTX manual. A whole warp.
void warp_mma(Half type, float (&d)[4], const std::uint32_t (&a)[4], const std::uint32_t (&b)[2],
                  const float (&c)[4], const Place& place);

/// ldmatrix.x4 (.trans): lane l gives the address of row l of four 8 x 8 matrices of 16-bit elements. A whole warp.
void warp_ldmatrix(std::uint32_t (&r)[4], const void* row, bool transpose, const Place& place);

/// cp.async: `bytes` (4, 8 or 16) from global to shared memory, of which `valid` are read and the rest becomes 0. With
/// Options::late_copies they land at the wait, as late as the machine may.
void copy_async(void* to, const void* from, std::uint32_t bytes, std::uint32_t valid, const Place& place);
void commit_copy_group();
/// Waits until at most `groups` committed groups of this thread are under way.
void wait_for_copies(std::uint32_t groups);

/// Static shared memory: one array for each `key` (the address of a variable at the declaration).
void* static_shared(const void* key, std::size_t bytes);
void* dynamic_shared();

void thread_fence();
/// What an atomic operation at `address` does to the order of memory; called before it.
void atomic_access(const void* address, std::size_t bytes);

/// Ends the launch with a report. `what` is one sentence; the block and the thread are added.
[[noreturn]] void fault(const char* what);

}  // namespace sinter::kernels::simt
