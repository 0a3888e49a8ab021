// Plans of the real cuDNN for an H200 that is not there: its heuristic and its compiler answer what kernels/cuda asks,
// and the compiled kernels reach a pretended driver. Nothing runs. Skips where libcudnn.so.9 is not installed; it is
// looked for as always:
//   LD_LIBRARY_PATH=.../nvidia/cudnn/lib:.../nvidia/cu13/lib build/release/bin/test_cudnn_plans
#include <dlfcn.h>
#include <gtest/gtest.h>

#include <string>

#include "kernels/cuda/cudnn.h"
#include "kernels/cuda/cudnn_attention.h"

namespace sinter::kernels {
namespace {

/// As cuDNN writes a device down; figures of an H200 (an SM of compute capability 9.0, 132 of them).
std::string described_gpu(int compute_capability) {
  return R"({"deviceVer":)" + std::to_string(compute_capability * 10) +
         R"(,"driverVer":13000,"cudaDeviceId":0,"deviceName":"NVIDIA H200","maxGridSize":[2147483647,65535,65535],)"
         R"("maxBlockSize":[1024,1024,64],"regsPerBlock":65536,"multiProcessorCount":132,"smCountOrigin":0,)"
         R"("warpSize":32,"maxSharedMemoryPerBlock":49152,"maxSharedMemoryPerBlockOptin":232448,)"
         R"("oversizedSharedMemoryPerBlock":0,"reservedSharedMemoryPerBlock":1024,"maxRegistersPerSM":65536,)"
         R"("maxCtasPerSM":32,"maxThreadsPerBlock":1024,"maxThreadsPerSM":2048,"pciDeviceId":0,"isTccDriver":0,)"
         R"("supportCoopLaunch":1,"totalGlobalMem":150000000000,"smClockRateKHz":1980000,"memClockRateKHz":3201000,)"
         R"("memoryBusWidth":6144,"l2CacheSize":62914560})";
}

class CudnnPlans : public ::testing::Test {
 protected:
  void SetUp() override {
    // Before cuDNN looks for one: a real driver has no H200, or another one.
    ASSERT_NE(dlopen(SINTER_PRETENDED_DRIVER, RTLD_NOW | RTLD_GLOBAL), nullptr) << dlerror();
    if (*cuda::dnn::why_no_cudnn() != '\0') GTEST_SKIP() << cuda::dnn::why_no_cudnn();
  }

  static int kernels() {
    return reinterpret_cast<int (*)()>(dlsym(RTLD_DEFAULT, "pretended_driver_kernels"))();
  }

  /// True where there is a plan; every plan must have brought a kernel.
  template <class P>
  static bool has_plan(int compute_capability, const P& p, std::size_t* workspace) {
    const int before = kernels();
    const Status status = cuda::plan_on_described_gpu(described_gpu(compute_capability), p, workspace);
    EXPECT_TRUE(status.ok() || status.code == StatusCode::unsupported) << status.what;
    EXPECT_TRUE(!status.ok() || kernels() > before);
    return status.ok();
  }
};

template <class P>
P params(Dtype dtype, std::int64_t heads, std::int64_t head_size) {
  P p;
  p.dtype = dtype;
  p.tokens = 1000;
  p.sequences = 5;
  p.heads = heads;
  p.head_size = head_size;
  p.max_length = 600;
  p.stride_q = p.stride_k = p.stride_v = 3 * heads * head_size;
  p.stride_o = heads * head_size;
  return p;
}
AttentionBackward backward_params(Dtype dtype, std::int64_t heads, std::int64_t head_size) {
  auto p = params<AttentionBackward>(dtype, heads, head_size);
  p.stride_do = p.stride_dq = p.stride_dk = p.stride_dv = heads * head_size;
  return p;
}

TEST_F(CudnnPlans, ForwardCompiles) {
  for (const Dtype dtype : {Dtype::f16, Dtype::bf16})
    for (const std::int64_t head_size : {8, 64, 96, 128, 256}) {
      std::size_t workspace = 0;
      EXPECT_TRUE(has_plan(90, params<Attention>(dtype, 4, head_size), &workspace)) << name(dtype) << head_size;
      EXPECT_LT(workspace, std::size_t{1} << 20);
    }
  std::size_t workspace = 0;
  EXPECT_TRUE(has_plan(80, params<Attention>(Dtype::f16, 4, 96), &workspace));
}

/// With sums in a fixed order, for which there are kernels for compute capability 9.x alone. dQ is summed in f32 in the
/// workspace, which holds as many rows as the longest sequence would need for each.
TEST_F(CudnnPlans, BackwardCompilesWithOrderedSums) {
  std::size_t workspace = 0;
  if (!has_plan(90, backward_params(Dtype::f16, 4, 96), &workspace))
    GTEST_SKIP() << cuda::dnn::version() << " has no ordered sums for packed batches";
  for (const Dtype dtype : {Dtype::f16, Dtype::bf16})
    for (const std::int64_t head_size : {8, 64, 96, 128, 256}) {
      EXPECT_TRUE(has_plan(90, backward_params(dtype, 4, head_size), &workspace)) << name(dtype) << head_size;
      EXPECT_GE(workspace, static_cast<std::size_t>(5 * 4 * 640 * head_size) * 4);
    }
  for (const int other : {80, 100, 120}) EXPECT_FALSE(has_plan(other, backward_params(Dtype::f16, 4, 96), &workspace));
}

}  // namespace
}  // namespace sinter::kernels
