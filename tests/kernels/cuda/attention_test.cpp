#include "tests/kernels/cuda/attention_case.h"
#include "tests/kernels/cuda/device_under_test.h"

namespace sinter::kernels::testing {
namespace {

void check_by_rows(Dtype dtype, const Batch& batch) {
  const AttentionCase test(dtype, batch);
  test.check_forward("by_rows", rounding(batch), rounding(batch));
  test.check_backward("by_rows", rounding(batch, 3));
}

class AttentionOnDevice : public ::testing::TestWithParam<Dtype> {};

INSTANTIATE_TEST_SUITE_P(Dtypes, AttentionOnDevice, ::testing::ValuesIn(kDeviceDtypes),
                         [](const auto& tested) { return name(tested.param); });

/// Lengths around the 32 keys that a warp takes at a time, and an empty sequence.
TEST_P(AttentionOnDevice, ByRowsMatchesReference) {
  for (const double dropout : {0.0, 0.1}) {
    check_by_rows(GetParam(), {.lengths = {13, 1, 0, 33, 7}, .heads = 3, .head_size = 16, .dropout = dropout});
    check_by_rows(GetParam(), {.lengths = {65, 32}, .heads = 1, .head_size = 7, .dropout = dropout, .gap = 0});
    check_by_rows(GetParam(), {.lengths = {5}, .heads = 2, .head_size = 70, .dropout = dropout, .first_sample = false});
  }
  check_by_rows(GetParam(), {.lengths = {1}, .heads = 1, .head_size = 1});
}

TEST_P(AttentionOnDevice, NothingToDo) {
  check_by_rows(GetParam(), {.lengths = {}});
  check_by_rows(GetParam(), {.lengths = {0, 0}, .dropout = 0.1});
}

TEST_P(AttentionOnDevice, ByRowsMasksKeys) {
  for (const double dropout : {0.0, 0.25}) {
    Batch batch{.lengths = {40, 6, 1, 35}, .head_size = 24, .dropout = dropout};
    batch.key_mask.assign(static_cast<std::size_t>(batch.tokens()), 1);
    for (const std::size_t token : {0u, 3u, 38u, 39u, 50u, 81u}) batch.key_mask[token] = 0;
    std::fill_n(batch.key_mask.begin() + 40, 6, 0);   // the second sequence has no kept key
    std::fill_n(batch.key_mask.begin() + 47, 33, 0);  // none among the first 32 of the last
    check_by_rows(GetParam(), batch);
  }
}

/// A bound for max_length; samples in another order; positions from the middle on, and in no order.
TEST_P(AttentionOnDevice, ByRowsFollowsSampleAndPosition) {
  Batch batch{.lengths = {21, 10}, .head_size = 16, .dropout = 0.5, .longest = 4096};
  batch.sample = {4, 1};
  for (int i = 0; i < 21; ++i) batch.position.push_back(i + 3);
  for (int i = 0; i < 10; ++i) batch.position.push_back((i * 37) % 97 + 3990);
  check_by_rows(GetParam(), batch);
}

/// Ten tokens with these offsets; with dropout where there are positions.
struct WrongIndices {
  std::vector<double> offsets;
  std::int64_t max_length = 10;
  std::vector<double> position;
};

template <class P>
void add_wrong_indices(DeviceCase<P>& test, Dtype dtype, const WrongIndices& wrong) {
  const DropoutSite site;
  test.params.dtype = dtype;
  test.params.tokens = 10;
  test.params.sequences = static_cast<std::int64_t>(wrong.offsets.size()) - 1;
  test.params.heads = 1;
  test.params.head_size = 32;
  test.params.max_length = wrong.max_length;
  test.params.stride_q = test.params.stride_k = test.params.stride_v = test.params.stride_o = 32;
  test.input(test.params.q, dtype, normal_values(320, 1));
  test.input(test.params.k, dtype, normal_values(320, 2));
  test.input(test.params.v, dtype, normal_values(320, 3));
  test.input(test.params.offsets, Dtype::i32, wrong.offsets);
  if (wrong.position.empty()) return;
  test.params.dropout = site.dropout(0.1);
  test.input(test.params.dropout.step, Dtype::i32, {41});
  test.input(test.params.dropout.first_sample, Dtype::i32, {0});
  test.input(test.params.position, Dtype::i32, wrong.position);
}

void check_stops(Dtype dtype, const WrongIndices& wrong, const std::string& says) {
  SCOPED_TRACE(says);
  DeviceCase<Attention> forward({});
  add_wrong_indices(forward, dtype, wrong);
  forward.output(forward.params.o, dtype, 320, {});
  forward.output(forward.params.lse, computed_dtype(dtype), 10, {});
  forward.check_stops(says);

  DeviceCase<AttentionBackward> backward({});
  add_wrong_indices(backward, dtype, wrong);
  AttentionBackward& p = backward.params;
  p.stride_do = p.stride_dq = p.stride_dk = p.stride_dv = 32;
  backward.input(p.o, dtype, normal_values(320, 4));
  backward.input(p.lse, computed_dtype(dtype), normal_values(10, 5));
  backward.input(p.d_o, dtype, normal_values(320, 6));
  backward.output(p.dq, dtype, 320, {});
  backward.output(p.dk, dtype, 320, {});
  backward.output(p.dv, dtype, 320, {});
  backward.workspace(p.workspace);
  backward.check_stops(says);
}

TEST_P(AttentionOnDevice, StopsAtWrongOffsetsAndPositions) {
  const std::string offsets = "offsets must begin with 0, not descend, and end with tokens";
  check_stops(GetParam(), {.offsets = {1, 4, 10}}, offsets);
  check_stops(GetParam(), {.offsets = {0, 4, 9}}, offsets);
  check_stops(GetParam(), {.offsets = {0, 4, 11}}, offsets);
  check_stops(GetParam(), {.offsets = {0, 8, 7, 10}}, offsets);
  check_stops(GetParam(), {.offsets = {0, 11, 10}}, offsets);
  check_stops(GetParam(), {.offsets = {0, -3, 10}}, offsets);
  check_stops(GetParam(), {.offsets = {0, 4, 10}, .max_length = 5}, "longer than max_length");
  for (const double position : {-1.0, 4096.0})
    check_stops(GetParam(), {.offsets = {0, 10}, .position = {0, 1, 2, 3, 4, 5, 6, 7, 8, position}},
                "positions in [0, 4096)");
}

// --- Tensor cores ---

/// Whether one block of every GPU has the shared memory for a sequence and head backward. Of 128 tokens and 64 elements
/// compute capability 8.6, 8.9 and 12.0 have not.
bool fits_every_block(const Batch& batch) { return batch.max_length() <= 112 || batch.head_size <= 32; }

class AttentionOnTensorCores : public ::testing::TestWithParam<Dtype> {
 protected:
  void check(const Batch& batch) const {
    const AttentionCase test(GetParam(), batch);
    const Tolerance o = operand_rounding(GetParam(), batch, 2), gradients = operand_rounding(GetParam(), batch, 4);
    if (batch.max_length() <= 128) test.check_forward("tensor_cores", o, rounding(batch));
    if (batch.max_length() <= 128)
      test.check_backward(fits_every_block(batch) ? "tensor_cores" : "", gradients);
    test.check_forward("tensor_cores_tiled", o, rounding(batch));
    test.check_backward("tensor_cores_tiled", gradients);
  }
};

INSTANTIATE_TEST_SUITE_P(Dtypes, AttentionOnTensorCores, ::testing::Values(Dtype::f16, Dtype::bf16),
                         [](const auto& tested) { return name(tested.param); });

/// Lengths around the 16 rows of a warp and the 64 and 128 keys of the kernels, beside an empty sequence.
TEST_P(AttentionOnTensorCores, MatchReference) {
  for (const double dropout : {0.0, 0.1}) {
    check({.lengths = {13, 1, 0, 33, 16}, .heads = 3, .head_size = 32, .dropout = dropout});
    check({.lengths = {17, 64}, .heads = 1, .head_size = 64, .dropout = dropout});
  }
  for (const std::int64_t longest : {112, 128})
    check({.lengths = {65, longest}, .heads = 1, .head_size = 64, .dropout = 0.1, .first_sample = false});
  check({.lengths = {100}, .heads = 2, .head_size = 32, .gap = 16});
  check({.lengths = {130, 3}, .heads = 1, .head_size = 32, .dropout = 0.1});
}

TEST_P(AttentionOnTensorCores, NothingToDo) {
  check({.lengths = {}});
  check({.lengths = {0, 0}, .head_size = 64, .dropout = 0.1});
}

TEST_P(AttentionOnTensorCores, MaskKeys) {
  for (const double dropout : {0.0, 0.25}) {
    Batch batch{.lengths = {40, 6, 1, 35}, .head_size = 32, .dropout = dropout};
    batch.key_mask.assign(static_cast<std::size_t>(batch.tokens()), 1);
    for (const std::size_t token : {0u, 3u, 38u, 39u, 50u, 81u}) batch.key_mask[token] = 0;
    std::fill_n(batch.key_mask.begin() + 40, 6, 0);   // the second sequence has no kept key
    check(batch);
    batch.lengths = {190};
    batch.key_mask.assign(190, 1);
    std::fill_n(batch.key_mask.begin(), 70, 0);        // none in the first tile of 64
    std::fill_n(batch.key_mask.begin() + 128, 62, 0);  // none in the last
    check(batch);
  }
}

/// Positions that begin at 0, at another multiple of 8 and elsewhere, and positions in no order.
TEST_P(AttentionOnTensorCores, FollowSampleAndPosition) {
  Batch batch{.lengths = {21, 10, 9, 20}, .head_size = 32, .dropout = 0.5, .longest = 128};
  batch.sample = {4, 1, 0, 2};
  for (int i = 0; i < 21; ++i) batch.position.push_back(i);
  for (int i = 0; i < 10; ++i) batch.position.push_back(i + 4080);
  for (int i = 0; i < 9; ++i) batch.position.push_back(i + 3);
  for (int i = 0; i < 20; ++i) batch.position.push_back((i * 37) % 97 / 8 * 8 + i % 8);
  check(batch);
}

// --- cuDNN, where it is installed beside a GPU ---

bool has_variant(KernelId id, const std::string& wanted) {
  const KernelEntry* const entry = find_on_device(id);
  return std::any_of(entry->variants, entry->variants + entry->variant_count,
                     [&](const Variant& variant) { return variant.name == wanted; });
}

/// It rounds as kernels on tensor cores do. The backward starts from the reference's lse, the forward's is compared.
class AttentionByCudnn : public ::testing::TestWithParam<Dtype> {
 protected:
  void SetUp() override {
    if (!has_variant(KernelId::attention, "cudnn")) GTEST_SKIP() << "there is no cuDNN on this device";
  }
};

INSTANTIATE_TEST_SUITE_P(Dtypes, AttentionByCudnn, ::testing::Values(Dtype::f16, Dtype::bf16),
                         [](const auto& tested) { return name(tested.param); });

/// Heads that no other kernel on tensor cores takes, and one that ours take; lengths around its tiles, empty sequences,
/// one that is short, and a bound for max_length.
const std::vector<Batch>& batches_for_cudnn() {
  static const std::vector<Batch> all = {{.lengths = {130, 3, 0, 257, 64}, .heads = 2, .head_size = 96},
                                         {.lengths = {129, 512}, .heads = 3, .head_size = 128, .gap = 16},
                                         {.lengths = {200}, .heads = 1, .head_size = 256, .gap = 0},
                                         {.lengths = {1, 150, 0, 0, 0}, .heads = 2, .head_size = 40, .longest = 300},
                                         {.lengths = {384, 128}, .heads = 2, .head_size = 64}};
  return all;
}

TEST_P(AttentionByCudnn, ForwardMatchesReference) {
  for (const Batch& batch : batches_for_cudnn())
    AttentionCase(GetParam(), batch).check_forward("cudnn", operand_rounding(GetParam(), batch, 2), rounding(batch));
}

/// Its sums have a fixed order, or it does not take them.
TEST_P(AttentionByCudnn, BackwardMatchesReference) {
  AttentionBackward p{.dtype = GetParam(), .tokens = 1, .sequences = 1, .heads = 1, .head_size = 96, .max_length = 129};
  p.stride_q = p.stride_k = p.stride_v = p.stride_o = p.stride_do = p.stride_dq = p.stride_dk = p.stride_dv = 96;
  if (find_on_device(AttentionBackward::id)->workspace(&p) < 96 * sizeof(float)) {
    const std::string why = "this cuDNN has no sums in a fixed order for this device";
    excuse_variant(AttentionBackward::id, "cudnn", why);
    GTEST_SKIP() << why;
  }
  for (const Batch& batch : batches_for_cudnn())
    AttentionCase(GetParam(), batch).check_backward("cudnn", operand_rounding(GetParam(), batch, 4));
}

template <class P>
std::string selected(const P& p) {
  const KernelEntry* entry = find(device_under_test(), P::id);
  return entry->variants[entry->select(&p)].name;
}

/// Params that every variant takes.
template <class P>
P aligned_params() {
  const auto at = [](std::uintptr_t address) { return reinterpret_cast<void*>(address); };
  P p;
  p.dtype = Dtype::f16;
  p.tokens = 500;
  p.sequences = 7;
  p.heads = 12;
  p.head_size = 64;
  p.max_length = 128;
  p.q = p.k = p.v = at(4096);
  p.o = at(8192);
  p.stride_q = p.stride_k = p.stride_v = p.stride_o = 768;
  return p;
}

TEST(AttentionOnDeviceParams, SelectsByLengthAndAlignment) {
  const auto forward = aligned_params<Attention>();
  auto p = forward;
  EXPECT_EQ(selected(p), "tensor_cores");
  p.max_length = 129;
  EXPECT_EQ(selected(p), "tensor_cores_tiled");
  p.sequences = std::int64_t{1} << 31;
  EXPECT_EQ(selected(p), "by_rows");
  for (const auto& change :
       {+[](Attention& a) { a.dtype = Dtype::f32; }, +[](Attention& a) { a.head_size = 48; },
        +[](Attention& a) { a.q = static_cast<const std::byte*>(a.q) + 8; }, +[](Attention& a) { a.stride_k = 772; },
        +[](Attention& a) { a.stride_v = 769; }, +[](Attention& a) { a.stride_o = 769; },
        +[](Attention& a) { a.o = static_cast<std::byte*>(a.o) + 2; }}) {
    p = forward;
    change(p);
    EXPECT_EQ(selected(p), "by_rows");
  }
  auto aligned = aligned_params<AttentionBackward>();
  aligned.d_o = aligned.o;
  aligned.dq = aligned.dk = aligned.dv = const_cast<void*>(aligned.o);
  aligned.stride_do = aligned.stride_dq = aligned.stride_dk = aligned.stride_dv = 768;
  aligned.max_length = 112;   // of 128 tokens not every GPU's blocks have the shared memory
  auto b = aligned;
  EXPECT_EQ(selected(b), "tensor_cores");
  b.max_length = 129;
  EXPECT_EQ(selected(b), "tensor_cores_tiled");
  for (const auto& change :
       {+[](AttentionBackward& a) { a.stride_o = 772; }, +[](AttentionBackward& a) { a.stride_do = 772; },
        +[](AttentionBackward& a) { a.stride_dq = 769; },
        +[](AttentionBackward& a) { a.dk = static_cast<std::byte*>(a.dk) + 2; },
        +[](AttentionBackward& a) { a.stride_dv = 769; }}) {
    b = aligned;
    change(b);
    EXPECT_EQ(selected(b), "by_rows");
  }
}

TEST(AttentionOnDeviceParams, Refused) {
  Attention p{.tokens = 1, .sequences = 1, .heads = 1, .head_size = 513, .max_length = 1};
  p.stride_q = p.stride_k = p.stride_v = p.stride_o = 513;
  expect_refused(p, "512");
  p.head_size = 8;
  p.sequences = 0;
  expect_refused(p, "offsets");
  p.sequences = 1;
  p.dtype = Dtype::i32;
  expect_refused(p, "dtype");
}

}  // namespace
}  // namespace sinter::kernels::testing
