#include "core/runtime/allocator.h"

#include <cstring>

#include "core/error.h"

namespace sinter {
namespace {

#ifdef __SANITIZE_ADDRESS__
constexpr bool kCache = false;
#else
constexpr bool kCache = true;
#endif

constexpr std::size_t kGranule = 256;

std::size_t rounded(std::size_t bytes) {
  if (bytes > SIZE_MAX / 2) fail(ErrorCode::out_of_memory, "a tensor of ", bytes, " bytes was asked for");
  return (bytes + kGranule - 1) / kGranule * kGranule;
}

}  // namespace

CachingAllocator::~CachingAllocator() { release_cached(); }

void* CachingAllocator::allocate(std::size_t bytes) {
  if (bytes == 0) return nullptr;
  std::size_t size = rounded(bytes);
  const std::lock_guard guard(lock_);
  ++stats_.allocations;
  void* memory = nullptr;
  if (const auto fit = free_.lower_bound(size); fit != free_.end() && fit->first < 2 * size) {
    size = fit->first;
    memory = fit->second;
    free_.erase(fit);
    stats_.cached -= size;
  } else {
    ++stats_.device_allocations;
    kernels::Status status = api_.allocate(device_, size, &memory);
    if (!status.ok() && stats_.cached > 0) {  // the cache may hold what is missing
      for (const auto& [cached_size, block] : free_) api_.deallocate(device_, block);
      free_.clear();
      stats_.cached = 0;
      status = api_.allocate(device_, size, &memory);
    }
    if (!status.ok())
      fail(ErrorCode::out_of_memory, status.what, ": ", size, " bytes were asked for, ", stats_.in_use, " are in use");
  }
  sizes_.emplace(memory, size);
  stats_.in_use += size;
  stats_.peak_in_use = std::max(stats_.peak_in_use, stats_.in_use);
  if (poison_) std::memset(memory, 0xff, size);
  return memory;
}

void CachingAllocator::deallocate(void* memory) {
  if (memory == nullptr) return;
  const std::lock_guard guard(lock_);
  const auto found = sizes_.find(memory);
  const std::size_t size = found->second;
  sizes_.erase(found);
  stats_.in_use -= size;
  if (!kCache) return api_.deallocate(device_, memory);
  free_.emplace(size, memory);
  stats_.cached += size;
}

void CachingAllocator::release_cached() {
  const std::lock_guard guard(lock_);
  for (const auto& [size, block] : free_) api_.deallocate(device_, block);
  free_.clear();
  stats_.cached = 0;
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
