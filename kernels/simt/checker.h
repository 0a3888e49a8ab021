// Finds races, accesses out of bounds and reads of what was never written, in kernels that run on the emulated machine.
//
// Kernel files of the checked build are compiled with -fsanitize=thread, but the sanitizer's library is not linked: the
// compiler then calls the functions of checker_hooks.cpp at every load and store, and these come here. Nothing in a
// kernel changes: raw pointers and vector loads are seen like everything else.
//
// For each byte of device and shared memory the checker keeps whether it exists, whether it was written, and the last
// writer and reader: block, thread, barriers and warp syncs passed, code address. Two accesses of which one writes race
// unless they are ordered: by the same thread, by a barrier of the block, by a __syncwarp of their warp, by the end of
// a launch, or between blocks by a fence and an atomic after the first and an atomic before the second. Shuffles order
// nothing, as in CUDA.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <string>
#include <unordered_map>
#include <unordered_set>
#include <vector>

namespace sinter::kernels::simt {

class DeviceMemory;

#ifdef SINTER_SIMT_CHECKED
inline constexpr bool kChecked = true;
#else
inline constexpr bool kChecked = false;
#endif

class Checker {
 public:
  explicit Checker(const DeviceMemory& memory);
  ~Checker();
  Checker(const Checker&) = delete;
  Checker& operator=(const Checker&) = delete;

  void allocated(const std::byte* begin, std::size_t bytes);   ///< exists, never written
  void freed(const std::byte* begin, std::size_t bytes);
  void written_by_host(const void* begin, std::size_t bytes);

  void begin_launch();
  /// Shared memory as it is at the begin of a block: dynamic memory exists, static memory does not yet.
  void begin_block(const std::byte* static_shared, std::size_t static_bytes, const std::byte* dynamic_shared,
                   std::size_t dynamic_bytes);
  void static_shared_declared(const std::byte* begin, std::size_t bytes);
  /// Host memory that a kernel may touch: the stacks of its threads, the arguments, the machine's own state.
  void allow(const void* begin, std::size_t bytes);

  void access(const void* address, std::size_t bytes, bool write, const void* code);
  void atomic_access(const void* address, std::size_t bytes, const void* code);

  /// The checker whose kernel runs on this host thread; null while the machine itself or the host runs.
  static thread_local Checker* active;

  /// While one lives, the machine's code runs, whose accesses are nobody's business.
  class Pause {
   public:
    Pause() : paused_(active) { active = nullptr; }
    ~Pause() { active = paused_; }
    Pause(const Pause&) = delete;
    Pause& operator=(const Pause&) = delete;
    Checker* checker() const { return paused_; }

   private:
    Checker* paused_;
  };

 private:
  struct Access {
    std::uint32_t block = 0;        ///< serial number over all launches, from 1; 0: nobody yet
    std::int32_t code = 0;          ///< return address in the kernel, from this file's code
    std::uint16_t thread = 0, barriers = 0, warp_syncs = 0;
    bool atomic = false;
    enum Others : std::uint8_t { none, of_warp, of_block, of_other_blocks } others = none;   ///< readers before this
  };
  static_assert(sizeof(Access) == 16, "two of these stand for each byte of device memory");
  struct Last {
    Access writer, reader;
  };
  enum State : std::uint8_t { absent, unwritten, written };
  /// The bytes of one range of addresses.
  struct Region {
    const std::byte* begin = nullptr;
    std::size_t bytes = 0;      ///< that the kernel may touch
    std::size_t reserved = 0;   ///< of which every address belongs to this region
    State* states = nullptr;    ///< of each byte
    Last* last = nullptr;       ///< of each byte; what stems from earlier launches or blocks is ordered before all else
    bool shared = false;
    const char* name = "";
    bool contains(const std::byte* p) const { return static_cast<std::size_t>(p - begin) < reserved; }
  };

  void check(const std::byte* address, std::size_t bytes, bool write, bool atomic, const void* code);
  void check_byte(Region& region, const std::byte* address, const Access& now, bool write);
  bool ordered(const Access& before, const Access& now, bool shared) const;
  void refuse_host_memory(const std::byte* address, std::size_t bytes, const Access& now, bool write) const;
  [[noreturn]] void report_race(const Region& region, const std::byte* address, const Access& before, bool wrote,
                                const Access& now, bool writes) const;
  [[noreturn]] void report(const std::string& what, const std::string& where, const Access& now, bool write) const;
  std::string place_of(const Region& region, const std::byte* address) const;
  static Region reserve_region(std::size_t bytes, bool shared, const char* name);

  const DeviceMemory& memory_;
  Region device_, static_shared_, dynamic_shared_;
  std::uint32_t block_ = 0, first_block_of_launch_ = 1;
  /// Blocks whose writes before a fence are published at an atomic's address, and those that this block has seen.
  std::unordered_map<const void*, std::unordered_set<std::uint32_t>> published_;
  std::unordered_set<std::uint32_t> seen_;
  std::map<const std::byte*, std::size_t> allowed_;   // host memory
};

}  // namespace sinter::kernels::simt
