#include "kernels/simt/machine.h"

#include <algorithm>
#include <cstring>

#include "kernels/simt/checker.h"
#include "kernels/simt/grid.h"

namespace sinter::kernels::simt {
namespace {

void land(const AsyncCopy& copy) {
  if (Checker::active != nullptr) Checker::active->access(copy.to, copy.bytes, true, __builtin_return_address(0));
  std::memcpy(copy.to, copy.from, copy.valid);
  std::memset(static_cast<char*>(copy.to) + copy.valid, 0, copy.bytes - copy.valid);
}

}  // namespace

int barrier(Combine combine, bool predicate, const Place& place) {
  return Grid::of_this_thread().barrier(combine, predicate, place);
}

void copy_async(void* to, const void* from, std::uint32_t bytes, std::uint32_t valid, const Place& place) {
  Grid& grid = Grid::of_this_thread();
  const auto misaligned = [bytes](const void* p) { return reinterpret_cast<std::uintptr_t>(p) % bytes != 0; };
  if (misaligned(to) || (valid > 0 && misaligned(from)))
    grid.fail("cp.async: an address is not a multiple of the size of the copy", Grid::Describe::nothing, &place);
  if (Checker::active != nullptr && valid > 0) Checker::active->access(from, valid, false, __builtin_return_address(0));
  const AsyncCopy copy{to, from, bytes, valid, current_thread->copy_group};
  if (!grid.device().options.late_copies) return land(copy);
  const Checker::Pause pause;
  current_thread->copies.push_back(copy);
}

void commit_copy_group() { ++current_thread->copy_group; }

void wait_for_copies(std::uint32_t groups) {
  Thread& thread = *current_thread;
  const auto under_way = [&](const AsyncCopy& copy) { return copy.group + groups >= thread.copy_group; };
  for (const AsyncCopy& copy : thread.copies)
    if (!under_way(copy)) land(copy);
  const Checker::Pause pause;
  std::erase_if(thread.copies, [&](const AsyncCopy& copy) { return !under_way(copy); });
}

void* static_shared(const void* key, std::size_t bytes) {
  const Checker::Pause pause;
  Grid& grid = Grid::of_this_thread();
  const std::size_t before = grid.shared_memory().static_arrays();
  std::byte* const array = grid.shared_memory().static_array(key, bytes);
  if (array == nullptr) grid.fail("more shared memory than the block may have: 48 KiB of static one, and as much with the dynamic one "
                                  "unless allow_dynamic_shared was called");
  if (pause.checker() != nullptr && grid.shared_memory().static_arrays() > before)
    pause.checker()->static_shared_declared(array, bytes);
  return array;
}

void* dynamic_shared() { return Grid::of_this_thread().shared_memory().dynamic_array(); }

void thread_fence() { current_thread->fenced = true; }

void atomic_access(const void* address, std::size_t bytes) {
  if (Checker::active != nullptr) Checker::active->atomic_access(address, bytes, __builtin_return_address(0));
}

void fault(const char* what) { Grid::of_this_thread().fail(what); }

}  // namespace sinter::kernels::simt
