// LayerNorm on a GPU with raw pointers: needs libsinter_kernels_cuda, and no folder but kernels/.
#include <cstdio>
#include <cstdlib>

#include "kernels/cuda/module.h"
#include "kernels/layer_norm.h"

using namespace sinter::kernels;

static void must(Status status) {
  if (status.ok()) return;
  std::fprintf(stderr, "%s\n", status.what);
  std::exit(1);
}

int main() {
  const BackendModule& cuda = cuda_module();
  const DeviceApi& gpu = *cuda.device;
  if (gpu.device_count() == 0) {
    std::printf("no GPU can be used: %s\n", gpu.why_unavailable());
    return 77;
  }
  constexpr int rows = 2, cols = 4;
  const float x[rows][cols] = {{1, 2, 3, 4}, {40, 20, 30, 10}}, gamma[cols] = {1, 1, 1, 2}, beta[cols] = {0, 0, 0, 100};
  float y[rows][cols] = {};
  const Stream stream;  // the device's own
  const auto on_gpu = [&](const void* host, std::size_t bytes) {
    void* memory = nullptr;
    must(gpu.allocate(0, bytes, &memory));
    must(gpu.copy(0, memory, host, bytes, stream));
    return memory;
  };
  void* const result = on_gpu(y, sizeof y);
  const LayerNorm params{.dtype = Dtype::f32, .rows = rows, .cols = cols, .x = on_gpu(x, sizeof x),
                         .gamma = on_gpu(gamma, sizeof gamma), .beta = on_gpu(beta, sizeof beta), .y = result};
  must(run(cuda, params, stream));
  must(gpu.copy(0, y, result, sizeof y, stream));
  must(gpu.synchronize(0, stream));
  for (const auto& row : y) std::printf("%.4f %.4f %.4f %.4f\n", row[0], row[1], row[2], row[3]);
}
