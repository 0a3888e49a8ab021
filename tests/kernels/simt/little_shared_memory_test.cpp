// Kernels on a device whose blocks may have 99 KiB of shared memory, as on compute capability 8.6, 8.9 and 12.0.
#include "kernels/simt/device.h"
#include "tests/kernels/cuda/attention_case.h"
#include "tests/kernels/cuda/device_under_test.h"

namespace sinter::kernels::testing {
namespace {

class LittleSharedMemory : public ::testing::Test {
 protected:
  LittleSharedMemory() { options_.most_shared_bytes = 99 << 10; }
  ~LittleSharedMemory() override { options_ = before_; }

 private:
  simt::Options& options_ = simt::Device::get(0).options;
  const simt::Options before_ = options_;
};

AttentionBackward aligned_params(std::int64_t head_size, std::int64_t max_length) {
  AttentionBackward p{.dtype = Dtype::f16, .tokens = 500, .sequences = 7, .heads = 12, .head_size = head_size,
                      .max_length = max_length};
  p.q = p.k = p.v = p.o = p.d_o = p.dq = p.dk = p.dv = reinterpret_cast<void*>(std::uintptr_t{4096});
  p.stride_q = p.stride_k = p.stride_v = p.stride_o = p.stride_do = p.stride_dq = p.stride_dk = p.stride_dv = 768;
  return p;
}

TEST_F(LittleSharedMemory, TilesTakeSequencesThatNoBlockHolds) {
  EXPECT_EQ(selected_variant(aligned_params(64, 112)), "tensor_cores");
  EXPECT_EQ(selected_variant(aligned_params(64, 113)), "tensor_cores_tiled");
  EXPECT_EQ(selected_variant(aligned_params(64, 128)), "tensor_cores_tiled");
  EXPECT_EQ(selected_variant(aligned_params(32, 128)), "tensor_cores");
  Attention forward{.dtype = Dtype::f16, .tokens = 500, .sequences = 7, .heads = 12, .head_size = 64,
                    .max_length = 128};
  forward.stride_q = forward.stride_k = forward.stride_v = forward.stride_o = 768;
  EXPECT_EQ(selected_variant(forward), "tensor_cores");
}

/// What is selected must run; what does not fit must say so, and not reach the device.
TEST_F(LittleSharedMemory, GradientsAreThoseOfTheReference) {
  for (const std::int64_t longest : {112, 113, 128}) {
    const Batch batch{.lengths = {longest, 5}, .heads = 1, .head_size = 64};
    AttentionCase(Dtype::f16, batch).check_backward("", operand_rounding(Dtype::f16, batch, 4));
  }
  const AttentionBackward p = aligned_params(64, 128);
  const KernelEntry& entry = *find_on_device(AttentionBackward::id);
  ASSERT_STREQ(entry.variants[1].name, "tensor_cores");
  EXPECT_EQ(entry.variants[1].run(&p, {}).code, StatusCode::unsupported);
}

}  // namespace
}  // namespace sinter::kernels::testing
