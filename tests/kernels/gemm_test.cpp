#include "kernels/gemm.h"

#include <limits>

#include "tests/kernels/kernel_test.h"

namespace sinter::kernels {
namespace {

using testing::Buffer;

struct Case {
  std::int64_t m = 1, n = 1, k = 1;
  bool transpose_a = false, transpose_b = false, accumulate = false, bias = false;
  std::int64_t batch = 1;
  std::int64_t pad = 0;  ///< elements between the end of a row and the next, in every matrix
};

std::string describe(const Case& c) {
  return std::to_string(c.m) + "x" + std::to_string(c.n) + "x" + std::to_string(c.k) + (c.transpose_a ? " A^T" : " A") +
         (c.transpose_b ? " B^T" : " B") + (c.accumulate ? " accumulate" : "") + (c.bias ? " bias" : "") + " batch " +
         std::to_string(c.batch) + " pad " + std::to_string(c.pad);
}

/// Operands of a case and its params, without C.
template <class T>
struct Operands {
  explicit Operands(const Case& c)
      : a(testing::random_buffer<T>(elements(c.transpose_a ? c.k : c.m, c.transpose_a ? c.m : c.k, c), 1)),
        b(testing::random_buffer<T>(elements(c.transpose_b ? c.n : c.k, c.transpose_b ? c.k : c.n, c), 2)),
        bias(testing::random_buffer<T>(c.n, 3)) {
    p.dtype = dtype_of<T>;
    p.transpose_a = c.transpose_a;
    p.transpose_b = c.transpose_b;
    p.accumulate = c.accumulate;
    p.m = c.m;
    p.n = c.n;
    p.k = c.k;
    p.batch = c.batch;
    p.a = a.data();
    p.b = b.data();
    p.bias = c.bias ? bias.data() : nullptr;
    p.lda = (c.transpose_a ? c.m : c.k) + c.pad;
    p.ldb = (c.transpose_b ? c.k : c.n) + c.pad;
    p.ldc = c.n + c.pad;
    p.batch_stride_a = a.size() / std::max<std::int64_t>(1, c.batch);
    p.batch_stride_b = b.size() / std::max<std::int64_t>(1, c.batch);
    p.batch_stride_c = c.m * p.ldc;
  }
  static std::int64_t elements(std::int64_t rows, std::int64_t columns, const Case& c) {
    return c.batch * rows * (columns + c.pad);
  }

  Buffer<T> a, b, bias;
  Gemm p;
};

/// C before the product: known values where it is read, NaN (the poison of Buffer) where it is only written. The gaps
/// between rows hold values that must survive.
template <class T>
Buffer<T> fresh_c(const Case& c) {
  Buffer<T> out(c.batch * c.m * (c.n + c.pad));
  const Buffer<T> values = testing::random_buffer<T>(out.size(), 4);
  for (std::int64_t i = 0; i < out.size(); ++i)
    if (c.accumulate || i % (c.n + c.pad) >= c.n) out[i] = values[i];
  return out;
}

template <class T>
Buffer<T> product(const BackendModule& module, Gemm p, const Case& c, Stream stream = {}, int variant = -1) {
  Buffer<T> out = fresh_c<T>(c);
  p.c = out.data();
  EXPECT_TRUE(testing::run_ok(module, p, stream, variant)) << describe(c);
  return out;
}

/// A sum of k products of standard normal numbers is about sqrt(k), its partial sums are no larger, and each of the k
/// additions rounds once: errors add like a random walk, k^(1/2) * k^(1/2) * ulp = k * ulp in absolute terms, of which
/// the largest of many elements sees a few times more. expect_close divides by the largest element, at least sqrt(k).
template <class T>
double tolerance(std::int64_t k) {
  return 4 * testing::kUlp<T> * (std::sqrt(static_cast<double>(k)) + 2);
}

int variants(const BackendModule& module) { return find(module, KernelId::gemm)->variant_count; }

template <class T>
void expect_matches_reference(const Case& c) {
  const Operands<T> operands(c);
  const Buffer<T> expected = product<T>(ref_module(), operands.p, c);
  testing::for_each_cpu([&](const BackendModule& module) {
    for (int v = 0; v < variants(module); ++v)
      testing::expect_close(product<T>(module, operands.p, c, {}, v).span(), expected.span(), tolerance<T>(c.k),
                            describe(c) + " variant " + std::to_string(v), std::sqrt(static_cast<double>(c.k) + 1));
  });
}

constexpr std::int64_t kOddSizes[][3] = {
    {1, 1, 1},     {1, 33, 7},    {2, 1, 100}, {7, 15, 3},   {12, 32, 64}, {13, 33, 65},  {6, 16, 8},    {25, 100, 1},
    {30, 64, 30},  {100, 17, 33}, {5, 300, 9}, {48, 8, 520}, {37, 70, 0},  {61, 47, 513}, {250, 40, 600}};

class GemmCases : public ::testing::TestWithParam<int> {};

TEST_P(GemmCases, MatchesReference) {
  const int bits = GetParam();
  Case c;
  c.transpose_a = (bits & 1) != 0;
  c.transpose_b = (bits & 2) != 0;
  c.accumulate = (bits & 4) != 0;
  c.bias = (bits & 8) != 0;
  if (c.accumulate && c.bias) return;  // refused; see RefusesWrongParams
  for (const auto& size : kOddSizes)
    for (const std::int64_t pad : {0, 5}) {
      c.m = size[0];
      c.n = size[1];
      c.k = size[2];
      c.pad = pad;
      expect_matches_reference<float>(c);
      expect_matches_reference<double>(c);
    }
}

INSTANTIATE_TEST_SUITE_P(All, GemmCases, ::testing::Range(0, 16));

TEST(Gemm, Batches) {
  for (const bool transpose_b : {false, true})
    for (const bool accumulate : {false, true})
      for (const std::int64_t batch : {2, 5, 24}) {
        const Case c = {30, 33, 64, false, transpose_b, accumulate, false, batch, 3};
        expect_matches_reference<float>(c);
        expect_matches_reference<double>(c);
      }
}

TEST(Gemm, BroadcastsAnOperandWithStrideZero) {
  const Case c = {20, 40, 30, false, true, false, false, 3, 0};
  Operands<float> operands(c);
  operands.p.batch_stride_b = 0;
  const Buffer<float> expected = product<float>(ref_module(), operands.p, c);
  testing::for_each_cpu([&](const BackendModule& module) {
    testing::expect_close(product<float>(module, operands.p, c).span(), expected.span(), tolerance<float>(c.k),
                          "stride 0");
  });
}

TEST(Gemm, EmptyShapesDoNothing) {
  testing::for_each_cpu([&](const BackendModule& module) {
    for (int v = 0; v < variants(module); ++v)
      for (const Case& c : {Case{0, 5, 3}, Case{5, 0, 3}, Case{5, 5, 3, false, false, false, false, 0}}) {
        const Operands<float> operands(c);
        Buffer<float> out(25);
        Gemm p = operands.p;
        p.c = out.data();
        EXPECT_TRUE(testing::run_ok(module, p, {}, v));
        for (std::int64_t i = 0; i < out.size(); ++i) EXPECT_TRUE(std::isnan(out[i]));
      }
  });
}

TEST(Gemm, LeavesGapsBetweenRowsAlone) {
  const Case c = {29, 37, 41, false, true, false, true, 2, 6};
  const Operands<float> operands(c);
  const Buffer<float> before = fresh_c<float>(c);
  testing::for_each_cpu([&](const BackendModule& module) {
    for (int v = 0; v < variants(module); ++v) {
      const Buffer<float> after = product<float>(module, operands.p, c, {}, v);
      for (std::int64_t i = 0; i < after.size(); ++i) {
        if (i % (c.n + c.pad) < c.n) continue;
        ASSERT_EQ(after[i], before[i]) << i;
      }
    }
  });
}

/// Rows of a product with few rows, batched or not, equal those of one with many, bit for bit.
template <class T>
void expect_rows_independent_of_m(Case c) {
  c.m = 480;
  const Operands<T> whole(c);
  testing::for_each_cpu([&](const BackendModule& module) {
    const Buffer<T> expected = product<T>(module, whole.p, c);
    for (const std::int64_t rows : {1, 2, 7, 213}) {
      Case few = c;
      few.m = rows;
      Gemm p = whole.p;
      p.m = rows;
      for (const std::int64_t first : {std::int64_t{0}, 480 - rows}) {
        p.a = whole.a.data() + first * p.lda;
        const Buffer<T> actual = product<T>(module, p, few);
        const auto bytes = static_cast<std::size_t>(actual.size()) * sizeof(T);
        ASSERT_EQ(std::memcmp(actual.data(), expected.data() + first * p.ldc, bytes), 0)
            << describe(few) << " from row " << first;
      }
    }
    Gemm batched = whole.p;
    Case parts = c;
    batched.batch = parts.batch = 32;
    batched.m = parts.m = 15;
    batched.batch_stride_a = 15 * batched.lda;
    batched.batch_stride_b = 0;
    batched.batch_stride_c = 15 * batched.ldc;
    testing::expect_same_bits(product<T>(module, batched, parts), expected, "batched " + describe(c));
  });
}

TEST(Gemm, BitsOfARowDoNotDependOnTheOtherRows) {
  for (const bool transpose_b : {false, true})
    for (const std::int64_t k : {33, 768}) {
      expect_rows_independent_of_m<float>({0, 100, k, false, transpose_b, false, true});
      expect_rows_independent_of_m<double>({0, 100, k, false, transpose_b, false, true});
    }
}

/// Where the rows of A lie decides whether they are packed, never a bit of the result.
TEST(Gemm, BitsDoNotDependOnLeadingDimensions) {
  for (const bool transpose_a : {false, true}) {
    Case c = {50, 70, 1024, transpose_a, true};
    if (transpose_a) std::swap(c.m, c.k);
    const Operands<float> tight(c);
    Case padded = c;
    padded.pad = 7;
    Operands<float> loose(padded);
    const auto spread = [](const Buffer<float>& from, Buffer<float>& to, std::int64_t row) {
      for (std::int64_t i = 0; i < from.size(); ++i) to[i / row * (row + 7) + i % row] = from[i];
    };
    spread(tight.a, loose.a, tight.p.lda);
    spread(tight.b, loose.b, tight.p.ldb);
    loose.p.ldc = c.n;
    testing::for_each_cpu([&](const BackendModule& module) {
      testing::expect_same_bits(product<float>(module, tight.p, c), product<float>(module, loose.p, c), describe(c));
    });
  }
}

TEST(Gemm, BitsDoNotDependOnThreads) {
  ThreadPool one(1), two(2), four(4);
  for (const Case& c : {Case{213, 768, 768, false, true, false, true}, Case{100, 70, 1100, true, false, true},
                        Case{300, 33, 1500, true, false, true}, Case{9, 9, 9, false, false, false, false, 7}}) {
    const Operands<float> f32(c);
    const Operands<double> f64(c);
    testing::for_each_cpu([&](const BackendModule& module) {
      for (int v = 0; v < variants(module); ++v) {
        const Buffer<float> expected = product<float>(module, f32.p, c, {}, v);
        const Buffer<double> expected64 = product<double>(module, f64.p, c, {}, v);
        for (ThreadPool* pool : {&one, &two, &four, &four}) {
          testing::expect_same_bits(product<float>(module, f32.p, c, pool->stream(), v), expected, describe(c));
          testing::expect_same_bits(product<double>(module, f64.p, c, pool->stream(), v), expected64, describe(c));
        }
      }
    });
  }
}

TEST(Gemm, PackedBitsDoNotDependOnTheInstructionSet) {
  const BackendModule* avx2 = cpu_module(CpuIsa::avx2);
  const BackendModule* avx512 = cpu_module(CpuIsa::avx512);
  if (avx512 == nullptr) GTEST_SKIP() << "this processor has no AVX-512";
  const Case c = {50, 90, 1300, false, true, false, true};
  const Operands<float> f32(c);
  testing::expect_same_bits(product<float>(*avx2, f32.p, c), product<float>(*avx512, f32.p, c), describe(c));
  const Operands<double> f64(c);
  testing::expect_same_bits(product<double>(*avx2, f64.p, c), product<double>(*avx512, f64.p, c), describe(c));
}

/// accumulate adds the bits that the plain product gives, once.
template <class T>
void expect_accumulates_once(Case c) {
  const Operands<T> operands(c);
  testing::for_each_cpu([&](const BackendModule& module) {
    c.accumulate = false;
    const Buffer<T> plain = product<T>(module, operands.p, c);
    c.accumulate = true;
    Gemm p = operands.p;
    p.accumulate = true;
    Buffer<T> expected = fresh_c<T>(c);
    for (std::int64_t i = 0; i < expected.size(); ++i) expected[i] += plain[i];
    testing::expect_same_bits(product<T>(module, p, c), expected, describe(c));
  });
}

TEST(Gemm, AccumulateAddsTheWholeProductOnce) {
  for (const std::int64_t k : {40, 512, 513, 1100}) {
    expect_accumulates_once<float>({260, 300, k, true, false});
    expect_accumulates_once<double>({130, 70, k, true, false});
  }
}

TEST(Gemm, NonFiniteValuesReachTheirRowsAndColumnsOnly) {
  constexpr float kInf = std::numeric_limits<float>::infinity(), kNan = std::numeric_limits<float>::quiet_NaN();
  const Case c = {29, 50, 40, false, true};
  Operands<float> operands(c);
  operands.a[5 * 40 + 39] = kNan;
  operands.a[17 * 40] = kInf;
  operands.b[49 * 40 + 3] = kNan;
  testing::for_each_cpu([&](const BackendModule& module) {
    for (int v = 0; v < variants(module); ++v) {
      const Buffer<float> out = product<float>(module, operands.p, c, {}, v);
      for (std::int64_t i = 0; i < c.m; ++i)
        for (std::int64_t j = 0; j < c.n; ++j) {
          const float x = out[i * c.n + j];
          EXPECT_EQ(std::isnan(x), i == 5 || j == 49) << i << ", " << j;
          EXPECT_EQ(std::isfinite(x), i != 5 && i != 17 && j != 49) << i << ", " << j;
        }
    }
  });
}

TEST(Gemm, ReadsNothingBehindTheOperands) {
  // Buffer's guard zones are read without a trap, but the sanitizer build sees a read behind the last guard, and a NaN
  // that lies there would reach C if it were used.
  for (const std::int64_t size : {1, 3, 17, 31}) {
    const Case c = {size, size, size, true, true};
    expect_matches_reference<float>(c);
    expect_matches_reference<double>(c);
  }
}

TEST(Gemm, RefusesWrongParams) {
  const Case c = {4, 5, 6};
  Operands<float> operands(c);
  Buffer<float> out(20);
  operands.p.c = out.data();
  const auto what = [&](auto&& change) {
    Gemm p = operands.p;
    change(p);
    return testing::to_string(run(cpu_module(), p));
  };
  EXPECT_EQ(what([](Gemm& p) { p.lda = 5; }), "lda is smaller than a row of A");
  EXPECT_EQ(what([](Gemm& p) { p.ldb = 4; }), "ldb is smaller than a row of B");
  EXPECT_EQ(what([](Gemm& p) { p.ldc = 4; }), "ldc is smaller than a row of C");
  EXPECT_EQ(what([](Gemm& p) { p.m = -1; }), "m, n, k and batch must not be negative");
  EXPECT_EQ(what([](Gemm& p) { p.dtype = Dtype::bf16; }), "the CPU multiplies f32 and f64 only");
  EXPECT_EQ(what([](Gemm& p) {
              p.accumulate = true;
              p.bias = p.a;
            }),
            "bias cannot be combined with accumulate");
}

}  // namespace
}  // namespace sinter::kernels
