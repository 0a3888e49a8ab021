#include "kernels/dropout.h"

#include "tests/kernels/kernel_test.h"
#include "tests/kernels/row_cases.h"

namespace sinter::kernels::testing {
namespace {

template <class T>
Dropout params(const Buffer<T>& x, Buffer<T>& y, RowShape shape, Dropout16 dropout, RowMap map = {}) {
  return {dtype_of<T>, shape.rows, shape.cols, dropout, map, x.data(), y.data()};
}

template <class T>
class DropoutTest : public ::testing::Test {};
using Types = ::testing::Types<float, double>;
TYPED_TEST_SUITE(DropoutTest, Types);

TYPED_TEST(DropoutTest, MatchesReference) {
  using T = TypeParam;
  const DropoutSite site;
  for (const RowShape shape : kRowShapes)
    for (const double p : {0.0, 0.1, 0.5, 0.9999}) {
      SCOPED_TRACE(std::to_string(shape.rows) + " x " + std::to_string(shape.cols) + " p " + std::to_string(p));
      const std::int64_t n = shape.rows * shape.cols;
      const Buffer<T> x = random_buffer<T>(n, 1);
      Buffer<T> expected(n);
      ASSERT_TRUE(run_ok(ref_module(), params(x, expected, shape, site.dropout(p))));
      for_each_cpu([&](const BackendModule& cpu) {
        Buffer<T> actual(n), in_place(n);
        ASSERT_TRUE(run_ok(cpu, params(x, actual, shape, site.dropout(p))));
        // The scale and the product are rounded once each; the decisions are exact.
        for (std::int64_t i = 0; i < n; ++i)
          ASSERT_NEAR(actual[i], expected[i], 2.5 * kUlp<T> * std::abs(static_cast<double>(expected[i]))) << i;
        in_place.assign(x);
        ASSERT_TRUE(run_ok(cpu, params(in_place, in_place, shape, site.dropout(p))));
        expect_same_bits(in_place, actual, "in place");
      });
    }
}

TYPED_TEST(DropoutTest, ThreadsDoNotChangeBits) {
  using T = TypeParam;
  const DropoutSite site;
  const RowShape shape{100, 770};
  const Buffer<T> x = random_buffer<T>(shape.rows * shape.cols, 1);
  for_each_cpu([&](const BackendModule& cpu) {
    Buffer<T> one(x.size());
    ASSERT_TRUE(run_ok(cpu, params(x, one, shape, site.dropout(0.1))));
    for (const int threads : {2, 4}) {
      ThreadPool pool(threads);
      Buffer<T> many(x.size());
      ASSERT_TRUE(run_ok(cpu, params(x, many, shape, site.dropout(0.1)), pool.stream()));
      expect_same_bits(many, one, "threads");
    }
  });
}

TYPED_TEST(DropoutTest, PackedRowsDrawWhatPaddedRowsDraw) {
  using T = TypeParam;
  const std::vector<std::int32_t> lengths = {5, 1, 9, 3};
  constexpr std::int64_t kLength = 9;
  const DropoutSite site;
  const PackedRows packed(lengths);
  for (const std::int64_t cols : {7, 33, 128, 1030}) {
    // A padded [B, S, H] buffer seen as rows of one sample each needs no map; so is the rule "position * cols + c"
    // tested.
    const RowShape padded_shape{static_cast<std::int64_t>(lengths.size()), kLength * cols};
    const RowShape packed_shape{packed.rows(), cols};
    Buffer<T> ones(padded_shape.rows * padded_shape.cols);
    ones.fill(1);
    for_each_cpu([&](const BackendModule& cpu) {
      Buffer<T> padded(ones.size()), rows(packed_shape.rows * cols);
      ASSERT_TRUE(run_ok(cpu, params(ones, padded, padded_shape, site.dropout(0.5))));
      ASSERT_TRUE(run_ok(cpu, params(ones, rows, packed_shape, site.dropout(0.5), packed.map())));
      for (std::int64_t r = 0; r < packed.rows(); ++r) {
        const auto i = static_cast<std::size_t>(r);
        const T* expected = padded.data() + (packed.sample[i] * kLength + packed.position[i]) * cols;
        ASSERT_EQ(std::memcmp(rows.data() + r * cols, expected, sizeof(T) * static_cast<std::size_t>(cols)), 0)
            << "row " << r << " of " << cols << " columns";
      }
    });
  }
}

TEST(DropoutStatistics, KeepsTheExpectedShare) {
  DropoutSite site;
  const RowShape shape{512, 768};
  const double n = static_cast<double>(shape.rows * shape.cols);
  Buffer<float> ones(shape.rows * shape.cols), y(ones.size()), other(ones.size());
  ones.fill(1);
  for (const double p : {0.1, 0.5}) {
    const double keep = 1 - dropout_threshold(p) / 65536.0;
    const auto kept = [&](Buffer<float>& out) {
      EXPECT_TRUE(run_ok(cpu_module(), params(ones, out, shape, site.dropout(p))));
      std::int64_t count = 0;
      for (std::int64_t i = 0; i < out.size(); ++i) count += out[i] != 0;
      return static_cast<double>(count);
    };
    EXPECT_NEAR(kept(y), n * keep, 5 * std::sqrt(n * keep * (1 - keep)));
    ++site.step;
    EXPECT_NEAR(kept(other), n * keep, 5 * std::sqrt(n * keep * (1 - keep)));
    std::int64_t both = 0;
    for (std::int64_t i = 0; i < y.size(); ++i) both += y[i] != 0 && other[i] != 0;
    EXPECT_NEAR(static_cast<double>(both), n * keep * keep, 5 * std::sqrt(n * keep * keep * (1 - keep * keep)));
  }
}

TEST(DropoutChecks, NeedTheStep) {
  Dropout dropout;
  dropout.dropout.threshold = 1;
  EXPECT_EQ(run(cpu_module(), dropout).code, StatusCode::invalid_argument);
  dropout = {};
  dropout.dtype = Dtype::f16;
  EXPECT_EQ(run(cpu_module(), dropout).code, StatusCode::unsupported);
}

}  // namespace
}  // namespace sinter::kernels::testing
