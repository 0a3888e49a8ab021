// What kernels/cuda/cudnn_attention.cpp asks of cuDNN, put to a pretended one that computes on the host, beside the
// emulated device, which runs the kernels around it.
#include "kernels/cuda/cudnn_attention.h"

#include <dlfcn.h>

#include "kernels/base/entry.h"
#include "kernels/cuda/cudnn.h"
#include "kernels/simt/module.h"
#include "tests/kernels/cuda/attention_case.h"
#include "tests/kernels/cuda/device_under_test.h"

namespace sinter::kernels::testing {

const BackendModule& device_under_test() {
  static const KernelEntry entries[] = {
      cuda::with_cudnn(*find(simt_module(), KernelId::attention), cuda::Serves::referee),
      cuda::with_cudnn(*find(simt_module(), KernelId::attention_backward), cuda::Serves::referee)};
  static const BackendModule module = {kBackendAbi, "cudnn on the host", "", entries, 2, simt_module().device};
  return module;
}

void for_each_schedule(const std::function<void(const std::string& schedule)>& fn) {
  fn("once");
  fn("again");  // with the plan of the first call
}

namespace {

/// What the pretended library tells beside cuDNN's own functions.
template <class Result>
Result told(const char* function) {
  return reinterpret_cast<Result (*)()>(dlsym(dlopen("libcudnn.so.9", RTLD_NOW | RTLD_NOLOAD), function))();
}
int compiled_plans() { return told<int>("pretended_cudnn_plans"); }

TEST(Cudnn, IsFound) {
  EXPECT_STREQ(cuda::dnn::why_no_cudnn(), "");
  EXPECT_EQ(cuda::dnn::version(), "cuDNN 9.28.1");
}

/// The pretended library computes in f64 from the same values: one rounding to `dtype` remains, of f32 for lse. Of the
/// scale too: a score of the size 2^3 is then off by 2^3 u, and so is its probability.
void check(Dtype dtype, Batch batch) {
  batch.longest = std::max<std::int64_t>(batch.max_length(), 128);   // a bound, so that the rows serve it
  const AttentionCase test(dtype, batch);
  test.check_forward("cudnn", {.ulps = 8, .floor = 1}, {.ulps = 2, .floor = 1});
  test.check_backward("cudnn", {.ulps = 64, .floor = 1});
}

TEST(Cudnn, MatchesReference) {
  for (const Dtype dtype : {Dtype::f16, Dtype::bf16}) {
    check(dtype, {.lengths = {40, 3, 0, 17}, .heads = 3, .head_size = 8});
    check(dtype, {.lengths = {130}, .heads = 1, .head_size = 96, .gap = 0});
    check(dtype, {.lengths = {5, 21}, .heads = 2, .head_size = 256, .gap = 16, .longest = 4000, .scale = 0.3});
  }
}

TEST(Cudnn, ListsMoreSequencesThanThereAre) {
  std::vector<std::int64_t> lengths;
  for (int i = 0; i < 21; ++i) lengths.push_back(i % 4);   // 24 are listed
  check(Dtype::f16, {.lengths = lengths, .heads = 1, .head_size = 16});
}

TEST(Cudnn, NothingToDo) {
  const Attention p{.dtype = Dtype::f16, .heads = 2, .head_size = 16, .stride_q = 32, .stride_k = 32, .stride_v = 32,
                    .stride_o = 32};
  EXPECT_TRUE(cuda::attend_by_cudnn(p, {}).ok());
  EXPECT_TRUE(cuda::differentiate_by_cudnn({.dtype = Dtype::f16, .heads = 2, .head_size = 16}, {}).ok());
}

/// The first engine cannot compile the first batch, and has no sums in a fixed order for the second.
TEST(Cudnn, TakesTheNextProposal) {
  const Batch batch{.lengths = {9}, .heads = 1, .head_size = 24, .longest = 128};
  AttentionCase(Dtype::f16, batch).check_forward("cudnn", {.ulps = 8, .floor = 1}, {.ulps = 2, .floor = 1});
  check(Dtype::f16, {.lengths = {9}, .heads = 7, .head_size = 8});
}

template <class P>
P aligned_params() {
  const auto at = [](std::uintptr_t address) { return reinterpret_cast<void*>(address); };
  P p;
  p.dtype = Dtype::f16;
  p.tokens = 500;
  p.sequences = 7;
  p.heads = 8;
  p.head_size = 96;
  p.max_length = 300;
  p.q = p.k = p.v = at(4096);
  p.o = at(8192);
  p.stride_q = p.stride_k = p.stride_v = p.stride_o = 768;
  return p;
}
template <>
AttentionBackward aligned_params() {
  const auto forward = aligned_params<Attention>();
  AttentionBackward p;
  p.dtype = forward.dtype;
  p.tokens = forward.tokens;
  p.sequences = forward.sequences;
  p.heads = forward.heads;
  p.head_size = forward.head_size;
  p.max_length = forward.max_length;
  p.q = p.k = p.v = p.o = p.d_o = forward.o;
  p.dq = p.dk = p.dv = forward.o;
  p.stride_q = p.stride_k = p.stride_v = p.stride_o = p.stride_do = p.stride_dq = p.stride_dk = p.stride_dv = 768;
  return p;
}

template <class P>
void check_refused(const P& good, const std::vector<void (*)(P&)>& changes) {
  EXPECT_TRUE(cuda::cudnn_takes(good));
  for (std::size_t i = 0; i < changes.size(); ++i) {
    P p = good;
    changes[i](p);
    EXPECT_FALSE(cuda::cudnn_takes(p)) << "change " << i;
    const KernelEntry& row = *find_on_device(P::id);
    EXPECT_EQ(row.variants[row.variant_count - 1].run(&p, {}).code, StatusCode::unsupported) << "change " << i;
  }
}

TEST(Cudnn, SaysWhatItDoesNotTake) {
  check_refused<Attention>(
      aligned_params<Attention>(),
      {[](Attention& p) { p.dtype = Dtype::f32; }, [](Attention& p) { p.head_size = 44; },
       [](Attention& p) { p.head_size = 264; }, [](Attention& p) { p.heads = 13; },   // no engine
       [](Attention& p) { p.head_size = 48; },                                        // none that compiles
       [](Attention& p) { p.key_mask = static_cast<const std::uint8_t*>(p.q); },
       [](Attention& p) { p.dropout.threshold = 100; }, [](Attention& p) { p.stride_k = 772; },
       [](Attention& p) { p.v = static_cast<const std::byte*>(p.v) + 8; },
       [](Attention& p) { p.o = static_cast<std::byte*>(p.o) + 2; }});
  check_refused<AttentionBackward>(
      aligned_params<AttentionBackward>(),
      {[](AttentionBackward& p) { p.dtype = Dtype::f64; },
       [](AttentionBackward& p) { p.head_size = 24; },   // no engine that adds in a fixed order
       [](AttentionBackward& p) { p.head_size = 48; },
       [](AttentionBackward& p) { p.stride_do = 772; }, [](AttentionBackward& p) { p.stride_dv = 769; },
       [](AttentionBackward& p) { p.dq = static_cast<std::byte*>(p.dq) + 8; }});
}

/// One plan serves other tokens, positions, scales and almost as many sequences; not what its tensors know.
TEST(Cudnn, PlansAreKept) {
  auto p = aligned_params<Attention>();
  p.sequences = 33;
  p.heads = 5;
  const int before = compiled_plans();
  EXPECT_TRUE(cuda::cudnn_takes(p));
  EXPECT_EQ(compiled_plans(), before + 1);
  p.tokens = 5000;
  p.sequences = 40;
  p.max_length = 384;
  p.scale = 2;
  EXPECT_TRUE(cuda::cudnn_takes(p));
  EXPECT_EQ(compiled_plans(), before + 1);
  int expected = before + 1;
  const auto expect_another = [&](auto&& change) {
    Attention other = p;
    change(other);
    EXPECT_TRUE(cuda::cudnn_takes(other));
    EXPECT_EQ(compiled_plans(), ++expected);
  };
  expect_another([](Attention& a) { a.sequences = 41; });
  expect_another([](Attention& a) { a.max_length = 385; });
  expect_another([](Attention& a) { a.dtype = Dtype::bf16; });
  expect_another([](Attention& a) { a.heads = 6; });
  expect_another([](Attention& a) { a.head_size = 88; });
  expect_another([](Attention& a) { a.stride_q = 776; });
  expect_another([](Attention& a) { a.stride_o = 776; });
}

TEST(Cudnn, WorkspaceHoldsTablesStatisticsAndThePlans) {
  auto p = aligned_params<Attention>();
  // Five tables of 8, 7 lengths, 4000 statistics, and 1000 bytes of the plan's.
  EXPECT_EQ(cuda::cudnn_workspace(p), std::size_t{512 + 256 + 16128 + 1000 + 256});
  p.q = static_cast<const std::byte*>(p.q) + 2;   // other pointers may come
  EXPECT_GT(cuda::cudnn_workspace(p), 0u);
  p.dtype = Dtype::f32;
  EXPECT_EQ(cuda::cudnn_workspace(p), 0u);
}

/// Four tokens with heads of 8, in host memory.
struct FourTokens {
  explicit FourTokens(std::int64_t heads)
      : rows(static_cast<std::size_t>(4 * heads)), lse(rows.size()), workspace(std::size_t{1} << 16) {
    params = {.dtype = Dtype::f16, .tokens = 4, .sequences = 1, .heads = heads, .head_size = 8, .max_length = 4,
              .offsets = offsets, .q = rows.data(), .k = rows.data(), .v = rows.data(), .stride_q = 8 * heads,
              .stride_k = 8 * heads, .stride_v = 8 * heads, .stride_o = 8 * heads, .o = rows.data(), .lse = lse.data(),
              .workspace = workspace.data()};
    EXPECT_LE(cuda::cudnn_workspace(params), workspace.size());
  }
  struct alignas(16) Row {
    f16 of_head[8] = {};
  };
  const std::int32_t offsets[2] = {0, 4};
  std::vector<Row> rows;
  std::vector<float> lse;
  std::vector<std::byte> workspace;
  Attention params;
};

TEST(Cudnn, RunsInTheStream) {
  const FourTokens call(2);
  const DeviceApi& api = *device_under_test().device;
  Stream stream;
  ASSERT_TRUE(api.create_stream(0, &stream).ok());
  for (const Stream each : {stream, Stream{}}) {
    EXPECT_TRUE(cuda::attend_by_cudnn(call.params, each).ok());
    EXPECT_EQ(told<void*>("pretended_cudnn_stream"), each.handle);
  }
  api.destroy_stream(0, stream);
}

TEST(Cudnn, FailuresAreTheLibrarysOwnWords) {
  const Status status = cuda::attend_by_cudnn(FourTokens(11).params, {});
  EXPECT_EQ(status.code, StatusCode::device_error);
  EXPECT_STREQ(status.what, "the pretended cuDNN refuses this");
}

// --- The rows ---

int own_selection = 0;

template <class P>
KernelEntry row_of(cuda::Serves serves) {
  static constexpr Variant two[] = {{"by_rows", "", "", [](const void*, Stream) { return Status{}; }},
                                    {"tensor_cores", "", "", [](const void*, Stream) { return Status{}; }}};
  KernelEntry own{P::id, sizeof(P), two, 2, [](const void*) { return own_selection; },
                  [](const void*) { return Status{}; }, [](const void*) { return std::size_t{100}; }};
  return cuda::with_cudnn(own, serves);
}

template <class P>
void check_selection() {
  const P p = aligned_params<P>();
  P short_one = p, f32 = p;
  short_one.max_length = 128;
  f32.dtype = Dtype::f32;
  const KernelEntry& referee = *find_on_device(P::id);   // of other rows: made before
  EXPECT_STREQ(referee.variants[referee.variant_count - 1].name, "cudnn");
  const KernelEntry row = row_of<P>(cuda::Serves::selection);
  ASSERT_EQ(row.variant_count, 3);
  EXPECT_STREQ(row.variants[0].name, "by_rows");
  EXPECT_STREQ(row.variants[2].name, "cudnn");
  EXPECT_TRUE(row.variants[2].gpu_only);
  own_selection = 0;
  EXPECT_EQ(row.select(&p), 2);
  EXPECT_EQ(row.workspace(&p), cuda::cudnn_workspace(p));
  EXPECT_EQ(row.select(&f32), 0);
  EXPECT_EQ(row.workspace(&f32), 100u);
  EXPECT_EQ(row.select(&short_one), 0);
  EXPECT_EQ(row.workspace(&short_one), 100u);
  EXPECT_EQ(row.variants[2].run(&short_one, {}).code, StatusCode::unsupported);
  own_selection = 1;   // kernels of our own on tensor cores
  EXPECT_EQ(row.select(&p), 1);
  EXPECT_EQ(row.workspace(&p), 100u);
  EXPECT_EQ(row.variants[2].run(&p, {}).code, StatusCode::unsupported);
  EXPECT_EQ(referee.workspace(&p), cuda::cudnn_workspace(p));
  EXPECT_EQ(referee.workspace(&short_one), cuda::cudnn_workspace(short_one));
  short_one.max_length = 127;
  EXPECT_LT(referee.workspace(&short_one), cuda::cudnn_workspace(short_one));
  EXPECT_EQ(referee.variants[referee.variant_count - 1].run(&short_one, {}).code, StatusCode::unsupported);
}

TEST(CudnnRow, IsSelectedWhereNoKernelOfOurOwnOnTensorCoresIs) {
  check_selection<Attention>();
  check_selection<AttentionBackward>();
}

TEST(Cudnn, PlansForADescribedGpu) {
  std::size_t workspace = 0;
  EXPECT_TRUE(cuda::plan_on_described_gpu("{}", aligned_params<Attention>(), &workspace).ok());
  EXPECT_EQ(workspace, 1000u);
  EXPECT_TRUE(cuda::plan_on_described_gpu("{}", aligned_params<AttentionBackward>(), &workspace).ok());
  EXPECT_EQ(cuda::plan_on_described_gpu("no JSON", aligned_params<Attention>(), &workspace).code,
            StatusCode::device_error);
  auto p = aligned_params<Attention>();
  p.heads = 13;
  EXPECT_EQ(cuda::plan_on_described_gpu("{}", p, &workspace).code, StatusCode::unsupported);
}

}  // namespace
}  // namespace sinter::kernels::testing
