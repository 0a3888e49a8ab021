#include "core/runtime/allocator.h"

#include <algorithm>
#include <iterator>

#include "core/error.h"
#include "core/runtime/kernel_error.h"

namespace sinter {
namespace {

#ifdef __SANITIZE_ADDRESS__
constexpr bool kMayCache = false;
#else
constexpr bool kMayCache = true;
#endif

constexpr std::size_t kGranule = 256;
constexpr std::size_t kSmall = std::size_t{64} << 10;
constexpr std::size_t kSmallSegment = std::size_t{2} << 20;
constexpr std::size_t kSegment = std::size_t{32} << 20;

std::size_t rounded(std::size_t bytes, std::size_t granule) {
  if (bytes > SIZE_MAX / 2) fail(ErrorCode::out_of_memory, "a tensor of ", bytes, " bytes was asked for");
  return (bytes + granule - 1) / granule * granule;
}

}  // namespace

CachingAllocator::CachingAllocator(const kernels::DeviceApi& api, int device, kernels::Stream stream)
    : api_(api), device_(device), stream_(stream), caches_(kMayCache && !api.cheap_allocation()) {}

CachingAllocator::~CachingAllocator() { release_cached(); }

void* CachingAllocator::allocate(std::size_t bytes) {
  if (bytes == 0) return nullptr;
  const std::size_t size = rounded(bytes, caches_ ? kGranule : 1);
  const bool small = size <= kSmall;
  const std::lock_guard guard(lock_);
  ++stats_.allocations;
  auto piece = find_free(size, small);
  if (piece == pieces_.end()) piece = new_segment(size, small);
  split(piece, size);
  piece->second.in_use = true;
  stats_.cached -= size;
  stats_.in_use += size;
  stats_.peak_in_use = std::max(stats_.peak_in_use, stats_.in_use);
  if (poison_) {
    const kernels::Status status = api_.fill(device_, piece->first, 0xff, size, stream_);
    if (!status.ok()) fail(ErrorCode::device, "filling new memory: ", status.what);
  }
  return piece->first;
}

void CachingAllocator::deallocate(void* memory) {
  if (memory == nullptr) return;
  const std::lock_guard guard(lock_);
  auto piece = pieces_.find(static_cast<std::byte*>(memory));
  piece->second.in_use = false;
  stats_.in_use -= piece->second.size;
  stats_.cached += piece->second.size;
  piece = merged_with_neighbours(piece);
  free_[piece->second.small].emplace(piece->second.size, piece->first);
  if (!caches_) release_free_segments();
}

/// The smallest free piece of at least `size` bytes, no longer among the free ones; the end where there is none.
CachingAllocator::Pieces::iterator CachingAllocator::find_free(std::size_t size, bool small) {
  Free& free = free_[small];
  const auto fit = free.lower_bound({size, nullptr});
  if (fit == free.end()) return pieces_.end();
  const auto piece = pieces_.find(fit->second);
  free.erase(fit);
  return piece;
}

/// A tensor of more than half a segment has one of its own size.
std::size_t CachingAllocator::segment_bytes(std::size_t size, bool small) const {
  if (!caches_) return size;
  if (small) return kSmallSegment;
  return size <= kSegment / 2 ? kSegment : size;
}

CachingAllocator::Pieces::iterator CachingAllocator::new_segment(std::size_t size, bool small) {
  ++stats_.device_allocations;
  std::size_t bytes = segment_bytes(size, small);
  void* memory = nullptr;
  kernels::Status status = api_.allocate(device_, bytes, &memory);
  if (!status.ok()) {  // free segments may hold what is missing, and the whole segment may be more than is needed
    release_free_segments();
    bytes = size;
    status = api_.allocate(device_, bytes, &memory);
  }
  if (!status.ok())   // after a kernel's fault it is that, and no lack of memory
    fail(error_code(status.code), status.what, ": ", size, " bytes were asked for, ", stats_.in_use,
         " are in use and ", stats_.cached, " cached");
  stats_.cached += bytes;
  return pieces_
      .emplace(static_cast<std::byte*>(memory), Piece{.size = bytes, .small = small, .begins_segment = true})
      .first;
}

/// Leaves `size` bytes to the piece; the rest becomes a free one behind it.
void CachingAllocator::split(Pieces::iterator piece, std::size_t size) {
  const std::size_t rest = piece->second.size - size;
  if (rest == 0) return;
  piece->second.size = size;
  std::byte* const begin = piece->first + size;
  pieces_.emplace_hint(std::next(piece), begin,
                       Piece{.size = rest, .small = piece->second.small, .begins_segment = false});
  free_[piece->second.small].emplace(rest, begin);
}

/// One piece of the free `piece` and of the free ones beside it, which are no longer among the free ones.
CachingAllocator::Pieces::iterator CachingAllocator::merged_with_neighbours(Pieces::iterator piece) {
  Free& free = free_[piece->second.small];
  const auto after = std::next(piece);
  if (after != pieces_.end() && !after->second.begins_segment && !after->second.in_use) {
    free.erase({after->second.size, after->first});
    piece->second.size += after->second.size;
    pieces_.erase(after);
  }
  if (piece->second.begins_segment) return piece;
  const auto before = std::prev(piece);
  if (before->second.in_use) return piece;
  free.erase({before->second.size, before->first});
  before->second.size += piece->second.size;
  pieces_.erase(piece);
  return before;
}

bool CachingAllocator::is_whole_segment(Pieces::iterator piece) const {
  const auto after = std::next(piece);
  return piece->second.begins_segment && (after == pieces_.end() || after->second.begins_segment);
}

void CachingAllocator::release_free_segments() {
  for (auto piece = pieces_.begin(); piece != pieces_.end();) {
    const auto [begin, found] = *piece;
    if (found.in_use || !is_whole_segment(piece)) {
      ++piece;
      continue;
    }
    api_.deallocate(device_, begin);
    free_[found.small].erase({found.size, begin});
    stats_.cached -= found.size;
    piece = pieces_.erase(piece);
  }
}

void CachingAllocator::release_cached() {
  const std::lock_guard guard(lock_);
  release_free_segments();
}

MemoryStats CachingAllocator::stats() const {
  const std::lock_guard guard(lock_);
  return stats_;
}

void CachingAllocator::reset_peak() {
  const std::lock_guard guard(lock_);
  stats_.peak_in_use = stats_.in_use;
}

}  // namespace sinter
