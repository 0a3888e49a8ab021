#include "kernels/bias_gelu.h"

#include <string>

#include "tests/kernels/cuda/device_case.h"
#include "tests/kernels/row_cases.h"

namespace sinter::kernels::testing {
namespace {

/// Around 8 elements a thread, 256 threads, the backward's warps of 32 columns and blocks of 64 rows; what no vector
/// form takes.
constexpr RowShape kShapes[] = {{0, 7},  {0, 16},  {1, 1},  {3, 7},    {1, 8},    {63, 9},
                                {64, 8}, {66, 40}, {65, 3}, {130, 24}, {2, 2056}, {3, 770}};

/// u is one addition, erf and exp are right to 2 ulp, and five roundings follow: of values that are at most |u|, whose
/// largest is below twice that of the results.
constexpr Tolerance kForward{.ulps = 20, .floor = 1};
/// The same in the derivative, which is at most 1.2 times the gradient and has u phi(u) as a second term, in which the
/// exponent's rounding counts u^2 / 2 times: below 8 where the density still shows.
constexpr Tolerance kBackward{.ulps = 40, .floor = 1};
/// Chains of 64 rows at most over terms of about 1, of the blocks of a lane and of 16 lanes, with the error of dx.
Tolerance column_tolerance(std::int64_t rows) {
  return {.ulps = 64 + 17 + kBackward.ulps, .floor = static_cast<double>(rows)};
}

enum class Memory { own, shared, misaligned_in, misaligned_out, misaligned_bias };

struct GeluCase {
  RowShape shape;
  bool bias = true, dbias = true;
  Memory memory = Memory::own;
  double spread = 2;   ///< standard deviation of x
};

class BiasGeluOnDevice : public ::testing::TestWithParam<Dtype> {
 protected:
  Dtype dtype_ = GetParam(), vector_dtype_ = computed_dtype(dtype_);

  bool eights(const GeluCase& tested) const {
    return tested.shape.cols % 8 == 0 && (tested.memory == Memory::own || tested.memory == Memory::shared);
  }

  void check_forward(const GeluCase& tested) const {
    const auto [rows, cols] = tested.shape;
    SCOPED_TRACE(std::to_string(rows) + " x " + std::to_string(cols));
    DeviceCase<BiasGelu> c({.dtype = dtype_, .rows = rows, .cols = cols});
    const std::vector<double> x = normal_values(rows * cols, 1, 0, tested.spread);
    if (tested.memory == Memory::shared) {
      c.in_out(c.params.y, dtype_, x, kForward);
      c.share(c.params.x, c.params.y);
    } else {
      c.input(c.params.x, dtype_, x);
      if (tested.memory == Memory::misaligned_in) c.misalign(size_of(dtype_));
      c.output(c.params.y, dtype_, rows * cols, kForward);
      if (tested.memory == Memory::misaligned_out) c.misalign(size_of(dtype_));
    }
    if (tested.bias) c.input(c.params.bias, vector_dtype_, normal_values(cols, 2));
    if (tested.memory == Memory::misaligned_bias) c.misalign(size_of(vector_dtype_));
    c.check_with(eights(tested) ? "by_eights" : "by_element");
  }

  void check_backward(const GeluCase& tested) const {
    const auto [rows, cols] = tested.shape;
    SCOPED_TRACE(std::to_string(rows) + " x " + std::to_string(cols));
    DeviceCase<BiasGeluBackward> c({.dtype = dtype_, .rows = rows, .cols = cols});
    const std::vector<double> dy = normal_values(rows * cols, 3);
    if (tested.memory == Memory::shared) {
      c.in_out(c.params.dx, dtype_, dy, kBackward);
      c.share(c.params.dy, c.params.dx);
    } else {
      c.input(c.params.dy, dtype_, dy);
      if (tested.memory == Memory::misaligned_in) c.misalign(size_of(dtype_));
      c.output(c.params.dx, dtype_, rows * cols, kBackward);
      if (tested.memory == Memory::misaligned_out) c.misalign(size_of(dtype_));
    }
    c.input(c.params.x, dtype_, normal_values(rows * cols, 1, 0, tested.spread));
    if (tested.bias) c.input(c.params.bias, vector_dtype_, normal_values(cols, 2));
    if (tested.memory == Memory::misaligned_bias) c.misalign(size_of(vector_dtype_));
    if (tested.dbias) {
      c.output(c.params.dbias, vector_dtype_, cols, column_tolerance(rows));
      c.workspace(c.params.workspace);
    }
    c.check_with(eights(tested) ? "by_warp" : "by_column");
  }
};

INSTANTIATE_TEST_SUITE_P(Dtypes, BiasGeluOnDevice, ::testing::ValuesIn(kDeviceDtypes),
                         [](const auto& tested) { return name(tested.param); });

TEST_P(BiasGeluOnDevice, ForwardMatchesReference) {
  for (const RowShape shape : kShapes)
    for (const bool bias : {true, false}) check_forward({.shape = shape, .bias = bias});
}

TEST_P(BiasGeluOnDevice, BackwardMatchesReference) {
  for (const RowShape shape : kShapes)
    for (const bool bias : {true, false}) check_backward({.shape = shape, .bias = bias});
}

TEST_P(BiasGeluOnDevice, BackwardWithoutDbias) {
  for (const std::int64_t cols : {7, 40}) check_backward({.shape = {66, cols}, .dbias = false});
}

TEST_P(BiasGeluOnDevice, InPlaceAndMisaligned) {
  for (const Memory memory :
       {Memory::shared, Memory::misaligned_in, Memory::misaligned_out, Memory::misaligned_bias}) {
    check_forward({.shape = {3, 40}, .memory = memory});
    check_backward({.shape = {3, 40}, .memory = memory});
  }
}

TEST_P(BiasGeluOnDevice, FarFromZero) {
  check_forward({.shape = {4, 64}, .spread = 40});
  check_backward({.shape = {4, 64}, .spread = 40});
}

}  // namespace
}  // namespace sinter::kernels::testing
