#include "kernels/attention.h"

#include <cmath>
#include <limits>

#include "kernels/ref/element.h"
#include "tests/kernels/cuda/device_case.h"
#include "tests/kernels/cuda/device_under_test.h"
#include "tests/kernels/row_cases.h"

namespace sinter::kernels::testing {
namespace {

/// A packed batch, with gaps between the rows of every matrix.
struct Batch {
  std::vector<std::int64_t> lengths;
  std::int64_t heads = 2, head_size = 32;
  double dropout = 0;
  std::int64_t gap = 8;                  ///< elements behind heads * head_size, of which strides count one more each
  std::int64_t longest = -1;             ///< max_length; -1: that of the lengths
  std::vector<double> key_mask;          ///< empty: null
  std::vector<double> sample, position;  ///< empty: null
  bool first_sample = true;              ///< false: null
  double scale = 0;                      ///< 0: 1 / sqrt(head_size)

  std::int64_t hidden() const { return heads * head_size; }
  std::vector<double> offsets() const {
    std::vector<double> ends{0};
    for (const std::int64_t length : lengths) ends.push_back(ends.back() + static_cast<double>(length));
    return ends;
  }
  std::int64_t tokens() const { return static_cast<std::int64_t>(offsets().back()); }
  std::int64_t max_length() const {
    if (longest >= 0) return longest;
    return lengths.empty() ? 0 : *std::max_element(lengths.begin(), lengths.end());
  }
};

std::vector<std::byte> stored(Dtype dtype, const std::vector<double>& values) {
  std::vector<std::byte> bytes(values.size() * size_of(dtype));
  for (std::size_t i = 0; i < values.size(); ++i)
    ref::store(dtype, bytes.data(), static_cast<std::int64_t>(i), values[i]);
  return bytes;
}
std::vector<double> loaded(Dtype dtype, const std::vector<std::byte>& bytes) {
  std::vector<double> values(bytes.size() / size_of(dtype));
  for (std::size_t i = 0; i < values.size(); ++i)
    values[i] = ref::load(dtype, bytes.data(), static_cast<std::int64_t>(i));
  return values;
}

/// A batch with its values, for one dtype; o and lse from the reference.
class AttentionCase {
 public:
  AttentionCase(Dtype dtype, const Batch& batch) : dtype_(dtype), batch_(batch) {
    const std::int64_t hidden = batch.hidden();
    for (const int i : {0, 1, 2, 3, 4}) strides_.push_back(hidden + (i + 1) * batch.gap);
    q_ = normal_values(batch.tokens() * strides_[0], 1);
    k_ = normal_values(batch.tokens() * strides_[1], 2);
    v_ = normal_values(batch.tokens() * strides_[2], 3);
    d_o_ = normal_values(batch.tokens() * strides_[4], 4);
    run_reference();
  }

  /// An empty `variant`: all of them.
  void check_forward(const std::string& variant, Tolerance o, Tolerance lse) const {
    SCOPED_TRACE(description());
    DeviceCase<Attention> test(params<Attention>());
    add_inputs(test);
    test.in_out(test.params.o, dtype_, normal_values(batch_.tokens() * strides_[3], 5), o);
    test.output(test.params.lse, computed_dtype(dtype_), batch_.heads * batch_.tokens(), lse);
    variant.empty() ? test.check() : test.check_only(variant);
  }

  void check_backward(const std::string& variant, Tolerance tolerance) const {
    SCOPED_TRACE(description());
    DeviceCase<AttentionBackward> test(params<AttentionBackward>());
    test.params.stride_do = strides_[4];
    test.params.stride_dq = strides_[2];
    test.params.stride_dk = strides_[1];
    test.params.stride_dv = strides_[0];
    add_inputs(test);
    test.input(test.params.o, dtype_, o_);
    test.input(test.params.lse, computed_dtype(dtype_), lse_);
    test.input(test.params.d_o, dtype_, d_o_);
    test.in_out(test.params.dq, dtype_, normal_values(batch_.tokens() * strides_[2], 6), tolerance);
    test.in_out(test.params.dk, dtype_, normal_values(batch_.tokens() * strides_[1], 7), tolerance);
    test.in_out(test.params.dv, dtype_, normal_values(batch_.tokens() * strides_[0], 8), tolerance);
    test.workspace(test.params.workspace);
    variant.empty() ? test.check() : test.check_only(variant);
  }

 private:
  template <class P>
  P params() const {
    P p;
    p.dtype = dtype_;
    p.tokens = batch_.tokens();
    p.sequences = static_cast<std::int64_t>(batch_.lengths.size());
    p.heads = batch_.heads;
    p.head_size = batch_.head_size;
    p.max_length = batch_.max_length();
    p.scale = batch_.scale != 0 ? batch_.scale : 1 / std::sqrt(static_cast<double>(batch_.head_size));
    p.dropout = site_.dropout(batch_.dropout);
    if (!batch_.first_sample) p.dropout.first_sample = nullptr;
    p.stride_q = strides_[0];
    p.stride_k = strides_[1];
    p.stride_v = strides_[2];
    p.stride_o = strides_[3];
    return p;
  }

  template <class P>
  void add_inputs(DeviceCase<P>& test) const {
    test.input(test.params.q, dtype_, q_);
    test.input(test.params.k, dtype_, k_);
    test.input(test.params.v, dtype_, v_);
    test.input(test.params.offsets, Dtype::i32, batch_.offsets());
    test.input(test.params.dropout.step, Dtype::i32, {static_cast<double>(site_.step)});
    if (batch_.first_sample)
      test.input(test.params.dropout.first_sample, Dtype::i32, {static_cast<double>(site_.first_sample)});
    if (!batch_.key_mask.empty()) test.input(test.params.key_mask, Dtype::u8, batch_.key_mask);
    if (!batch_.sample.empty()) test.input(test.params.sample, Dtype::i32, batch_.sample);
    if (!batch_.position.empty()) test.input(test.params.position, Dtype::i32, batch_.position);
  }

  void run_reference() {
    const auto q = stored(dtype_, q_), k = stored(dtype_, k_), v = stored(dtype_, v_);
    const auto offsets = stored(Dtype::i32, batch_.offsets()), mask = stored(Dtype::u8, batch_.key_mask);
    const auto sample = stored(Dtype::i32, batch_.sample), position = stored(Dtype::i32, batch_.position);
    const auto integers = [](const std::vector<std::byte>& x) {
      return x.empty() ? nullptr : reinterpret_cast<const std::int32_t*>(x.data());
    };
    std::vector<std::byte> o(static_cast<std::size_t>(batch_.tokens() * strides_[3]) * size_of(dtype_));
    std::vector<std::byte> lse(static_cast<std::size_t>(batch_.heads * batch_.tokens()) *
                               size_of(computed_dtype(dtype_)));
    Attention p = params<Attention>();
    p.q = q.data();
    p.k = k.data();
    p.v = v.data();
    p.offsets = integers(offsets);
    p.key_mask = mask.empty() ? nullptr : reinterpret_cast<const std::uint8_t*>(mask.data());
    p.sample = integers(sample);
    p.position = integers(position);
    p.o = o.data();
    p.lse = lse.data();
    const Status status = run(ref_module(), p);
    EXPECT_TRUE(status.ok()) << status.what;
    o_ = loaded(dtype_, o);
    lse_ = loaded(computed_dtype(dtype_), lse);
  }

  std::string description() const {
    std::string text = "heads " + std::to_string(batch_.heads) + " of " + std::to_string(batch_.head_size) +
                       ", dropout " + std::to_string(batch_.dropout) + ", lengths";
    for (const std::int64_t length : batch_.lengths) text += " " + std::to_string(length);
    return text;
  }

  Dtype dtype_;
  Batch batch_;
  DropoutSite site_;
  std::vector<std::int64_t> strides_;   // of q, k, v, o, d_o
  std::vector<double> q_, k_, v_, d_o_, o_, lse_;
};

/// Inputs are of size 1. A score adds head_size products and is scaled by 1 / sqrt(head_size): its roundings add up, at
/// random, to about sqrt(head_size) u, which are relative errors of the probability. The sums over keys (O, dQ) and
/// queries (dK, dV) add as many errors as their length, at random too. 8: four standard deviations, twice for the
/// exponential and the softmax's sum. The backward passes through three such products; what it subtracts (dP and its
/// row sum) is of size 1 in scale * dS, however small the difference is.
Tolerance rounding(const Batch& batch, double passes = 1) {
  const double depth = static_cast<double>(batch.head_size), length = static_cast<double>(batch.max_length());
  return {.ulps = passes * 4 * (4 + std::sqrt(depth) + std::sqrt(length)), .floor = 1};
}

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

/// They round probabilities and dS to `dtype`, each within half a unit of its last place. O is a sum of values of size
/// 1 whose weights add up to 1, or 1 / (1 - p) with dropout: at most that many units, which is two where p is a half.
/// The gradients are sums of as many roundings as there are keys or queries, at random, of terms whose own sum is
/// the result; beside the largest of them, or 1, two units again, and two for the dS of one row, which may all but
/// cancel.
Tolerance operand_rounding(Dtype dtype, const Batch& batch, double units) {
  const double unit = dtype == Dtype::f16 ? 0x1p13 : 0x1p16;   // in units of f32
  return {.ulps = units * unit + rounding(batch, 3).ulps, .floor = 1};
}

void check_tensor_cores(Dtype dtype, const Batch& batch, const std::string& variant) {
  const AttentionCase test(dtype, batch);
  test.check_forward(variant, operand_rounding(dtype, batch, 2), rounding(batch));
  test.check_backward(variant, operand_rounding(dtype, batch, 4));
}

class AttentionOnTensorCores : public ::testing::TestWithParam<Dtype> {
 protected:
  void check(const Batch& batch) const {
    if (batch.max_length() <= 128) check_tensor_cores(GetParam(), batch, "tensor_cores");
    check_tensor_cores(GetParam(), batch, "tensor_cores_tiled");
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
  check({.lengths = {65, 128}, .heads = 1, .head_size = 64, .dropout = 0.1, .first_sample = false});
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
