#include "kernels/cross_entropy.h"

#include <cmath>
#include <limits>

#include "tests/kernels/cuda/device_case.h"

namespace sinter::kernels::testing {
namespace {

constexpr double kInfinity = std::numeric_limits<double>::infinity();

/// Sums of `classes` terms over 32 lanes, an exponential of 2 ulp, x - max with |x - max| below 20. In dx the error of
/// lse (half an ulp of its size, below 16) is an error of the exponent, so relative in the probability.
Tolerance tolerance_of(std::int64_t classes) { return {.ulps = 48 + static_cast<double>(classes) / 32, .floor = 1}; }

std::vector<double> labels_of(std::int64_t rows, std::int64_t classes) {
  std::vector<double> labels = whole_values(rows, 0, classes, 3);
  for (std::size_t n = 3; n < labels.size(); n += 5) labels[n] = -100;
  return labels;
}

class CrossEntropyOnDevice : public ::testing::TestWithParam<Dtype> {
 protected:
  Dtype dtype_ = GetParam(), vector_dtype_ = computed_dtype(dtype_);

  struct Options {
    double smoothing = 0;
    std::size_t misaligned_x = 0, misaligned_dx = 0;   ///< bytes
  };

  void check_forward(std::int64_t rows, std::int64_t classes, const std::vector<double>& x,
                     const std::vector<double>& labels, const Options& options, const std::string& variant) const {
    SCOPED_TRACE(std::to_string(rows) + " x " + std::to_string(classes) + ", smoothing " +
                 std::to_string(options.smoothing));
    DeviceCase<CrossEntropy> c(
        {.dtype = dtype_, .rows = rows, .classes = classes, .label_smoothing = options.smoothing});
    c.input(c.params.x, dtype_, x);
    c.misalign(options.misaligned_x);
    c.input(c.params.labels, Dtype::i64, labels);
    c.output(c.params.loss, vector_dtype_, rows, tolerance_of(classes));
    c.output(c.params.lse, vector_dtype_, rows, tolerance_of(classes));
    c.check_with(variant);
  }

  void check_backward(std::int64_t rows, std::int64_t classes, const std::vector<double>& x,
                      const std::vector<double>& labels, const Options& options, const std::string& variant) const {
    SCOPED_TRACE(std::to_string(rows) + " x " + std::to_string(classes) + ", smoothing " +
                 std::to_string(options.smoothing));
    DeviceCase<CrossEntropyBackward> c(
        {.dtype = dtype_, .rows = rows, .classes = classes, .label_smoothing = options.smoothing});
    c.input(c.params.dloss, vector_dtype_, normal_values(rows, 2));
    c.input(c.params.x, dtype_, x);
    c.misalign(options.misaligned_x);
    c.input(c.params.labels, Dtype::i64, labels);
    std::vector<double> lse;
    for (std::int64_t r = 0; r < rows; ++r) {
      double sum = 0;
      for (std::int64_t k = 0; k < classes; ++k) sum += std::exp(x[static_cast<std::size_t>(r * classes + k)]);
      lse.push_back(std::log(sum));
    }
    c.input(c.params.lse, vector_dtype_, lse);
    c.output(c.params.dx, dtype_, rows * classes, tolerance_of(classes));
    c.misalign(options.misaligned_dx);
    c.check_with(variant);
  }
};

INSTANTIATE_TEST_SUITE_P(Dtypes, CrossEntropyOnDevice, ::testing::ValuesIn(kDeviceDtypes),
                         [](const auto& tested) { return name(tested.param); });

TEST_P(CrossEntropyOnDevice, ForwardMatchesReference) {
  const std::size_t size = size_of(dtype_);
  for (const std::int64_t classes : {1, 2, 3, 17, 33, 1024, 1027})
    for (const double smoothing : {0.0, 0.1, 1.0}) {
      const std::int64_t rows = classes < 100 ? 11 : 2;
      const std::vector<double> x = normal_values(rows * classes, 1, 1, 2), labels = labels_of(rows, classes);
      check_forward(rows, classes, x, labels, {.smoothing = smoothing}, "by_warp");
      check_forward(rows, classes, x, labels, {smoothing, size, 0}, smoothing == 0 ? "online" : "by_block");
    }
  check_forward(0, 2, {}, {}, {}, "by_warp");
}

TEST_P(CrossEntropyOnDevice, BackwardMatchesReference) {
  const std::size_t size = size_of(dtype_);
  for (const std::int64_t classes : {1, 2, 3, 7, 8, 33, 601})
    for (const double smoothing : {0.0, 0.1, 1.0}) {
      const std::int64_t rows = classes < 100 ? 11 : 2;
      const std::vector<double> x = normal_values(rows * classes, 1, 1, 2), labels = labels_of(rows, classes);
      check_backward(rows, classes, x, labels, {.smoothing = smoothing}, "by_vector");
      check_backward(rows, classes, x, labels, {smoothing, size, 0}, "by_element");
      check_backward(rows, classes, x, labels, {smoothing, 0, size}, "by_element");
    }
  check_backward(0, 2, {}, {}, {}, "by_vector");
}

// The distance between logits counts, not that from zero; elements of -inf and rows that begin with them are fine.
TEST_P(CrossEntropyOnDevice, ExtremeLogits) {
  std::vector<double> x = {1e4, -1e4, 1e4, -1e4, -1e4, -1e4, 1e4, 1e4};
  const std::vector<double> labels = {0, 1, 0, 1};
  DeviceCase<CrossEntropy> pairs({.dtype = dtype_, .rows = 4, .classes = 2});
  pairs.input(pairs.params.x, dtype_, x);
  pairs.input(pairs.params.labels, Dtype::i64, labels);
  pairs.output(pairs.params.loss, vector_dtype_, 4, {.ulps = 4});
  pairs.output(pairs.params.lse, vector_dtype_, 4, {.ulps = 4});
  pairs.check();
  for (const std::int64_t classes : {40, 2100}) {
    x = normal_values(classes, 1);
    for (std::size_t c = 0; c < x.size(); ++c)
      if (c % 7 != 3) x[c] = -kInfinity;
    check_forward(1, classes, x, {3}, {}, "online");
    check_backward(1, classes, x, {3}, {}, "by_vector");
  }
}

TEST_P(CrossEntropyOnDevice, AWrongLabelStopsTheKernel) {
  for (const double wrong : {-1.0, 3.0, 0x1p62})
    for (const std::size_t row : {0, 4, 8}) {
      std::vector<double> labels = labels_of(9, 3);
      labels[row] = wrong;
      DeviceCase<CrossEntropy> c({.dtype = dtype_, .rows = 9, .classes = 3});
      c.input(c.params.x, dtype_, normal_values(27, 1));
      c.input(c.params.labels, Dtype::i64, labels);
      c.output(c.params.loss, vector_dtype_, 9, {});
      c.output(c.params.lse, vector_dtype_, 9, {});
      c.check_stops("a label lies outside");
      DeviceCase<CrossEntropyBackward> b({.dtype = dtype_, .rows = 9, .classes = 3});
      b.input(b.params.x, dtype_, normal_values(27, 1));
      b.input(b.params.labels, Dtype::i64, labels);
      b.input(b.params.dloss, vector_dtype_, normal_values(9, 1));
      b.input(b.params.lse, vector_dtype_, normal_values(9, 1));
      b.output(b.params.dx, dtype_, 27, {});
      b.check_stops("a label lies outside");
    }
}

// The label to ignore may be any number, a class too.
TEST_P(CrossEntropyOnDevice, IgnoreIndexIsAParameter) {
  for (const std::int64_t ignored : {std::int64_t{1}, std::int64_t{-1}, std::int64_t{77}}) {
    DeviceCase<CrossEntropy> c({.dtype = dtype_, .rows = 3, .classes = 2, .ignore_index = ignored});
    c.input(c.params.x, dtype_, normal_values(6, 1));
    c.input(c.params.labels, Dtype::i64, {0, static_cast<double>(ignored), 0});
    c.output(c.params.loss, vector_dtype_, 3, tolerance_of(2));
    c.output(c.params.lse, vector_dtype_, 3, tolerance_of(2));
    c.check();
  }
}

TEST(CrossEntropyOnDeviceChecks, SelectsAndRefuses) {
  EXPECT_EQ(selected_variant(CrossEntropy{.rows = 1, .classes = 1024}), "by_warp");
  EXPECT_EQ(selected_variant(CrossEntropy{.rows = 1, .classes = 1025}), "online");
  EXPECT_EQ(selected_variant(CrossEntropy{.rows = 1, .classes = 1025, .label_smoothing = 0.1}), "by_block");
  expect_refused(CrossEntropy{.dtype = Dtype::i32, .classes = 2}, "the dtype must be");
  expect_refused(CrossEntropy{.classes = 0}, "at least one class");
  expect_refused(CrossEntropy{.classes = 2, .label_smoothing = 1.5}, "label_smoothing");
  expect_refused(CrossEntropyBackward{.rows = -1, .classes = 2}, "rows >= 0");
}

}  // namespace
}  // namespace sinter::kernels::testing
