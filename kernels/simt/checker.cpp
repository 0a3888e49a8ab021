#include "kernels/simt/checker.h"

#include <dlfcn.h>
#include <sys/mman.h>

#include <algorithm>
#include <cstdio>
#include <cstring>
#include <new>

#include "kernels/simt/machine.h"
#include "kernels/simt/memory.h"
#include "kernels/simt/shared_memory.h"

namespace sinter::kernels::simt {

thread_local Checker* Checker::active = nullptr;

namespace {

/// Shadow memory whose untouched pages cost nothing and read as zeros.
void* reserve(std::size_t bytes) {
  void* memory = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (memory == MAP_FAILED) throw std::bad_alloc();
  return memory;
}

/// Code addresses are kept as distances from here.
const char* code_anchor() { return reinterpret_cast<const char*>(&code_anchor); }

/// "layer_norm.cu:41" for a return address in a kernel.
std::string line_of(std::int32_t code) {
  const char* address = code_anchor() + code;
  Dl_info module{};
  if (dladdr(address, &module) == 0) return "?";
  char command[512];
  std::snprintf(command, sizeof command, "addr2line -e '%s' 0x%tx 2>/dev/null", module.dli_fname,
                address - static_cast<const char*>(module.dli_fbase) - 1);
  std::string line;
  if (FILE* pipe = popen(command, "r")) {
    char text[300];
    if (std::fgets(text, sizeof text, pipe) != nullptr) line = text;
    pclose(pipe);
  }
  line.erase(std::find_if(line.begin(), line.end(), [](char c) { return c == '\n' || c == ' '; }), line.end());
  return line.substr(line.rfind('/') + 1);
}

}  // namespace

Checker::Region Checker::reserve_region(std::size_t bytes, bool shared, const char* name) {
  return {.reserved = bytes, .states = static_cast<State*>(reserve(bytes)),
          .last = static_cast<Last*>(reserve(bytes * sizeof(Last))), .shared = shared, .name = name};
}

Checker::Checker(const DeviceMemory& memory)
    : memory_(memory),
      device_(reserve_region(DeviceMemory::kReserved, false, "device memory")),
      static_shared_(reserve_region(kStaticSharedBytes, true, "static shared memory")),
      dynamic_shared_(reserve_region(kMostSharedBytes, true, "dynamic shared memory")) {
  device_.begin = memory.base();
  device_.bytes = DeviceMemory::kReserved;
}

Checker::~Checker() {
  for (const Region* region : {&device_, &static_shared_, &dynamic_shared_}) {
    munmap(region->states, region->reserved);
    munmap(region->last, region->reserved * sizeof(Last));
  }
}

void Checker::allocated(const std::byte* begin, std::size_t bytes) {
  std::memset(device_.states + (begin - device_.begin), unwritten, bytes);
}
void Checker::freed(const std::byte* begin, std::size_t bytes) {
  std::memset(device_.states + (begin - device_.begin), absent, bytes);
}
void Checker::written_by_host(const void* begin, std::size_t bytes) {
  if (memory_.contains(begin))
    std::memset(device_.states + (static_cast<const std::byte*>(begin) - device_.begin), written, bytes);
}

void Checker::begin_launch() {
  first_block_of_launch_ = block_ + 1;
  published_.clear();
  allowed_.clear();
}

void Checker::begin_block(const std::byte* static_shared, std::size_t static_bytes, const std::byte* dynamic_shared,
                          std::size_t dynamic_bytes) {
  ++block_;
  seen_.clear();
  const auto reset = [](Region& region, const std::byte* begin, std::size_t bytes, State state) {
    std::memset(region.states, absent, std::max(bytes, region.bytes));
    std::memset(region.states, state, bytes);
    region.begin = begin;
    region.bytes = bytes;
  };
  reset(static_shared_, static_shared, static_bytes, absent);
  reset(dynamic_shared_, dynamic_shared, dynamic_bytes, unwritten);
}

void Checker::static_shared_declared(const std::byte* begin, std::size_t bytes) {
  std::memset(static_shared_.states + (begin - static_shared_.begin), unwritten, bytes);
}

void Checker::allow(const void* begin, std::size_t bytes) { allowed_[static_cast<const std::byte*>(begin)] = bytes; }

void Checker::access(const void* address, std::size_t bytes, bool write, const void* code) {
  check(static_cast<const std::byte*>(address), bytes, write, false, code);
}

void Checker::atomic_access(const void* address, std::size_t bytes, const void* code) {
  check(static_cast<const std::byte*>(address), bytes, true, true, code);
  std::unordered_set<std::uint32_t>& published = published_[address];
  seen_.insert(published.begin(), published.end());
  if (!current_thread->fenced) return;
  published.insert(block_);
  published.insert(seen_.begin(), seen_.end());
}

void Checker::check(const std::byte* address, std::size_t bytes, bool write, bool atomic, const void* code) {
  const Pause pause;
  const Thread& thread = *current_thread;
  const Access now = {.block = block_,
                      .code = static_cast<std::int32_t>(static_cast<const char*>(code) - code_anchor()),
                      .thread = static_cast<std::uint16_t>(thread.linear),
                      .barriers = static_cast<std::uint16_t>(thread.barriers),
                      .warp_syncs = static_cast<std::uint16_t>(thread.warp_syncs),
                      .atomic = atomic};
  for (Region* region : {&device_, &dynamic_shared_, &static_shared_}) {
    if (region->begin == nullptr || !region->contains(address)) continue;
    for (std::size_t i = 0; i < bytes; ++i) check_byte(*region, address + i, now, write);
    return;
  }
  refuse_host_memory(address, bytes, now, write);
}

void Checker::check_byte(Region& region, const std::byte* address, const Access& now, bool write) {
  State& state = region.states[address - region.begin];
  if (state == absent) report("access out of bounds", place_of(region, address), now, write);
  if (state == unwritten) {
    if (!write || now.atomic) report("read of memory that nobody wrote", place_of(region, address), now, false);
    state = written;
  }
  auto& [writer, reader] = region.last[address - region.begin];
  if (!(now.atomic && writer.atomic) && !ordered(writer, now, region.shared))
    report_race(region, address, writer, true, now, write);
  if (write) {
    if (!ordered(reader, now, region.shared)) report_race(region, address, reader, false, now, true);
    writer = now;
    reader = {};
    return;
  }
  // One reader is kept, and whether a later write must be ordered behind others, too.
  Access::Others others = Access::none;
  if (!ordered(reader, now, region.shared)) {
    const bool of_one_warp = reader.thread / kWarpLanes == now.thread / kWarpLanes;
    others = reader.block != now.block ? Access::of_other_blocks
                                       : std::max(reader.others, of_one_warp ? Access::of_warp : Access::of_block);
  }
  reader = now;
  reader.others = others;
}

/// Readers of one warp are ordered by __syncwarp, those of one block by a barrier, those of several blocks in one
/// launch by nothing that is kept here.
bool Checker::ordered(const Access& before, const Access& now, bool shared) const {
  if (before.block < (shared ? now.block : first_block_of_launch_)) return true;   // or nobody yet
  if (before.others == Access::of_other_blocks) return false;
  if (before.block != now.block) return seen_.contains(before.block);
  if (before.barriers < now.barriers) return true;
  if (before.others == Access::of_block) return false;
  return (before.thread == now.thread && before.others == Access::none) ||
         (before.thread / kWarpLanes == now.thread / kWarpLanes && before.warp_syncs < now.warp_syncs);
}

void Checker::refuse_host_memory(const std::byte* address, std::size_t bytes, const Access& now, bool write) const {
  auto range = allowed_.upper_bound(address);
  if (range != allowed_.begin()) {
    --range;
    if (static_cast<std::size_t>(address - range->first) < range->second) return;
  }
  Dl_info module{};
  if (dladdr(address, &module) != 0) return;   // constants and static variables of the program
  report("access to host memory from a kernel", std::to_string(bytes) + " bytes", now, write);
}

std::string Checker::place_of(const Region& region, const std::byte* address) const {
  std::string place = region.name;
  if (!region.shared) {
    const DeviceMemory::Buffer buffer = memory_.nearest(address);
    if (buffer.begin != nullptr)
      return "byte " + std::to_string(address - buffer.begin) + " of a device buffer of " +
             std::to_string(buffer.bytes);
    return place;
  }
  place = "byte " + std::to_string(address - region.begin) + " of " + place;
  return &region == &dynamic_shared_ ? place + " of " + std::to_string(region.bytes) : place;
}

void Checker::report_race(const Region& region, const std::byte* address, const Access& before, bool wrote,
                          const Access& now, bool writes) const {
  const auto who = [this](const Access& access, bool write) {
    return std::string(access.atomic ? "atomic" : write ? "write" : "read") + " by thread " +
           std::to_string(access.thread) + " of block " + std::to_string(access.block - first_block_of_launch_) +
           " in the order of the run at " + line_of(access.code);
  };
  fault(("race on " + place_of(region, address) + ": " + who(before, wrote) + ", then " + who(now, writes)).c_str());
}

void Checker::report(const std::string& what, const std::string& where, const Access& now, bool write) const {
  fault((what + ": " + (write ? "write to " : "read of ") + where + " at " + line_of(now.code)).c_str());
}

}  // namespace sinter::kernels::simt
