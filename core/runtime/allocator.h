// Device memory in segments, of which tensors take pieces and to which they give them back.
#pragma once

#include <cstddef>
#include <map>
#include <mutex>
#include <set>
#include <utility>

#include "kernels/base/kernel.h"

namespace sinter {

/// Bytes, counted since the allocator was made; `peak_in_use` since reset_peak().
struct MemoryStats {
  std::size_t in_use = 0;
  std::size_t peak_in_use = 0;
  std::size_t cached = 0;               ///< in segments and not in use
  std::size_t allocations = 0;          ///< calls of allocate()
  std::size_t device_allocations = 0;   ///< of them, those for which the device made a segment
};

/// Best fit among the free pieces of all segments; what is left of a piece stays free, and neighbours that are free
/// become one. So batches of other lengths, whose tensors are all a little larger or smaller, live in the segments of
/// the batches before them. Tensors of up to 64 KiB have segments of their own, because the few that outlive a step
/// would cut the others in parts. Thread-safe. Under the address sanitizer, and where the device says that it allocates
/// cheaply, every tensor is a segment that is given back at once, so that every use after free shows.
///
/// Memory is given back while work that uses it may still wait in the device's stream. Its next owner's work comes
/// later in the same stream, so nothing has to wait; work of another stream must wait for an event between the two.
class CachingAllocator {
 public:
  /// `stream` is the one in which the memory is used.
  CachingAllocator(const kernels::DeviceApi& api, int device, kernels::Stream stream = {});
  ~CachingAllocator();
  CachingAllocator(const CachingAllocator&) = delete;
  CachingAllocator& operator=(const CachingAllocator&) = delete;

  /// 64-byte aligned; null for 0 bytes. Throws Error(out_of_memory) with the sizes in use and
  /// cached, or Error(device) with the device's words on earlier work.
  void* allocate(std::size_t bytes);
  void deallocate(void* memory);
  /// Gives every segment of which nothing is in use back to the device.
  void release_cached();
  MemoryStats stats() const;
  void reset_peak();
  /// Fills every piece with 0xff bytes (NaN) before it is handed out: a debugging aid that shows unwritten outputs.
  void set_poison(bool on) { poison_ = on; }

 private:
  struct Piece {
    std::size_t size;
    bool small;            ///< of a segment for small tensors
    bool begins_segment;
    bool in_use = false;
  };
  using Pieces = std::map<std::byte*, Piece>;
  using Free = std::set<std::pair<std::size_t, std::byte*>>;

  Pieces::iterator find_free(std::size_t size, bool small);
  std::size_t segment_bytes(std::size_t size, bool small) const;
  Pieces::iterator new_segment(std::size_t size, bool small);
  void split(Pieces::iterator piece, std::size_t size);
  Pieces::iterator merged_with_neighbours(Pieces::iterator piece);
  bool is_whole_segment(Pieces::iterator piece) const;
  void release_free_segments();

  const kernels::DeviceApi& api_;
  int device_;
  kernels::Stream stream_;
  bool caches_;
  bool poison_ = false;
  mutable std::mutex lock_;
  Pieces pieces_;     // every byte of every segment, by address
  Free free_[2];      // of large and of small tensors, by size
  MemoryStats stats_;
};

}  // namespace sinter
