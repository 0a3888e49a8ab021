#include "kernels/bias_gelu.h"

#include <limits>
#include <numbers>

#include "tests/kernels/kernel_test.h"
#include "tests/kernels/row_cases.h"

namespace sinter::kernels::testing {
namespace {

template <class T>
class BiasGeluTest : public ::testing::Test {};
using Types = ::testing::Types<float, double>;
TYPED_TEST_SUITE(BiasGeluTest, Types);

/// Of max(|u|, 1): f32 is a polynomial with a proven maximum, f64 is libm's erfc (1 ulp) and a few products.
template <class T>
constexpr double kForward = sizeof(T) == 4 ? 1e-6 : 1e-15;
template <class T>
constexpr double kBackward = sizeof(T) == 4 ? 1e-6 : 2e-15;

TYPED_TEST(BiasGeluTest, ForwardMatchesReference) {
  using T = TypeParam;
  for (const RowShape shape : kRowShapes)
    for (const bool with_bias : {true, false}) {
      SCOPED_TRACE(std::to_string(shape.rows) + " x " + std::to_string(shape.cols));
      const std::int64_t n = shape.rows * shape.cols;
      const Buffer<T> x = random_buffer<T>(n, 1, 0, 2), bias = random_buffer<T>(shape.cols, 2);
      const auto params = [&](const Buffer<T>& in, Buffer<T>& out) {
        return BiasGelu{dtype_of<T>, shape.rows, shape.cols, in.data(), with_bias ? bias.data() : nullptr, out.data()};
      };
      Buffer<T> expected(n);
      ASSERT_TRUE(run_ok(ref_module(), params(x, expected)));
      for_each_cpu([&](const BackendModule& cpu) {
        Buffer<T> actual(n), in_place(n);
        ASSERT_TRUE(run_ok(cpu, params(x, actual)));
        for (std::int64_t i = 0; i < n; ++i) {
          const double u = std::abs(static_cast<double>(x[i]) + (with_bias ? bias[i % shape.cols] : 0));
          ASSERT_NEAR(actual[i], expected[i], kForward<T> * std::max(u, 1.0)) << i;
        }
        in_place.assign(x);
        ASSERT_TRUE(run_ok(cpu, params(in_place, in_place)));
        expect_same_bits(in_place, actual, "in place");
      });
    }
}

TYPED_TEST(BiasGeluTest, BackwardMatchesReference) {
  using T = TypeParam;
  for (const RowShape shape : kRowShapes)
    for (const bool with_bias : {true, false}) {
      SCOPED_TRACE(std::to_string(shape.rows) + " x " + std::to_string(shape.cols));
      const std::int64_t n = shape.rows * shape.cols, blocks = (shape.rows + 63) / 64;
      const Buffer<T> x = random_buffer<T>(n, 1, 0, 2), dy = random_buffer<T>(n, 3);
      const Buffer<T> bias = random_buffer<T>(shape.cols, 2);
      const auto params = [&](const Buffer<T>& gradient, Buffer<T>& dx, Buffer<T>& dbias, Buffer<T>& workspace) {
        return BiasGeluBackward{dtype_of<T>,  shape.rows,   shape.cols, gradient.data(), x.data(),
                                with_bias ? bias.data() : nullptr, dx.data(),  dbias.data(),    workspace.data()};
      };
      Buffer<T> expected(n), expected_sums(shape.cols), unused(0);
      ASSERT_TRUE(run_ok(ref_module(), params(dy, expected, expected_sums, unused)));
      for_each_cpu([&](const BackendModule& cpu) {
        Buffer<T> actual(n), sums(shape.cols), workspace(blocks * shape.cols), in_place(n), no_sums(n);
        ASSERT_TRUE(run_ok(cpu, params(dy, actual, sums, workspace)));
        for (std::int64_t i = 0; i < n; ++i)
          ASSERT_NEAR(actual[i], expected[i], kBackward<T> * std::max(std::abs(static_cast<double>(dy[i])), 1.0)) << i;
        // Each term has the error of dx; the chains of 64 rows and of the blocks round on top.
        const double rows = static_cast<double>(shape.rows);
        expect_close(sums.span(), expected_sums.span(), kBackward<T> + (64 + rows / 64) * kUlp<T>, "dbias", rows);
        in_place.assign(dy);
        ASSERT_TRUE(run_ok(cpu, params(in_place, in_place, sums, workspace)));
        expect_same_bits(in_place, actual, "in place");
        BiasGeluBackward without = params(dy, no_sums, sums, workspace);
        without.dbias = without.workspace = nullptr;
        ASSERT_TRUE(run_ok(cpu, without));
        expect_same_bits(no_sums, actual, "without dbias");
      });
    }
}

TEST(BiasGeluAccuracy, EveryRegionStaysBelowTheContract) {
  constexpr std::int64_t kCount = 1 << 20;
  Buffer<float> u(kCount), ones(kCount), y(kCount), dx(kCount);
  for (std::int64_t i = 0; i < kCount; ++i) u[i] = (static_cast<float>(i) / kCount - 0.5f) * 16;
  ones.fill(1);
  for_each_cpu([&](const BackendModule& cpu) {
    ASSERT_TRUE(run_ok(cpu, BiasGelu{Dtype::f32, 1, kCount, u.data(), nullptr, y.data()}));
    ASSERT_TRUE(run_ok(cpu, BiasGeluBackward{Dtype::f32, 1, kCount, ones.data(), u.data(), nullptr, dx.data(), nullptr,
                                             nullptr}));
    double forward = 0, backward = 0;
    for (std::int64_t i = 0; i < kCount; ++i) {
      const double v = u[i], cdf = 0.5 * std::erfc(-v / std::numbers::sqrt2);
      const double density = std::exp(-0.5 * v * v) / std::sqrt(2 * std::numbers::pi);
      forward = std::max(forward, std::abs(y[i] - v * cdf) / std::max(std::abs(v), 1.0));
      backward = std::max(backward, std::abs(dx[i] - (cdf + v * density)));
    }
    EXPECT_LT(forward, 5e-7);
    EXPECT_LT(backward, 6e-7);
  });
}

TEST(BiasGeluAccuracy, FarValuesAndNaN) {
  const float infinity = std::numeric_limits<float>::infinity(), nan = std::numeric_limits<float>::quiet_NaN();
  for_each_cpu([&](const BackendModule& cpu) {
    Buffer<float> u(6), y(6), dy(6), dx(6);
    const float values[] = {100, -100, 1e30f, -1e30f, nan, infinity};
    std::copy(std::begin(values), std::end(values), u.data());
    dy.fill(1);
    ASSERT_TRUE(run_ok(cpu, BiasGelu{Dtype::f32, 1, 6, u.data(), nullptr, y.data()}));
    EXPECT_EQ(y[0], 100);
    EXPECT_EQ(y[1], 0);
    EXPECT_EQ(y[2], 1e30f);
    EXPECT_EQ(y[3], 0);
    EXPECT_TRUE(std::isnan(y[4]));
    EXPECT_EQ(y[5], infinity);
    ASSERT_TRUE(run_ok(
        cpu, BiasGeluBackward{Dtype::f32, 1, 6, dy.data(), u.data(), nullptr, dx.data(), nullptr, nullptr}));
    EXPECT_EQ(dx[0], 1);
    EXPECT_EQ(dx[1], 0);
    EXPECT_TRUE(std::isnan(dx[4]));
  });
}

TYPED_TEST(BiasGeluTest, ThreadsDoNotChangeBits) {
  using T = TypeParam;
  constexpr std::int64_t kRows = 200, kCols = 1100, kCount = kRows * kCols;
  const Buffer<T> x = random_buffer<T>(kCount, 1), dy = random_buffer<T>(kCount, 3), bias = random_buffer<T>(kCols, 2);
  for_each_cpu([&](const BackendModule& cpu) {
    const auto compute = [&](Stream stream, Buffer<T>& y, Buffer<T>& dx, Buffer<T>& dbias) {
      Buffer<T> workspace(4 * kCols);
      ASSERT_TRUE(run_ok(cpu, BiasGelu{dtype_of<T>, kRows, kCols, x.data(), bias.data(), y.data()}, stream));
      ASSERT_TRUE(run_ok(cpu, BiasGeluBackward{dtype_of<T>, kRows, kCols, dy.data(), x.data(), bias.data(), dx.data(),
                                               dbias.data(), workspace.data()}, stream));
    };
    Buffer<T> y(kCount), dx(kCount), dbias(kCols), y_many(kCount), dx_many(kCount), dbias_many(kCols);
    compute({}, y, dx, dbias);
    for (const int threads : {1, 2, 4}) {
      ThreadPool pool(threads);
      compute(pool.stream(), y_many, dx_many, dbias_many);
      expect_same_bits(y_many, y, "y");
      expect_same_bits(dx_many, dx, "dx");
      expect_same_bits(dbias_many, dbias, "dbias");
    }
  });
}

TEST(BiasGeluStores, LargeResultsHaveTheBitsOfTheirRows) {
  // 17 MiB: above the size from which the CPU writes around its caches; in place it does not.
  constexpr std::int64_t kRows = 1450, kCols = 3072, kCount = kRows * kCols;
  const Buffer<float> x = random_buffer<float>(kCount, 1), dy = random_buffer<float>(kCount, 3);
  const Buffer<float> bias = random_buffer<float>(kCols, 2);
  for_each_cpu([&](const BackendModule& cpu) {
    ThreadPool pool(2);
    Buffer<float> out(kCount), in_place(kCount), sums(kCols), sums_in_place(kCols), workspace(23 * kCols);
    in_place.assign(x);
    ASSERT_TRUE(run_ok(cpu, BiasGelu{Dtype::f32, kRows, kCols, x.data(), bias.data(), out.data()}, pool.stream()));
    ASSERT_TRUE(run_ok(cpu, BiasGelu{Dtype::f32, kRows, kCols, in_place.data(), bias.data(), in_place.data()}));
    expect_same_bits(out, in_place, "y");
    in_place.assign(dy);
    ASSERT_TRUE(run_ok(cpu, BiasGeluBackward{Dtype::f32, kRows, kCols, dy.data(), x.data(), bias.data(), out.data(),
                                             sums.data(), workspace.data()}, pool.stream()));
    ASSERT_TRUE(run_ok(cpu, BiasGeluBackward{Dtype::f32, kRows, kCols, in_place.data(), x.data(), bias.data(),
                                             in_place.data(), sums_in_place.data(), workspace.data()}));
    expect_same_bits(out, in_place, "dx");
    expect_same_bits(sums, sums_in_place, "dbias");
  });
}

TEST(BiasGeluChecks, RefuseWhatTheContractForbids) {
  BiasGelu gelu;
  gelu.rows = -1;
  EXPECT_EQ(run(cpu_module(), gelu).code, StatusCode::invalid_argument);
  gelu = {};
  gelu.dtype = Dtype::i32;
  EXPECT_EQ(run(cpu_module(), gelu).code, StatusCode::unsupported);
}

}  // namespace
}  // namespace sinter::kernels::testing
