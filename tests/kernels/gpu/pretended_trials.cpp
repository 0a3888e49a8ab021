#include "tests/kernels/gpu/pretended_trials.h"

#include "kernels/cuda/gemm_trials.h"
#include "kernels/simt/module.h"
#include "tests/kernels/gpu/pretended_cublaslt.h"

namespace sinter::kernels {
namespace testing {

Trials& trials() {
  static Trials all;
  return all;
}

}  // namespace testing

namespace cuda::trials {

std::string gpu(int device) { return "pretended GPU " + std::to_string(device); }

const DeviceApi& device_api() {
  static const DeviceApi api = [] {
    DeviceApi changed = *simt_module().device;
    changed.allocate = [](int device, std::size_t bytes, void** memory) {
      if (testing::trials().out_of_memory) return Status{StatusCode::out_of_memory, "no memory is left"};
      return simt_module().device->allocate(device, bytes, memory);
    };
    return changed;
  }();
  return api;
}

std::size_t cache_bytes(int) { return testing::trials().cache_bytes; }

bool are_forbidden(int, Stream) { return testing::trials().forbidden; }

Status time(int, Stream stream, int launches, const std::function<Status(int, Stream)>& launch, double* milliseconds) {
  ++testing::trials().timed;
  testing::trials().launches = launches;
  const double begin = testing::clock();
  for (int i = 0; i < launches; ++i)
    if (const Status status = launch(i, stream); !status.ok()) return status;
  *milliseconds = (testing::clock() - begin) / launches;
  return {};
}

}  // namespace cuda::trials
}  // namespace sinter::kernels
