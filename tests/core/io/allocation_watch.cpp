#include "tests/core/io/allocation_watch.h"

#include <atomic>
#include <cstdlib>
#include <new>

namespace sinter::testing {
namespace {

std::atomic<std::size_t> largest_block = 0;
std::atomic<std::size_t> all_blocks = 0;

void* counted(std::size_t bytes) noexcept {
  std::size_t seen = largest_block.load(std::memory_order_relaxed);
  while (bytes > seen && !largest_block.compare_exchange_weak(seen, bytes, std::memory_order_relaxed)) {
  }
  all_blocks.fetch_add(bytes, std::memory_order_relaxed);
  return std::malloc(bytes == 0 ? 1 : bytes);
}

void* counted_or_throw(std::size_t bytes) {
  if (void* block = counted(bytes)) return block;
  throw std::bad_alloc();
}

}  // namespace

AllocationWatch::AllocationWatch() {
  largest_block = 0;
  all_blocks = 0;
}

std::size_t AllocationWatch::largest() const { return largest_block; }

std::size_t AllocationWatch::total() const { return all_blocks; }

}  // namespace sinter::testing

void* operator new(std::size_t bytes) { return sinter::testing::counted_or_throw(bytes); }
void* operator new[](std::size_t bytes) { return sinter::testing::counted_or_throw(bytes); }
void* operator new(std::size_t bytes, const std::nothrow_t&) noexcept { return sinter::testing::counted(bytes); }
void* operator new[](std::size_t bytes, const std::nothrow_t&) noexcept { return sinter::testing::counted(bytes); }
void operator delete(void* block) noexcept { std::free(block); }
void operator delete[](void* block) noexcept { std::free(block); }
void operator delete(void* block, std::size_t) noexcept { std::free(block); }
void operator delete[](void* block, std::size_t) noexcept { std::free(block); }
