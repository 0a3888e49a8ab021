// kernels/cuda/shared_limits.cpp on a pretended CUDA runtime: what it asks, how often, and what it sets.
#include "kernels/base/shared_limits.h"

#include <cuda_runtime_api.h>
#include <gtest/gtest.h>

#include <atomic>
#include <cstring>
#include <map>
#include <thread>
#include <utility>
#include <vector>

namespace {

/// Devices 0 and 1 have what compute capability 9.0 and 8.6 have.
constexpr int kOptIn[] = {227 << 10, 99 << 10};
constexpr std::size_t kStatic = 3200;

thread_local int current = 0;
std::atomic<bool> fails{false};
std::atomic<int> device_questions{0}, kernel_questions{0};
std::map<std::pair<int, const void*>, std::vector<int>> settings;   // every value that was ever set

}  // namespace

extern "C" {
cudaError_t cudaGetDevice(int* device) {
  *device = current;
  return fails ? cudaErrorNoDevice : cudaSuccess;
}
cudaError_t cudaDeviceGetAttribute(int* value, cudaDeviceAttr attribute, int device) {
  if (attribute != cudaDevAttrMaxSharedMemoryPerBlockOptin) return cudaErrorInvalidValue;
  ++device_questions;
  *value = kOptIn[device];
  return cudaSuccess;
}
cudaError_t cudaFuncGetAttributes(cudaFuncAttributes* attributes, const void*) {
  ++kernel_questions;
  std::memset(attributes, 0, sizeof *attributes);
  attributes->sharedSizeBytes = kStatic;
  return cudaSuccess;
}
cudaError_t cudaFuncSetAttribute(const void* kernel, cudaFuncAttribute attribute, int value) {
  if (attribute != cudaFuncAttributeMaxDynamicSharedMemorySize) return cudaErrorInvalidValue;
  settings[{current, kernel}].push_back(value);
  return cudaSuccess;
}
cudaError_t cudaGetLastError() { return cudaSuccess; }
const char* cudaGetErrorString(cudaError_t) { return "the pretended runtime refuses this"; }
}

namespace sinter::kernels {
namespace {

const char kernels[4] = {};

TEST(SharedLimits, WithoutADeviceThereIsNone) {
  fails = true;
  EXPECT_EQ(most_shared_bytes(), 0u);
  EXPECT_EQ(allow_dynamic_shared(kernels, 1).code, StatusCode::device_error);
  fails = false;
  EXPECT_EQ(most_shared_bytes(), std::size_t{227} << 10);   // a failure is not kept
}

TEST(SharedLimits, EachDeviceIsAskedOnce) {
  for (int round = 0; round < 3; ++round)
    for (const int device : {0, 1}) {
      current = device;
      EXPECT_EQ(most_shared_bytes(), static_cast<std::size_t>(kOptIn[device]));
    }
  current = 0;
  EXPECT_EQ(device_questions, 2);
}

TEST(SharedLimits, AKernelIsGivenAllAtOnce) {
  for (const int device : {0, 1}) {
    current = device;
    const auto most = static_cast<std::size_t>(kOptIn[device]) - kStatic;
    for (const std::size_t bytes : {most, std::size_t{60} << 10, most})
      EXPECT_TRUE(allow_dynamic_shared(kernels + 1, bytes).ok());
    const Status status = allow_dynamic_shared(kernels + 1, most + 1);
    EXPECT_EQ(status.code, StatusCode::unsupported);
    EXPECT_NE(std::strstr(status.what, "more shared memory than the device has"), nullptr) << status.what;
    EXPECT_EQ((settings[{device, kernels + 1}]), std::vector<int>{static_cast<int>(most)});
  }
  current = 0;
}

TEST(SharedLimits, ThreadsWithOtherSizesDoNotLowerIt) {
  const int before = kernel_questions;
  std::vector<std::thread> threads;
  for (std::size_t t = 0; t < 4; ++t)
    threads.emplace_back([t] {
      for (int i = 0; i < 200; ++i) EXPECT_TRUE(allow_dynamic_shared(kernels + 2, (50 + t) << 10).ok());
    });
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(kernel_questions, before + 1);
  EXPECT_EQ((settings[{0, kernels + 2}]), std::vector<int>{(227 << 10) - static_cast<int>(kStatic)});
}

}  // namespace
}  // namespace sinter::kernels
