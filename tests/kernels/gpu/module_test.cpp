// libsinter_cuda.so as a program meets it: loaded at run time, on a machine that has a GPU or has none.
#include <dlfcn.h>
#include <gtest/gtest.h>

#include <array>
#include <bit>
#include <cstdint>
#include <cstring>
#include <filesystem>
#include <string>

#include "kernels/base/host_device.h"
#include "kernels/gemm_table.h"
#include "kernels/layer_norm.h"
#include "kernels/simt/module.h"
#include "tests/kernels/device_api_cases.h"

namespace sinter::kernels {
namespace {

void* loaded_library() {
  static void* const library = [] {
    const std::string path = std::filesystem::canonical("/proc/self/exe").parent_path() / "libsinter_cuda.so";
    void* const loaded = dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL);
    EXPECT_NE(loaded, nullptr) << dlerror();
    return loaded;
  }();
  return library;
}

const BackendModule& loaded_module() {
  static const BackendModule* const module = [] {
    using Exported = const BackendModule* (*)();
    return reinterpret_cast<Exported>(dlsym(loaded_library(), "sinter_backend_module"))();
  }();
  return *module;
}

TEST(CudaModule, SaysWhatItIs) {
  EXPECT_EQ(loaded_module().abi, kBackendAbi);
  EXPECT_STREQ(loaded_module().name, "cuda");
  EXPECT_EQ(std::string(loaded_module().description).rfind("CUDA runtime 1", 0), 0u) << loaded_module().description;
}

TEST(CudaModule, ShowsItsTablesOfProducts) {
  using Exported = const GemmTuner* (*)();
  const auto exported = reinterpret_cast<Exported>(dlsym(loaded_library(), "sinter_gemm_tuner"));
  ASSERT_NE(exported, nullptr);
  const GemmTuner& tuner = *exported();
  EXPECT_EQ(tuner.abi, kGemmTunerAbi);
  EXPECT_NE(tuner.why_none(), nullptr);   // "" where cuBLASLt is installed
  tuner.open(0);
  EXPECT_EQ(tuner.choices(0, nullptr, 0), 0u);
  tuner.close(0);
}

TEST(CudaModule, HasEveryKernelAndVariantOfTheEmulatedDevice) {
  const BackendModule& emulated = simt_module();
  for (std::size_t i = 0; i < emulated.entry_count; ++i) {
    const KernelEntry& wanted = emulated.entries[i];
    const KernelEntry* const entry = find(loaded_module(), wanted.id);
    ASSERT_NE(entry, nullptr) << name(wanted.id);
    EXPECT_EQ(entry->params_size, wanted.params_size) << name(wanted.id);
    for (int v = 0; v < wanted.variant_count; ++v) {
      bool found = false;
      for (int w = 0; w < entry->variant_count; ++w)
        found = found || std::string(entry->variants[w].name) == wanted.variants[v].name;
      EXPECT_TRUE(found) << name(wanted.id) << " " << wanted.variants[v].name;
    }
  }
}

// A function that a change of the table forgot here would crash on a machine with a GPU only.
TEST(CudaModule, EveryDeviceFunctionIsThere) {
  using Words = std::array<std::uintptr_t, sizeof(DeviceApi) / sizeof(std::uintptr_t)>;
  const Words hosts = std::bit_cast<Words>(host_device_api());
  const Words words = std::bit_cast<Words>(*loaded_module().device);
  for (std::size_t i = 0; i < words.size(); ++i) EXPECT_EQ(words[i] == 0, hosts[i] == 0) << "member " << i;
}

TEST(CudaModule, DevicesDoWhatEveryBackendsDo) {
  if (loaded_module().device->device_count() == 0) GTEST_SKIP() << loaded_module().device->why_unavailable();
  check_device_api(loaded_module(), Graphs::there);
}

TEST(CudaModule, SaysWhyThereIsNoDevice) {
  const DeviceApi& api = *loaded_module().device;
  if (api.device_count() > 0) GTEST_SKIP() << "there is one";
  if (dlopen("libcuda.so.1", RTLD_LAZY) == nullptr) {
    EXPECT_STREQ(api.why_unavailable(), "there is no NVIDIA driver");
  }
  EXPECT_GT(std::strlen(api.why_unavailable()), 10u);
}

TEST(CudaModule, CallsWithoutDeviceFailWithASentence) {
  const DeviceApi& api = *loaded_module().device;
  if (api.device_count() > 0) GTEST_SKIP() << "there is one";
  const auto expect_device_error = [](const Status& status) {
    EXPECT_EQ(status.code, StatusCode::device_error);
    EXPECT_GT(std::strlen(status.what), 10u);
  };
  int mark = 0;
  void* memory = &mark;
  expect_device_error(api.allocate(0, 64, &memory));
  EXPECT_EQ(memory, nullptr);
  memory = &mark;
  expect_device_error(api.allocate_host(0, 64, &memory));
  EXPECT_EQ(memory, nullptr);
  Stream stream = {&mark};
  expect_device_error(api.create_stream(0, &stream));
  EXPECT_EQ(stream.handle, nullptr);
  Event event = {&mark};
  expect_device_error(api.create_event(0, &event));
  EXPECT_EQ(event.handle, nullptr);
  expect_device_error(api.synchronize(0, {}));
  expect_device_error(api.begin_capture(0, {&mark}));
  expect_device_error(api.launch_graph(0, {&mark}, {}));
  api.deallocate(0, nullptr);
  api.deallocate_host(0, nullptr);
  api.destroy_stream(0, {});
  api.destroy_event(0, {});
  api.destroy_graph(0, {});
  expect_device_error(run(loaded_module(), LayerNorm{.dtype = Dtype::f32, .rows = 1, .cols = 1}));
}

}  // namespace
}  // namespace sinter::kernels
