#include "kernels/simt/module.h"

#include "kernels/base/families.h"
#include "kernels/simt/device.h"

namespace sinter::kernels {
namespace cuda {
SINTER_DECLARE_FAMILIES;
}

namespace {

const DeviceApi& device_api() {
  static const DeviceApi api = {
      .device_count = [] { return 1; },
      .why_unavailable = [] { return ""; },
      .allocate = [](int device, std::size_t bytes,
                     void** memory) { return simt::Device::get(device).allocate(bytes, memory); },
      .deallocate = [](int device, void* memory) { static_cast<void>(simt::Device::get(device).deallocate(memory)); },
      .copy = [](int device, void* dst, const void* src, std::size_t bytes,
                 Stream) { return simt::Device::get(device).copy(dst, src, bytes); },
      .synchronize = [](int device, Stream stream) { return simt::Device::get(device).queue(stream).synchronize(); },
  };
  return api;
}

}  // namespace

const BackendModule& simt_module() {
  using namespace cuda;
  static const Family* const families[] = {SINTER_ALL_FAMILIES};
  static const Table table(families);
  static const BackendModule module = {kBackendAbi, "simt", "the CUDA kernels, emulated", table.rows, table.count,
                                       &device_api()};
  return module;
}

}  // namespace sinter::kernels
