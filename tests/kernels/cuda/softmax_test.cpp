#include "kernels/softmax.h"

#include <limits>
#include <string>

#include "kernels/ref/element.h"
#include "tests/kernels/cuda/device_case.h"
#include "tests/kernels/row_cases.h"

namespace sinter::kernels::testing {
namespace {

/// Around the warp's 32, 128, 512 and 1024 elements and its 4 rows a block; 0 columns: only the backward.
constexpr RowShape kShapes[] = {{0, 3}, {1, 1}, {7, 2},  {5, 31},  {4, 32},  {3, 33},  {2, 128},
                                {3, 129}, {2, 512}, {2, 513}, {2, 1024}, {2, 1025}, {2, 2051}};

/// exp is right to 2 ulp, of a difference whose rounding counts as often as it is large: below 16 where it still shows.
/// Then sums of cols / 32 terms a lane, a tree of at most 13, a division.
double forward_ulps(std::int64_t cols) { return 2 + 16 + static_cast<double>(cols) / 32 + 13 + 1; }

class SoftmaxOnDevice : public ::testing::TestWithParam<Dtype> {
 protected:
  Dtype dtype_ = GetParam();

  void check_forward(RowShape shape, bool log, const std::vector<double>& x, bool in_place) const {
    const auto [rows, cols] = shape;
    SCOPED_TRACE(std::to_string(rows) + " x " + std::to_string(cols) + (log ? ", log" : ""));
    DeviceCase<Softmax> c({.dtype = dtype_, .log = log, .rows = rows, .cols = cols});
    const Tolerance tolerance{.ulps = forward_ulps(cols), .floor = log ? 1.0 : 1e-30};
    if (in_place) {
      c.in_out(c.params.y, dtype_, x, tolerance);
      c.share(c.params.x, c.params.y);
    } else {
      c.input(c.params.x, dtype_, x);
      c.output(c.params.y, dtype_, rows * cols, tolerance);
      c.misalign(size_of(dtype_));
    }
    c.check_with(cols <= 1024 ? "by_warp" : "by_block");
  }

  void check_backward(RowShape shape, bool log) const {
    const auto [rows, cols] = shape;
    SCOPED_TRACE(std::to_string(rows) + " x " + std::to_string(cols) + (log ? ", log" : ""));
    DeviceCase<SoftmaxBackward> c({.dtype = dtype_, .log = log, .rows = rows, .cols = cols});
    c.input(c.params.dy, dtype_, normal_values(rows * cols, 2));
    c.input(c.params.y, dtype_, log ? normal_values(rows * cols, 3, -4) : normal_values(rows * cols, 3, 0.1, 0.03));
    // A sum of terms of about 1 for logarithms and 1/10 else, times exp(y) or y; then a product and a difference.
    const double terms = static_cast<double>(cols) * (log ? 1 : 0.1);
    c.output(c.params.dx, dtype_, rows * cols,
             {.ulps = static_cast<double>(cols) / 32 + 13 + 8, .floor = std::max(1.0, terms / 4)});
    c.check_with(cols <= 1024 ? "by_warp" : "by_block");
  }
};

INSTANTIATE_TEST_SUITE_P(Dtypes, SoftmaxOnDevice, ::testing::ValuesIn(kDeviceDtypes),
                         [](const auto& tested) { return name(tested.param); });

TEST_P(SoftmaxOnDevice, ForwardMatchesReference) {
  for (const RowShape shape : kShapes)
    for (const bool log : {false, true})
      check_forward(shape, log, normal_values(shape.rows * shape.cols, 1, 0, 3), /*in_place=*/false);
}

TEST_P(SoftmaxOnDevice, ForwardInPlace) {
  for (const std::int64_t cols : {70, 1030})
    check_forward({2, cols}, /*log=*/false, normal_values(2 * cols, 1), /*in_place=*/true);
}

TEST_P(SoftmaxOnDevice, ForwardOfInfinitiesNaNAndFarValues) {
  constexpr double infinity = std::numeric_limits<double>::infinity(), nan = std::numeric_limits<double>::quiet_NaN();
  for (const std::int64_t cols : {40, 1030})
    for (const bool log : {false, true}) {
      std::vector<double> x = normal_values(5 * cols, 1);
      const auto at = [&](std::int64_t r, std::int64_t c) -> double& {
        return x[static_cast<std::size_t>(r * cols + c)];
      };
      at(0, 3) = at(0, cols - 1) = -infinity;
      at(1, 5) = infinity;
      at(2, 6) = nan;
      for (std::int64_t c = 0; c < cols; ++c) at(3, c) = -infinity;
      at(4, 7) = 60000;
      check_forward({5, cols}, log, x, /*in_place=*/false);
    }
}

TEST_P(SoftmaxOnDevice, BackwardMatchesReference) {
  for (const RowShape shape : kShapes)
    for (const bool log : {false, true}) check_backward(shape, log);
  check_backward({3, 0}, /*log=*/false);
}

}  // namespace
}  // namespace sinter::kernels::testing
