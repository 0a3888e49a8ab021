#include "kernels/gemm.h"

#include <cmath>

#include "tests/kernels/cuda/device_case.h"
#include "tests/kernels/cuda/device_under_test.h"

namespace sinter::kernels::testing {
namespace {

/// What a test changes of a plain product.
struct Product {
  std::int64_t m = 1, n = 1, k = 1;
  bool transpose_a = false, transpose_b = false, accumulate = false, bias = false;
  std::int64_t batch = 1;
  std::int64_t gap = 0;            ///< elements between the end of a row and the next, in every matrix
  std::size_t misalignment = 0;    ///< bytes, of every matrix
  std::size_t misalignment_c = 0;  ///< bytes, of C alone
  bool same_b = false;             ///< one B for the whole batch
  bool aligned = false;            ///< rows of A and B begin at multiples of 8 elements
};

/// The product of k pairs of standard normal numbers is about sqrt(k), as are its partial sums. Each of the k additions
/// rounds once; the errors add like a random walk to about 0.4 k u, of which the largest of many elements sees five
/// times as much. Beside sqrt(k): 2 sqrt(k) u; twice that for tensor cores, which truncate. 2 for bias and C.
Tolerance sum_tolerance(std::int64_t k) {
  const double size = std::sqrt(static_cast<double>(k));
  return {.ulps = 4 * (size + 2), .floor = size + 1};
}

/// A matrix that is stored as [rows, ld]: without the gap behind its last row.
std::int64_t elements(std::int64_t rows, std::int64_t cols, std::int64_t ld) {
  return rows == 0 ? 0 : (rows - 1) * ld + cols;
}

/// One variant, or with "" each that takes the product, as tiled must.
void check_product(Dtype dtype, const Product& c, const std::string& variant = "") {
  SCOPED_TRACE(::testing::Message() << c.m << " x " << c.n << " x " << c.k << (c.transpose_a ? " A^T" : " A")
                                    << (c.transpose_b ? " B^T" : " B") << (c.accumulate ? " accumulate" : "")
                                    << (c.bias ? " bias" : "") << " batch " << c.batch << " gap " << c.gap);
  const std::int64_t a_rows = c.transpose_a ? c.k : c.m, a_cols = c.transpose_a ? c.m : c.k;
  const std::int64_t b_rows = c.transpose_b ? c.n : c.k, b_cols = c.transpose_b ? c.k : c.n;
  const auto row = [&](std::int64_t cols) { return c.aligned ? (cols + c.gap + 7) / 8 * 8 : cols + c.gap; };
  const std::int64_t lda = row(a_cols), ldb = row(b_cols), ldc = c.n + c.gap;
  const std::int64_t others = std::max<std::int64_t>(c.batch - 1, 0);
  DeviceCase<Gemm> test({.dtype = dtype, .transpose_a = c.transpose_a, .transpose_b = c.transpose_b,
                         .accumulate = c.accumulate, .m = c.m, .n = c.n, .k = c.k, .batch = c.batch, .lda = lda,
                         .ldb = ldb, .ldc = ldc, .batch_stride_a = a_rows * lda,
                         .batch_stride_b = c.same_b ? 0 : b_rows * ldb, .batch_stride_c = c.m * ldc});
  test.input(test.params.a, dtype, normal_values(others * a_rows * lda + elements(a_rows, a_cols, lda), 1));
  test.misalign(c.misalignment);
  test.input(test.params.b, dtype,
             normal_values((c.same_b ? 0 : others * b_rows * ldb) + elements(b_rows, b_cols, ldb), 2));
  test.misalign(c.misalignment);
  // cuBLASLt may round the bias to `dtype` first: where it runs too, such a rounding changes nothing.
  if (c.bias)
    test.input(test.params.bias, computed_dtype(dtype), variant.empty() ? exact_values(c.n, 3) : normal_values(c.n, 3));
  const std::int64_t size = c.batch == 0 ? 0 : others * c.m * ldc + elements(c.m, c.n, ldc);
  if (c.accumulate || c.gap > 0 || c.k == 0)
    test.in_out(test.params.c, dtype, normal_values(size, 4), sum_tolerance(c.k));
  else
    test.output(test.params.c, dtype, size, sum_tolerance(c.k));
  test.misalign(c.misalignment + c.misalignment_c);
  variant.empty() ? test.check_with("tiled") : test.check_only(variant);
}

class GemmOnDevice : public ::testing::TestWithParam<Dtype> {};

INSTANTIATE_TEST_SUITE_P(Dtypes, GemmOnDevice, ::testing::ValuesIn(kDeviceDtypes),
                         [](const auto& tested) { return name(tested.param); });

/// Sizes around the sides of the tiles (64, 16), alone and several of them.
constexpr std::int64_t kSizes[][3] = {{1, 1, 1},    {1, 65, 7},   {64, 64, 16}, {63, 2, 17},
                                      {66, 65, 5}, {16, 48, 32}, {7, 9, 100}};

TEST_P(GemmOnDevice, MatchesReferenceInEveryLayout) {
  for (const auto& [m, n, k] : kSizes)
    for (const bool transpose_a : {false, true})
      for (const bool transpose_b : {false, true})
        check_product(GetParam(), {m, n, k, transpose_a, transpose_b});
}

TEST_P(GemmOnDevice, AddsBiasOrC) {
  for (const std::int64_t n : {3, 70}) {
    check_product(GetParam(), {.m = 20, .n = n, .k = 33, .transpose_b = true, .bias = true});
    check_product(GetParam(), {.m = 65, .n = n, .k = 18, .transpose_a = true, .accumulate = true});
  }
}

TEST_P(GemmOnDevice, Batches) {
  check_product(GetParam(), {.m = 5, .n = 67, .k = 19, .transpose_b = true, .batch = 3});
  check_product(GetParam(), {.m = 66, .n = 4, .k = 8, .accumulate = true, .batch = 2, .gap = 3});
  check_product(GetParam(), {.m = 9, .n = 17, .k = 16, .bias = true, .batch = 4, .same_b = true});
}

TEST_P(GemmOnDevice, RowsWithGapsAndAnyAddress) {
  const std::size_t element = size_of(GetParam());
  for (const bool transpose : {false, true})
    check_product(GetParam(), {.m = 30, .n = 35, .k = 21, .transpose_a = transpose, .transpose_b = !transpose,
                               .gap = 5, .misalignment = element});
}

TEST_P(GemmOnDevice, NothingToSum) {
  check_product(GetParam(), {.m = 5, .n = 7, .k = 0});
  check_product(GetParam(), {.m = 5, .n = 7, .k = 0, .bias = true, .batch = 2});
  check_product(GetParam(), {.m = 5, .n = 7, .k = 0, .accumulate = true});
}

TEST_P(GemmOnDevice, NothingToDo) {
  check_product(GetParam(), {.m = 0, .n = 7, .k = 3});
  check_product(GetParam(), {.m = 5, .n = 0, .k = 3});
  check_product(GetParam(), {.m = 5, .n = 7, .k = 3, .batch = 0});
}

class GemmOnTensorCores : public ::testing::TestWithParam<Dtype> {};

INSTANTIATE_TEST_SUITE_P(Dtypes, GemmOnTensorCores, ::testing::Values(Dtype::f16, Dtype::bf16),
                         [](const auto& tested) { return name(tested.param); });

/// Both sizes of tiles. Sizes around their sides, around 8 elements of a copy, 16 of a fragment and 32 of a stage, and
/// more stages than the ring has.
TEST_P(GemmOnTensorCores, MatchReferenceInEveryLayout) {
  constexpr std::int64_t sizes[][3] = {{1, 1, 1}, {64, 64, 32}, {65, 129, 41}, {17, 7, 130}, {130, 66, 16}};
  for (const auto& [m, n, k] : sizes)
    for (const bool transpose_a : {false, true})
      for (const bool transpose_b : {false, true}) {
        const Product c{.m = m, .n = n, .k = k, .transpose_a = transpose_a, .transpose_b = transpose_b,
                        .aligned = true};
        check_product(GetParam(), c, "tensor_cores_64");
        check_product(GetParam(), c, "tensor_cores_128");
      }
}

TEST_P(GemmOnTensorCores, BiasAccumulateBatchesAndGaps) {
  for (const char* variant : {"tensor_cores_64", "tensor_cores_128"}) {
    check_product(GetParam(), {.m = 70, .n = 35, .k = 48, .transpose_b = true, .bias = true, .batch = 2, .gap = 8,
                               .aligned = true}, variant);
    check_product(GetParam(), {.m = 40, .n = 72, .k = 33, .transpose_a = true, .accumulate = true, .gap = 3,
                               .aligned = true}, variant);
    check_product(GetParam(), {.m = 40, .n = 72, .k = 16, .accumulate = true, .aligned = true}, variant);
    check_product(GetParam(), {.m = 5, .n = 16, .k = 24, .misalignment_c = 2, .aligned = true}, variant);
    check_product(GetParam(), {.m = 5, .n = 15, .k = 24, .batch = 3, .same_b = true, .aligned = true}, variant);
    check_product(GetParam(), {.m = 5, .n = 16, .k = 0, .bias = true, .aligned = true}, variant);
    check_product(GetParam(), {.m = 5, .n = 16, .k = 8, .batch = 0, .aligned = true}, variant);
  }
}

std::string selected(const Gemm& p) {
  const KernelEntry* entry = find(device_under_test(), KernelId::gemm);
  return entry->variants[entry->select(&p)].name;
}

TEST(GemmOnDeviceParams, SelectsTensorCoresWhereRowsAreAligned) {
  const auto* const memory = reinterpret_cast<const std::byte*>(std::uintptr_t{4096});
  const Gemm many{.dtype = Dtype::bf16, .m = 4096, .n = 768, .k = 768, .a = memory, .b = memory, .lda = 768,
                  .ldb = 768, .ldc = 768};
  Gemm p = many;
  EXPECT_EQ(selected(p), "tensor_cores_128");
  p.m = 15 * 128;   // 90 large tiles
  EXPECT_EQ(selected(p), "tensor_cores_64");
  p.batch = 2;
  EXPECT_EQ(selected(p), "tensor_cores_128");
  p.batch_stride_a = 4;
  EXPECT_EQ(selected(p), "tiled");
  p.batch_stride_a = 0;
  p.m = p.n = 64;
  p.batch = std::int64_t{1} << 31;   // more tiles than a grid may have
  EXPECT_EQ(selected(p), "tiled");
  for (const auto& change : {+[](Gemm& g) { g.dtype = Dtype::f32; }, +[](Gemm& g) { g.lda = 772; },
                             +[](Gemm& g) { g.ldb = 769; },
                             +[](Gemm& g) { g.b = static_cast<const std::byte*>(g.b) + 8; }}) {
    p = many;
    change(p);
    EXPECT_EQ(selected(p), "tiled");
  }
}

TEST(GemmOnDeviceParams, RefusesIntegers) {
  expect_refused(Gemm{.dtype = Dtype::i32, .m = 1, .n = 1, .k = 1, .lda = 1, .ldb = 1, .ldc = 1}, "dtype");
}

}  // namespace
}  // namespace sinter::kernels::testing
