#include "kernels/softmax.h"

#include <limits>

#include "tests/kernels/kernel_test.h"

namespace sinter::kernels {
namespace {

using namespace testing;

template <class T>
Buffer<T> softmax_of(const BackendModule& module, const Buffer<T>& x, std::int64_t rows, std::int64_t cols, bool log,
                     Stream stream = {}) {
  Buffer<T> y(rows * cols);
  EXPECT_TRUE(run_ok(module, Softmax{dtype_of<T>, log, rows, cols, x.data(), y.data()}, stream));
  return y;
}

template <class T>
Buffer<T> backward_of(const BackendModule& module, const Buffer<T>& dy, const Buffer<T>& y, std::int64_t rows,
                      std::int64_t cols, bool log, Stream stream = {}) {
  Buffer<T> dx(rows * cols);
  EXPECT_TRUE(run_ok(module, SoftmaxBackward{dtype_of<T>, log, rows, cols, dy.data(), y.data(), dx.data()}, stream));
  return dx;
}

// An exponential is good to 2 ulp, its argument x - max to half an ulp of the difference (|difference| is below 10
// here), a sum of n positive terms in lanes to n / lanes ulp at most.
template <class T>
double tolerance(std::int64_t cols) {
  return kUlp<T> * (16 + static_cast<double>(cols) / 4);
}

template <class T>
void against_reference(std::int64_t rows, std::int64_t cols, bool log) {
  SCOPED_TRACE(::testing::Message() << rows << " x " << cols << (log ? " log" : ""));
  const Buffer<T> x = random_buffer<T>(rows * cols, 1, 3, 2), dy = random_buffer<T>(rows * cols, 2);
  const Buffer<T> expected = softmax_of(ref_module(), x, rows, cols, log);
  const Buffer<T> expected_dx = backward_of(ref_module(), dy, expected, rows, cols, log);
  for_each_cpu([&](const BackendModule& module) {
    const Buffer<T> y = softmax_of(module, x, rows, cols, log);
    expect_close(y.span(), expected.span(), tolerance<T>(cols), "y");
    // Sums of dy are sums of signed terms: errors are relative to the sum of magnitudes, at most 5 a term.
    const Buffer<T> dx = backward_of(module, dy, expected, rows, cols, log);
    expect_close(dx.span(), expected_dx.span(), 5 * tolerance<T>(cols), "dx", 1);
  });
}

TEST(Softmax, MatchesReference) {
  for (const std::int64_t cols : {1, 2, 7, 8, 13, 15, 16, 17, 30, 31, 32, 33, 100, 128, 1000})
    for (const bool log : {false, true}) {
      against_reference<float>(5, cols, log);
      against_reference<double>(5, cols, log);
    }
  against_reference<float>(0, 4, false);
  against_reference<double>(0, 0, true);
}

template <class T>
void special_values() {
  constexpr T inf = std::numeric_limits<T>::infinity(), nan = std::numeric_limits<T>::quiet_NaN();
  for (const std::int64_t cols : {3, 19, 40})
    for (const bool log : {false, true}) {
      Buffer<T> x = random_buffer<T>(6 * cols, 3);
      for (std::int64_t c = 0; c < cols; ++c) x[c] = -inf;                     // NaN, as 0 / 0
      x[cols + cols - 1] = nan;                                                // all NaN
      x[2 * cols] = -inf;                                                      // probability 0
      x[3 * cols + 1] = inf;                                                   // NaN
      for (std::int64_t c = 0; c < cols; ++c) x[4 * cols + c] *= T{1e4};       // no overflow
      for (std::int64_t c = 0; c < cols; ++c) x[5 * cols + c] = c == 1 ? T{88} : T{-20};
      const Buffer<T> expected = softmax_of(ref_module(), x, 6, cols, log);
      for_each_cpu([&](const BackendModule& module) {
        const Buffer<T> y = softmax_of(module, x, 6, cols, log);
        for (std::int64_t i = 0; i < y.size(); ++i) {
          ASSERT_EQ(std::isnan(y[i]), std::isnan(expected[i])) << i << " of " << cols;
          if (std::isnan(expected[i]) || std::isinf(expected[i])) continue;
          ASSERT_NEAR(static_cast<double>(y[i]), static_cast<double>(expected[i]),
                      tolerance<T>(cols) * std::max(1.0, std::abs(static_cast<double>(expected[i])))) << i;
        }
        EXPECT_EQ(y[2 * cols], log ? -inf : T{0});
      });
    }
}

TEST(Softmax, SpecialValues) {
  special_values<float>();
  special_values<double>();
}

TEST(Softmax, MayRunInPlace) {
  const Buffer<float> x = random_buffer<float>(9 * 77, 4);
  for (const bool log : {false, true})
    for_each_cpu([&](const BackendModule& module) {
      const Buffer<float> expected = softmax_of(module, x, 9, 77, log);
      Buffer<float> y(x.size());
      y.assign(x);
      ASSERT_TRUE(run_ok(module, Softmax{Dtype::f32, log, 9, 77, y.data(), y.data()}));
      expect_same_bits(y, expected, "in place");
    });
}

TEST(Softmax, BitsDependOnTheRowAlone) {
  constexpr std::int64_t rows = 3000, cols = 37;
  const Buffer<float> x = random_buffer<float>(rows * cols, 5), dy = random_buffer<float>(rows * cols, 6);
  for (const bool log : {false, true})
    for_each_cpu([&](const BackendModule& module) {
      const Buffer<float> y = softmax_of(module, x, rows, cols, log), dx = backward_of(module, dy, y, rows, cols, log);
      for (const int threads : {2, 4}) {
        ThreadPool pool(threads);
        expect_same_bits(softmax_of(module, x, rows, cols, log, pool.stream()), y, "y");
        expect_same_bits(backward_of(module, dy, y, rows, cols, log, pool.stream()), dx, "dx");
      }
      Buffer<float> one(cols);
      std::copy(x.data() + 1001 * cols, x.data() + 1002 * cols, one.data());
      const Buffer<float> alone = softmax_of(module, one, 1, cols, log);
      EXPECT_EQ(std::memcmp(alone.data(), y.data() + 1001 * cols, cols * sizeof(float)), 0);
    });
}

TEST(Softmax, RefusesWhatItCannotDo) {
  float x = 0;
  const auto code = [&](const BackendModule& module, Dtype dtype, std::int64_t rows, std::int64_t cols) {
    return run(module, Softmax{dtype, false, rows, cols, &x, &x}).code;
  };
  EXPECT_EQ(code(cpu_module(), Dtype::f16, 1, 1), StatusCode::unsupported);
  EXPECT_EQ(code(cpu_module(), Dtype::i64, 1, 1), StatusCode::unsupported);
  EXPECT_EQ(code(ref_module(), Dtype::i64, 1, 1), StatusCode::unsupported);
  EXPECT_EQ(code(cpu_module(), Dtype::f32, 1, 0), StatusCode::invalid_argument);
  EXPECT_EQ(code(cpu_module(), Dtype::f32, -1, 1), StatusCode::invalid_argument);
}

}  // namespace
}  // namespace sinter::kernels
