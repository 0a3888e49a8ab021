#include "kernels/base/host_device.h"

#include <cstdlib>
#include <cstring>

namespace sinter::kernels {
namespace {

constexpr std::size_t kAlignment = 64;

Status allocate(int, std::size_t bytes, void** memory) {
  if (bytes > SIZE_MAX - kAlignment) return {StatusCode::out_of_memory, "the size overflows"};
  *memory = std::aligned_alloc(kAlignment, (bytes + kAlignment - 1) / kAlignment * kAlignment);
  return *memory != nullptr || bytes == 0 ? Status{} : Status{StatusCode::out_of_memory, "the host has no memory left"};
}

Status copy(int, void* dst, const void* src, std::size_t bytes, Stream) {
  if (bytes > 0) std::memcpy(dst, src, bytes);
  return {};
}

}  // namespace

const DeviceApi& host_device_api() {
  static const DeviceApi api = {
      .device_count = [] { return 1; },
      .why_unavailable = [] { return ""; },
      .allocate = allocate,
      .deallocate = [](int, void* memory) { std::free(memory); },
      .copy = copy,
      .synchronize = [](int, Stream) { return Status{}; },
  };
  return api;
}

}  // namespace sinter::kernels
