#include "kernels/simt/memory.h"

#include <sys/mman.h>

#include <algorithm>
#include <cstring>
#include <new>

#include "kernels/simt/checker.h"

#ifdef __SANITIZE_ADDRESS__
#include <sanitizer/asan_interface.h>
#endif

namespace sinter::kernels::simt {
namespace {

constexpr std::size_t kPage = 4096;

std::size_t rounded(std::size_t bytes, std::size_t granule) { return (bytes + granule - 1) / granule * granule; }

}  // namespace

DeviceMemory::DeviceMemory() {
  const int access = kChecked ? PROT_NONE : PROT_READ | PROT_WRITE;
  void* range = mmap(nullptr, kReserved, access, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (range == MAP_FAILED) throw std::bad_alloc();
  base_ = static_cast<std::byte*>(range);
  free_.emplace(base_, kReserved);
#ifdef __SANITIZE_ADDRESS__
  __asan_poison_memory_region(base_, kReserved);
#endif
  if (kChecked) checker_ = std::make_unique<Checker>(*this);
}

DeviceMemory::~DeviceMemory() {
#ifdef __SANITIZE_ADDRESS__
  __asan_unpoison_memory_region(base_, kReserved);
#endif
  munmap(base_, kReserved);
}

std::byte* DeviceMemory::allocate(std::size_t bytes) {
  const std::size_t taken = rounded(bytes, kGap) + kGap;
  const auto gap = std::find_if(free_.begin(), free_.end(), [&](const auto& range) { return range.second >= taken; });
  if (gap == free_.end()) return nullptr;
  std::byte* const begin = gap->first;
  const std::size_t rest = gap->second - taken;
  free_.erase(gap);
  if (rest > 0) free_.emplace(begin + taken, rest);
  buffers_.emplace(begin, bytes);
  bytes_in_use_ += bytes;
  used_ = std::max(used_, static_cast<std::size_t>(begin - base_) + taken);
  {
    const AccessScope scope(*this);
    std::memset(begin, 0xff, bytes);
  }
  if (checker_ != nullptr) checker_->allocated(begin, bytes);
  return begin;
}

bool DeviceMemory::deallocate(void* memory) {
  const auto buffer = buffers_.find(static_cast<std::byte*>(memory));
  if (buffer == buffers_.end()) return false;
  std::byte* begin = buffer->first;
  std::size_t taken = rounded(buffer->second, kGap) + kGap;
  if (checker_ != nullptr) checker_->freed(begin, buffer->second);
  bytes_in_use_ -= buffer->second;
  buffers_.erase(buffer);
  // Whole pages go back to the system; what is left of the others is overwritten by the next buffer.
  const std::size_t first = rounded(static_cast<std::size_t>(begin - base_), kPage);
  const std::size_t last = (static_cast<std::size_t>(begin - base_) + taken) / kPage * kPage;
  if (last > first) madvise(base_ + first, last - first, MADV_DONTNEED);
  if (const auto after = free_.find(begin + taken); after != free_.end()) {
    taken += after->second;
    free_.erase(after);
  }
  const auto next = free_.lower_bound(begin);
  if (next != free_.begin()) {
    const auto before = std::prev(next);
    if (before->first + before->second == begin) {
      before->second += taken;
      return true;
    }
  }
  free_.emplace(begin, taken);
  return true;
}

DeviceMemory::Buffer DeviceMemory::nearest(const void* address) const {
  auto after = buffers_.upper_bound(static_cast<std::byte*>(const_cast<void*>(address)));
  if (after == buffers_.begin()) return {nullptr, 0};
  --after;
  return {after->first, after->second};
}

bool DeviceMemory::is_sound(const void* begin, std::size_t bytes) const {
  if (!contains(begin)) return true;
  const Buffer buffer = nearest(begin);
  const auto offset = static_cast<std::size_t>(static_cast<const std::byte*>(begin) - buffer.begin);
  return buffer.begin != nullptr && offset <= buffer.bytes && bytes <= buffer.bytes - offset;
}

void DeviceMemory::set_accessible(bool accessible) {
  scopes_ += accessible ? 1 : -1;
  if (scopes_ != (accessible ? 1 : 0)) return;   // an outer scope is there
#ifdef __SANITIZE_ADDRESS__
  for (const auto& [begin, bytes] : buffers_)
    accessible ? __asan_unpoison_memory_region(begin, bytes) : __asan_poison_memory_region(begin, bytes);
#endif
  if (kChecked && used_ > 0)
    mprotect(base_, rounded(used_, kPage), accessible ? PROT_READ | PROT_WRITE : PROT_NONE);
}

}  // namespace sinter::kernels::simt
