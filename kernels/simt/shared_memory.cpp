#include "kernels/simt/shared_memory.h"

#include <sys/mman.h>

#include <algorithm>
#include <new>

#include "kernels/simt/checker.h"

#ifdef __SANITIZE_ADDRESS__
#include <sanitizer/asan_interface.h>
#endif

namespace sinter::kernels::simt {
namespace {

constexpr std::size_t kAlignment = 128;
constexpr std::size_t kRedZone = 64;

std::byte* map(std::size_t bytes) {
  void* memory = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (memory == MAP_FAILED) throw std::bad_alloc();
  return static_cast<std::byte*>(memory);
}

void set_poison([[maybe_unused]] std::byte* begin, [[maybe_unused]] std::size_t bytes, [[maybe_unused]] bool poisoned) {
#ifdef __SANITIZE_ADDRESS__
  poisoned ? __asan_poison_memory_region(begin, bytes) : __asan_unpoison_memory_region(begin, bytes);
#endif
}

/// memset that no sanitizer sees.
void fill_with_ff(std::byte* begin, std::size_t bytes) {
  asm volatile("rep stosb" : "+D"(begin), "+c"(bytes) : "a"(0xff) : "memory");
}

}  // namespace

SharedMemory::SharedMemory() : static_(map(kStaticSharedBytes)), dynamic_(map(kMostSharedBytes)) {}

SharedMemory::~SharedMemory() {
  set_poison(static_, kStaticSharedBytes, false);
  set_poison(dynamic_, kMostSharedBytes, false);
  munmap(static_, kStaticSharedBytes);
  munmap(dynamic_, kMostSharedBytes);
}

void SharedMemory::begin_block(std::size_t dynamic_bytes, std::size_t most_bytes) {
  most_static_bytes_ = std::min(kMostStaticSharedBytes, most_bytes - dynamic_bytes);
  arena_used_ = static_bytes_ = 0;
  arrays_.clear();
  set_poison(static_, kStaticSharedBytes, true);
  set_poison(dynamic_, kMostSharedBytes, true);
  set_poison(dynamic_, dynamic_bytes, false);
  fill_with_ff(dynamic_, dynamic_bytes);
}

std::byte* SharedMemory::static_array(const void* key, std::size_t bytes) {
  for (const Array& array : arrays_)
    if (array.key == key) return array.begin;
  const std::size_t offset = (arena_used_ + kAlignment - 1) / kAlignment * kAlignment;
  static_bytes_ += bytes;
  arena_used_ = offset + bytes + kRedZone;
  if (static_bytes_ > most_static_bytes_ || arena_used_ > kStaticSharedBytes) return nullptr;
  std::byte* const begin = static_ + offset;
  arrays_.push_back({key, begin});
  set_poison(begin, bytes, false);
  fill_with_ff(begin, bytes);
  return begin;
}

}  // namespace sinter::kernels::simt
