#include "kernels/adamw.h"

#include <limits>

#include "tests/kernels/adamw_groups.h"
#include "tests/kernels/kernel_test.h"

namespace sinter::kernels::testing {
namespace {

template <class T>
class OptimizerTest : public ::testing::Test {};
using Types = ::testing::Types<float, double>;
TYPED_TEST_SUITE(OptimizerTest, Types);

template <class T>
struct State {
  Buffer<T> grad, param, exp_avg, exp_avg_sq;
  Buffer<std::uint16_t> low;

  explicit State(std::int64_t n)
      : grad(random_buffer<T>(n, 1)), param(random_buffer<T>(n, 2)), exp_avg(random_buffer<T>(n, 3, 0, 0.1)),
        exp_avg_sq(random_buffer<T>(n, 4, 0, 0.1)), low(n) {
    for (std::int64_t i = 0; i < n; ++i) exp_avg_sq[i] = std::abs(exp_avg_sq[i]);
  }

  AdamW params(const AdamWGroups& groups, const double* clip = nullptr, bool with_low = false,
               Dtype low_dtype = Dtype::bf16) {
    AdamW p;
    p.dtype = dtype_of<T>;
    p.groups = groups.ranges.data();
    p.group_count = groups.count();
    p.coefficients = groups.now.data();
    p.clip = clip;
    p.grad = grad.data();
    p.param = param.data();
    p.exp_avg = exp_avg.data();
    p.exp_avg_sq = exp_avg_sq.data();
    p.low = with_low ? low.data() : nullptr;
    p.low_dtype = low_dtype;
    return p;
  }
};

TYPED_TEST(OptimizerTest, AdamWMatchesReference) {
  using T = TypeParam;
  const double clip = 0.37;
  for (const std::int64_t n : {0, 1, 7, 33, 100, 4096, 16385, 40000}) {
    SCOPED_TRACE(n);
    // Two groups with a gap that must stay as it is, and an empty one.
    const AdamWGroups groups = {{0, n / 3, 1e-2, 0.01}, {n / 3, n / 3, 1, 1}, {n / 2, n, 3e-3, 0}};
    State<T> expected(n);
    const State<T> before(n);
    ASSERT_TRUE(run_ok(ref_module(), expected.params(groups, &clip)));
    for_each_cpu([&](const BackendModule& cpu) {
      State<T> actual(n);
      ASSERT_TRUE(run_ok(cpu, actual.params(groups, &clip)));
      // Each quantity is rounded fewer than 8 times.
      expect_close(actual.exp_avg.span(), expected.exp_avg.span(), 8 * kUlp<T>, "exp_avg");
      expect_close(actual.exp_avg_sq.span(), expected.exp_avg_sq.span(), 8 * kUlp<T>, "exp_avg_sq");
      expect_close(actual.param.span(), expected.param.span(), 8 * kUlp<T>, "param");
      for (std::int64_t i = n / 3; i < n / 2; ++i) {
        ASSERT_EQ(actual.param[i], before.param[i]) << i;
        ASSERT_EQ(actual.exp_avg[i], before.exp_avg[i]) << i;
      }
    });
  }
}

// A by-hand step of torch.optim.AdamW: p = 1, g = 1, first step, lr 0.1, weight decay 0.5:
// p = 1 * (1 - 0.05) - 0.1 * (0.1 / 0.1) / (sqrt(0.001 / 0.001) + 1e-8) = 0.85 to 1e-9.
TEST(AdamWStep, FirstStepByHand) {
  const AdamWGroups groups({{0, 1, 0.1, 0.5}}, 1);
  for_each_cpu([&](const BackendModule& cpu) {
    State<double> state(1);
    state.grad[0] = 1;
    state.param[0] = 1;
    state.exp_avg[0] = state.exp_avg_sq[0] = 0;
    ASSERT_TRUE(run_ok(cpu, state.params(groups)));
    EXPECT_NEAR(state.param[0], 0.85, 2e-9);
    EXPECT_NEAR(state.exp_avg[0], 0.1, 1e-16);
    EXPECT_NEAR(state.exp_avg_sq[0], 0.001, 1e-18);
  });
}

TEST(AdamWCoefficientsByHand, AreThoseOfTheFormula) {
  const AdamWCoefficients first = coefficients(0.1, 0.5, 0.9, 0.999, 1);
  EXPECT_EQ(first.decay, 0.95);
  EXPECT_EQ(first.step_size, 0.1 / (1 - 0.9));
  EXPECT_EQ(first.inverse_root, 1 / std::sqrt(1 - 0.999));
  const AdamWCoefficients late = coefficients(0.1, 0, 0.9, 0.999, 1000000);
  EXPECT_EQ(late.decay, 1);
  EXPECT_EQ(late.step_size, 0.1);
  EXPECT_EQ(late.inverse_root, 1);
}

TYPED_TEST(OptimizerTest, ASkippedUpdateWritesNothing) {
  using T = TypeParam;
  constexpr std::int64_t kCount = 40000;
  const AdamWGroups groups = {{0, 5000, 1e-3, 0.01}, {5000, kCount, 1e-3, 0}};
  const double clip = std::numeric_limits<double>::quiet_NaN();
  for_each_cpu([&](const BackendModule& cpu) {
    for (const BackendModule* module : {&cpu, &ref_module()})
      for (const std::int32_t skip : {1, -1, 256}) {
        State<T> state(kCount);
        const State<T> before(kCount);
        AdamW params = state.params(groups, &clip, true);
        params.skip = &skip;
        ASSERT_TRUE(run_ok(*module, params));
        expect_same_bits(state.param, before.param, "param");
        expect_same_bits(state.exp_avg, before.exp_avg, "exp_avg");
        expect_same_bits(state.exp_avg_sq, before.exp_avg_sq, "exp_avg_sq");
        expect_same_bits(state.low, before.low, "low");
      }
    const std::int32_t go = 0;
    State<T> state(kCount), without(kCount);
    AdamW params = state.params(groups);
    params.skip = &go;
    ASSERT_TRUE(run_ok(cpu, params));
    ASSERT_TRUE(run_ok(cpu, without.params(groups)));
    expect_same_bits(state.param, without.param, "param");
  });
}

TYPED_TEST(OptimizerTest, LowCopyIsTheRoundedParameter) {
  using T = TypeParam;
  constexpr std::int64_t kCount = 1003;
  const AdamWGroups groups = {{0, kCount, 1e-3, 0.01}};
  for_each_cpu([&](const BackendModule& cpu) {
    for (const Dtype low : {Dtype::f16, Dtype::bf16}) {
      State<T> with(kCount), without(kCount);
      // Zero gradients, moments and decay keep the parameters, so the copy must round these very values.
      const float special[] = {65504, 65520, -1e30f, 1e-7f, 6e-8f, 2.9e-8f, 0, -0.0f, 1.00048828125f, 1.0009765625f,
                               std::numeric_limits<float>::infinity(), 1.00390625f, 1.01171875f, -3.3e38f};
      for (State<T>* state : {&with, &without})
        for (std::size_t i = 0; i < std::size(special); ++i) {
          const auto k = static_cast<std::int64_t>(i);
          state->param[k] = static_cast<T>(special[i]);
          state->grad[k] = state->exp_avg[k] = state->exp_avg_sq[k] = 0;
        }
      ASSERT_TRUE(run_ok(cpu, with.params(groups, nullptr, true, low)));
      ASSERT_TRUE(run_ok(cpu, without.params(groups)));
      expect_same_bits(with.param, without.param, "param");
      for (std::int64_t i = 0; i < kCount; ++i) {
        const float p = static_cast<float>(with.param[i]);
        ASSERT_EQ(with.low[i], low == Dtype::f16 ? to_f16(p).bits : to_bf16(p).bits) << name(low) << " of " << p;
      }
    }
  });
}

/// Ranges with a 16-bit side: borders inside of blocks and tasks, neighbours one vector apart, the end of the buffer.
constexpr std::int64_t kSided = 5 * 4096 + 1003;
constexpr FlatRange kRanges[] = {{16, 48}, {64, 4096 + 32}, {4096 + 48, 4096 + 64}, {3 * 4096, kSided}};
constexpr LowRanges kLowRanges{kRanges, 4};

/// 16-bit gradients, and in `cast` what they are; the 1000 of `wide` in the ranges nobody may read. A sum with NaN would
/// be taken again by other code.
template <class T>
void fill_low(Dtype dtype, Buffer<std::uint16_t>& low, Buffer<T>& wide, Buffer<T>& cast) {
  for (std::int64_t i = 0; i < kSided; ++i) {
    const float x = static_cast<float>(wide[i]);
    low[i] = dtype == Dtype::f16 ? to_f16(x).bits : to_bf16(x).bits;
  }
  for (const FlatRange& range : kRanges)
    for (std::int64_t i = range.begin; i < range.end; ++i) {
      cast[i] = static_cast<T>(dtype == Dtype::f16 ? to_float(f16{low[i]}) : to_float(bf16{low[i]}));
      wide[i] = 1000;
    }
}

TYPED_TEST(OptimizerTest, GradientsIn16BitsAreThoseCast) {
  using T = TypeParam;
  const AdamWGroups groups = {{0, 4096 + 16, 1e-3, 0.01}, {4096 + 16, kSided, 3e-3, 0}};
  for_each_cpu([&](const BackendModule& cpu) {
    for (const BackendModule* module : {&cpu, &ref_module()})
      for (const Dtype dtype : {Dtype::f16, Dtype::bf16}) {
        State<T> sided(kSided), cast(kSided);
        Buffer<std::uint16_t> low_grad(kSided);
        fill_low(dtype, low_grad, sided.grad, cast.grad);
        sided.low.fill(0x1234);
        AdamW params = sided.params(groups, nullptr, true, dtype);
        params.low_grad = low_grad.data();
        params.low_ranges = kLowRanges;
        ASSERT_TRUE(run_ok(*module, params));
        ASSERT_TRUE(run_ok(*module, cast.params(groups, nullptr, true, dtype)));
        expect_same_bits(sided.param, cast.param, "param");
        expect_same_bits(sided.exp_avg, cast.exp_avg, "exp_avg");
        expect_same_bits(sided.exp_avg_sq, cast.exp_avg_sq, "exp_avg_sq");
        std::int64_t in_ranges = 0;
        for (std::int64_t i = 0; i < kSided; ++i) {
          bool low = false;
          for (const FlatRange& range : kRanges) low = low || (range.begin <= i && i < range.end);
          ASSERT_EQ(sided.low[i], low ? cast.low[i] : 0x1234) << i;
          in_ranges += low ? 1 : 0;
        }
        ASSERT_EQ(in_ranges, 32 + 4096 - 32 + 16 + kSided - 3 * 4096);
      }
  });
}

TYPED_TEST(OptimizerTest, TheNormOfGradientsIn16BitsIsThatOfTheirCast) {
  using T = TypeParam;
  for_each_cpu([&](const BackendModule& cpu) {
    for (const Dtype dtype : {Dtype::f16, Dtype::bf16})
      for (const std::int64_t bad : {std::int64_t{-1}, std::int64_t{20}, std::int64_t{4096 + 31}, kSided - 1}) {
        Buffer<T> wide = random_buffer<T>(kSided, 1), cast = random_buffer<T>(kSided, 1);
        Buffer<std::uint16_t> low(kSided);
        if (bad >= 0) wide[bad] = cast[bad] = std::numeric_limits<T>::infinity();
        fill_low(dtype, low, wide, cast);
        Buffer<double> sum(1), expected(1), workspace(6);
        Buffer<std::int32_t> nonfinite(1);
        SquaredNorm params{dtype_of<T>, kSided, cast.data(), expected.data(), nullptr, workspace.data()};
        ASSERT_TRUE(run_ok(cpu, params));
        params.x = wide.data();
        params.sum = sum.data();
        params.nonfinite = nonfinite.data();
        params.low_x = low.data();
        params.low_dtype = dtype;
        params.low_ranges = kLowRanges;
        ASSERT_TRUE(run_ok(cpu, params));
        expect_same_bits(sum, expected, "squared norm");
        EXPECT_EQ(nonfinite[0], bad >= 0 ? 1 : 0);
      }
  });
}

TEST(AdamWStep, LowCopyKeepsNaN) {
  const AdamWGroups groups = {{0, 17, 1e-3, 0.01}};
  for_each_cpu([&](const BackendModule& cpu) {
    for (const Dtype low : {Dtype::f16, Dtype::bf16}) {
      State<float> state(17);
      state.param.fill(std::bit_cast<float>(0x7f800001u));
      ASSERT_TRUE(run_ok(cpu, state.params(groups, nullptr, true, low)));
      for (std::int64_t i = 0; i < 17; ++i)
        EXPECT_TRUE(std::isnan(low == Dtype::f16 ? to_float(f16{state.low[i]}) : to_float(bf16{state.low[i]}))) << i;
    }
  });
}

TEST(AdamWStep, DenormalMomentsAreFlushed) {
  const AdamWGroups groups = {{0, 33, 1e-3, 0}};
  for_each_cpu([&](const BackendModule& cpu) {
    ThreadPool pool(2);
    State<float> state(33);
    state.grad.fill(0);
    state.exp_avg.fill(1.2e-38f);
    state.exp_avg_sq.fill(1.1755e-38f);
    ASSERT_TRUE(run_ok(cpu, state.params(groups), pool.stream()));
    for (std::int64_t i = 0; i < 33; ++i) {
      EXPECT_EQ(state.exp_avg[i], 0) << i;
      EXPECT_EQ(state.exp_avg_sq[i], 0) << i;
    }
  });
}

TYPED_TEST(OptimizerTest, ThreadsDoNotChangeBits) {
  using T = TypeParam;
  constexpr std::int64_t kCount = 100003;
  const AdamWGroups groups = {{0, 50001, 1e-3, 0.01}, {50001, kCount, 1e-3, 0}};
  for_each_cpu([&](const BackendModule& cpu) {
    State<T> one(kCount);
    ASSERT_TRUE(run_ok(cpu, one.params(groups)));
    Buffer<double> workspace(25), norm(1), norm_many(1);
    SquaredNorm squared{dtype_of<T>, kCount, one.grad.data(), norm.data(), nullptr, workspace.data()};
    ASSERT_TRUE(run_ok(cpu, squared));
    for (const int threads : {1, 2, 4}) {
      ThreadPool pool(threads);
      State<T> many(kCount);
      ASSERT_TRUE(run_ok(cpu, many.params(groups), pool.stream()));
      expect_same_bits(many.param, one.param, "param");
      expect_same_bits(many.exp_avg_sq, one.exp_avg_sq, "exp_avg_sq");
      squared.sum = norm_many.data();
      ASSERT_TRUE(run_ok(cpu, squared, pool.stream()));
      expect_same_bits(norm_many, norm, "squared norm");
    }
  });
}

TYPED_TEST(OptimizerTest, SquaredNormMatchesReference) {
  using T = TypeParam;
  for (const std::int64_t n : {0, 1, 7, 33, 4095, 4096, 4097, 70001}) {
    SCOPED_TRACE(n);
    const Buffer<T> x = random_buffer<T>(n, 1);
    double expected = 0;
    ASSERT_TRUE(run_ok(ref_module(), SquaredNorm{dtype_of<T>, n, x.data(), &expected, nullptr, nullptr}));
    for_each_cpu([&](const BackendModule& cpu) {
      Buffer<double> sum(1), workspace((n + 4095) / 4096);
      Buffer<std::int32_t> nonfinite(1);
      ASSERT_TRUE(run_ok(cpu, SquaredNorm{dtype_of<T>, n, x.data(), sum.data(), nonfinite.data(), workspace.data()}));
      // At most 4096 / 16 positive terms in a chain, then a tree.
      EXPECT_NEAR(sum[0], expected, (4096 / 16 + 8) * kUlp<T> * expected);
      EXPECT_EQ(nonfinite[0], 0);
    });
  }
}

TEST(SquaredNormRange, OverflowsNeitherWithLargeValuesNorHidesNonfiniteOnes) {
  constexpr std::int64_t kCount = 9000;
  for_each_cpu([&](const BackendModule& cpu) {
    Buffer<float> x(kCount);
    Buffer<double> sum(1), workspace(3);
    Buffer<std::int32_t> nonfinite(1);
    const SquaredNorm params{Dtype::f32, kCount, x.data(), sum.data(), nonfinite.data(), workspace.data()};
    x.fill(1e30f);
    ASSERT_TRUE(run_ok(cpu, params));
    EXPECT_NEAR(sum[0], 9000e60, 9000e60 * 4e-7);
    EXPECT_EQ(nonfinite[0], 0);
    for (const float bad : {std::numeric_limits<float>::infinity(), -std::numeric_limits<float>::infinity(),
                            std::numeric_limits<float>::quiet_NaN()})
      for (const std::int64_t place : {std::int64_t{0}, std::int64_t{5000}, kCount - 1}) {
        x.fill(1);
        x[place] = bad;
        ASSERT_TRUE(run_ok(cpu, params));
        EXPECT_EQ(nonfinite[0], 1);
        EXPECT_FALSE(std::isfinite(sum[0]));
      }
    Buffer<double> wide(kCount);
    wide.fill(1e200);
    const SquaredNorm f64{Dtype::f64, kCount, wide.data(), sum.data(), nonfinite.data(), workspace.data()};
    ASSERT_TRUE(run_ok(cpu, f64));
    EXPECT_EQ(nonfinite[0], 0) << "the sum overflows, the elements are finite";
  });
}

TEST(OptimizerChecks, RefuseWhatTheContractForbids) {
  State<float> state(10);
  EXPECT_EQ(run(cpu_module(), state.params({{0, 6, 1, 0}, {5, 10, 1, 0}})).code, StatusCode::invalid_argument);
  EXPECT_EQ(run(cpu_module(), state.params({{0, 10, 1, 0}}, nullptr, true, Dtype::f32)).code,
            StatusCode::invalid_argument);
  SquaredNorm norm;
  norm.n = -1;
  EXPECT_EQ(run(cpu_module(), norm).code, StatusCode::invalid_argument);
  norm = {};
  norm.dtype = Dtype::f16;
  EXPECT_EQ(run(cpu_module(), norm).code, StatusCode::unsupported);
}

}  // namespace
}  // namespace sinter::kernels::testing
