// Device memory that is kept for the next tensor of about the same size.
#pragma once

#include <cstddef>
#include <map>
#include <mutex>
#include <unordered_map>

#include "kernels/base/kernel.h"

namespace sinter {

/// Bytes, counted since the allocator was made; `peak_in_use` since reset_peak().
struct MemoryStats {
  std::size_t in_use = 0;
  std::size_t peak_in_use = 0;
  std::size_t cached = 0;
  std::size_t allocations = 0;          ///< calls of allocate()
  std::size_t device_allocations = 0;   ///< of them, served by the device and not by the cache
};

/// Best fit among freed blocks of less than twice the size (a fresh malloc for every tensor costs a page fault for
/// each 4 KiB). Thread-safe. Under the address sanitizer nothing is cached, so that every use after free shows.
class CachingAllocator {
 public:
  CachingAllocator(const kernels::DeviceApi& api, int device) : api_(api), device_(device) {}
  ~CachingAllocator();
  CachingAllocator(const CachingAllocator&) = delete;
  CachingAllocator& operator=(const CachingAllocator&) = delete;

  /// 64-byte aligned; null for 0 bytes. Throws Error(out_of_memory) with the sizes in use and cached.
  void* allocate(std::size_t bytes);
  void deallocate(void* memory);
  /// Gives every cached block back to the device.
  void release_cached();
  MemoryStats stats() const;
  void reset_peak();
  /// Fills every block with 0xff bytes (NaN) before it is handed out: a debugging aid that shows unwritten outputs.
  void set_poison(bool on) { poison_ = on; }

 private:
  const kernels::DeviceApi& api_;
  int device_;
  bool poison_ = false;
  mutable std::mutex lock_;
  std::multimap<std::size_t, void*> free_;
  std::unordered_map<void*, std::size_t> sizes_;  // every block in use
  MemoryStats stats_;
};

}  // namespace sinter
