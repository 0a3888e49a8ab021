// What kernels/cuda/cublaslt.cpp asks of cuBLASLt, put to a pretended one that computes on the host, beside the
// emulated device, which runs the copy kernel.
#include "kernels/cuda/cublaslt.h"

#include <cmath>

#include "kernels/base/entry.h"
#include "kernels/copy.h"
#include "kernels/simt/module.h"
#include "tests/kernels/cuda/device_case.h"
#include "tests/kernels/cuda/device_under_test.h"
#include "tests/kernels/gpu/pretended_cublaslt.h"

namespace sinter::kernels::testing {

const BackendModule& device_under_test() {
  static constexpr Variant variants[] = {{"cublaslt", "", "", erased_run<Gemm, cuda::gemm_by_cublaslt>}};
  static const KernelEntry entries[] = {entry<Gemm, check>(variants)};
  static const BackendModule module = {kBackendAbi, "cublaslt on the host", "", entries, 1, simt_module().device};
  return module;
}

void for_each_schedule(const std::function<void(const std::string& schedule)>& fn) {
  fn("once");
  fn("again");  // with the plan of the first call
}

namespace {

struct Product {
  std::int64_t m = 5, n = 7, k = 3, batch = 1;
  bool transpose_a = false, transpose_b = false, accumulate = false, bias = false;
  std::int64_t gap = 0;            ///< elements between the end of a row and the next
  std::size_t misalignment = 0;    ///< bytes, of A
  bool same_b = false;             ///< one B for the whole batch
};

/// k roundings of f64 are nothing; one rounding to f32 remains, of sums of about sqrt(k). The bias has values of every
/// dtype: a rounding of it before would not show.
void check_product(Dtype dtype, const Product& c) {
  const std::int64_t a_rows = c.transpose_a ? c.k : c.m, lda = (c.transpose_a ? c.m : c.k) + c.gap;
  const std::int64_t b_rows = c.transpose_b ? c.n : c.k, ldb = (c.transpose_b ? c.k : c.n) + c.gap;
  const std::int64_t ldc = c.n + c.gap;
  DeviceCase<Gemm> test({.dtype = dtype, .transpose_a = c.transpose_a, .transpose_b = c.transpose_b,
                         .accumulate = c.accumulate, .m = c.m, .n = c.n, .k = c.k, .batch = c.batch, .lda = lda,
                         .ldb = ldb, .ldc = ldc, .batch_stride_a = a_rows * lda,
                         .batch_stride_b = c.same_b ? 0 : b_rows * ldb, .batch_stride_c = c.m * ldc});
  test.input(test.params.a, dtype, normal_values(c.batch * a_rows * lda, 1));
  test.misalign(c.misalignment);
  test.input(test.params.b, dtype, normal_values((c.same_b ? 1 : c.batch) * b_rows * ldb, 2));
  if (c.bias) test.input(test.params.bias, computed_dtype(dtype), exact_values(c.n, 3));
  test.in_out(test.params.c, dtype, normal_values(c.batch * c.m * ldc, 4), {.ulps = 2, .floor = 1});
  test.check();
}

constexpr Dtype kDtypes[] = {Dtype::f32, Dtype::f16, Dtype::bf16};

TEST(CublasLt, IsFound) { EXPECT_STREQ(cuda::why_no_cublaslt(), ""); }

TEST(CublasLt, MatchesReferenceInEveryLayout) {
  for (const Dtype dtype : kDtypes)
    for (const bool transpose_a : {false, true})
      for (const bool transpose_b : {false, true})
        for (const bool accumulate : {false, true})
          for (const std::int64_t gap : {0, 3}) {
            SCOPED_TRACE(::testing::Message()
                         << name(dtype) << (transpose_a ? " A^T" : "") << (transpose_b ? " B^T" : "")
                         << (accumulate ? " accumulate" : "") << " gap " << gap);
            Product p{.transpose_a = transpose_a, .transpose_b = transpose_b, .accumulate = accumulate, .gap = gap};
            check_product(dtype, p);
            p.m = p.n = p.k = 4;  // nothing but the flags tells these problems apart
            check_product(dtype, p);
          }
}

TEST(CublasLt, BatchesHaveTheirStrides) {
  check_product(Dtype::f32, {.batch = 3, .transpose_b = true});
  check_product(Dtype::f16, {.batch = 3, .transpose_a = true, .gap = 1});
  check_product(Dtype::f32, {.batch = 2, .same_b = true});
}

TEST(CublasLt, BiasIsAddedToEveryRow) {
  for (const Dtype dtype : kDtypes) {
    check_product(dtype, {.bias = true});
    check_product(dtype, {.transpose_a = true, .bias = true, .gap = 3});
    check_product(dtype, {.batch = 3, .transpose_b = true, .bias = true, .gap = 1});
    check_product(dtype, {.batch = 2, .bias = true, .same_b = true});
  }
}

/// 1 x 1 x 1 in f16, with a bias of f32 that f16 does not hold.
struct HalfProduct {
  f16 a = to_f16(0x1p-11f), b = to_f16(1), c = to_f16(NAN);
  float bias = 1 + 0x1p-11f;

  Gemm params() {
    return {.dtype = Dtype::f16, .m = 1, .n = 1, .k = 1, .a = &a, .b = &b, .c = &c, .bias = &bias, .lda = 1, .ldb = 1,
            .ldc = 1};
  }
};

/// The bias becomes 1, to which the product adds half a unit: 1. Unrounded, both would be 1 + 2^-10.
TEST(CublasLt, BiasBesideHalvesIsRoundedBeforeTheSum) {
  alignas(256) HalfProduct x;
  EXPECT_TRUE(cuda::gemm_by_cublaslt(x.params(), {}).ok());
  EXPECT_EQ(to_float(x.c), 1);
  x.bias = 2;
  EXPECT_TRUE(cuda::gemm_by_cublaslt(x.params(), {}).ok());
  EXPECT_EQ(to_float(x.c), 2);   // C was no part of the sum
}

TEST(CublasLt, BiasBesideHalvesAsksForPlansOnce) {
  alignas(256) HalfProduct x;
  Gemm p = x.params();
  p.lda = 2;   // no other test's
  const int before = questions();
  EXPECT_TRUE(cuda::cublaslt_takes(p));
  EXPECT_EQ(questions(), before + 2);   // with the bias, which is refused, and without
  for (int i = 0; i < 3; ++i) EXPECT_TRUE(cuda::gemm_by_cublaslt(p, {}).ok());
  p.bias = nullptr;
  p.accumulate = true;                  // the same plan
  EXPECT_TRUE(cuda::gemm_by_cublaslt(p, {}).ok());
  EXPECT_EQ(questions(), before + 2);
}

TEST(CublasLt, BiasBelongsToTheCall) {
  alignas(16) const float biases[] = {0, 10, 0, 20};  // both of the same alignment
  const float one = 1;
  float c = 0;
  Gemm p{.m = 1, .n = 1, .k = 1, .a = &one, .b = &one, .c = &c, .lda = 1, .ldb = 1, .ldc = 1};
  for (const float* bias : {biases + 1, biases + 3}) {
    p.bias = bias;
    EXPECT_TRUE(cuda::gemm_by_cublaslt(p, {}).ok());
    EXPECT_EQ(c, 1 + *bias);
  }
}

// The algorithm is asked for what the pointers have: the pretended library refuses alignment that was promised in vain.
TEST(CublasLt, AlignmentBelongsToTheProblem) {
  check_product(Dtype::f16, {});
  check_product(Dtype::f16, {.misalignment = 2});
  check_product(Dtype::f16, {.misalignment = 16});
}

TEST(CublasLt, EmptyProductsDoNothing) {
  for (const Product& p : {Product{.m = 0}, Product{.n = 0}, Product{.batch = 0}}) check_product(Dtype::f32, p);
}

TEST(CublasLt, SaysWhatItDoesNotTake) {
  float c = 0;
  const Gemm p{.m = 1, .n = 1, .k = 1, .a = &c, .b = &c, .c = &c, .lda = 1, .ldb = 1, .ldc = 1};
  EXPECT_TRUE(cuda::cublaslt_takes(p));
  Gemm f64 = p, no_k = p;
  f64.dtype = Dtype::f64;
  no_k.k = 0;
  no_k.bias = &c;
  for (const Gemm& refused : {f64, no_k}) {
    EXPECT_FALSE(cuda::cublaslt_takes(refused));
    EXPECT_EQ(cuda::gemm_by_cublaslt(refused, {}).code, StatusCode::unsupported);
  }
}

TEST(CublasLt, UsesTheWorkspaceThatIsThere) {
  std::vector<std::byte> workspace(cuda::kCublasLtWorkspace);
  float a = 3, b = 4, c = 0;
  Gemm p{.m = 1, .n = 1, .k = 1, .a = &a, .b = &b, .c = &c, .lda = 1, .ldb = 1, .ldc = 1};
  for (void* const offered : {static_cast<void*>(nullptr), static_cast<void*>(workspace.data())}) {
    p.workspace = offered;
    EXPECT_TRUE(cuda::gemm_by_cublaslt(p, {}).ok());
    EXPECT_EQ(c, 12);
  }
  EXPECT_EQ(workspace.front(), std::byte{0xff});
}

TEST(CublasLt, IsSelectedWhereItTakesTheParams) {
  static constexpr Variant one[] = {{"own", "", "", [](const void*, Stream) { return Status{}; }}};
  const KernelEntry row = cuda::with_cublaslt(entry<Gemm, check>(one));
  ASSERT_EQ(row.variant_count, 2);
  EXPECT_STREQ(row.variants[0].name, "own");
  EXPECT_STREQ(row.variants[1].name, "cublaslt");
  EXPECT_TRUE(row.variants[1].gpu_only);
  Gemm p{.dtype = Dtype::f16, .m = 8, .n = 8, .k = 8, .lda = 8, .ldb = 8, .ldc = 8};
  EXPECT_EQ(row.select(&p), 1);
  EXPECT_EQ(row.workspace(&p), cuda::kCublasLtWorkspace);
  p.dtype = Dtype::f64;
  EXPECT_EQ(row.select(&p), 0);
  EXPECT_EQ(row.workspace(&p), 0u);
}

// What test_cuda asks at its end.
TEST(GpuOnlyVariants, MustRunOnAGpuUnlessExcused) {
  static constexpr Variant variants[] = {{"own", "", "", nullptr}, {"library", "", "", nullptr, /*gpu_only=*/true}};
  static const KernelEntry entries[] = {entry<Copy, check>(variants)};
  const auto never = [&](const char* name) {
    return variants_that_never_ran({kBackendAbi, name, "", entries, 1, simt_module().device});
  };
  EXPECT_EQ(never("simt"), std::vector<std::string>{"copy own"});
  EXPECT_EQ(never("cuda"), (std::vector<std::string>{"copy own", "copy library"}));
  excuse_variant(KernelId::copy, "library", "it takes nothing here");
  EXPECT_EQ(never("cuda"), std::vector<std::string>{"copy own"});
}

}  // namespace
}  // namespace sinter::kernels::testing
