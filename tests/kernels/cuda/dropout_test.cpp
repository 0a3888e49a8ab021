#include "kernels/dropout.h"

#include <string>

#include "tests/kernels/cuda/device_case.h"
#include "tests/kernels/cuda/dropout_operands.h"
#include "tests/kernels/row_cases.h"

namespace sinter::kernels::testing {
namespace {

/// Around a Philox block of 8 elements, which rows of other lengths share, and 256 threads.
constexpr RowShape kShapes[] = {{0, 7}, {0, 8}, {5, 0}, {1, 1}, {9, 7}, {30, 8}, {13, 20}, {13, 72}, {3, 2056}};

enum class Memory { own, shared, misaligned_in, misaligned_out };

struct DropoutCase {
  RowShape shape;
  double p = 0.1;
  bool first_sample = true, mapped = true;
  Memory memory = Memory::own;
};

class DropoutOnDevice : public ::testing::TestWithParam<Dtype> {
 protected:
  Dtype dtype_ = GetParam();

  void check(const DropoutCase& tested) const {
    const auto [rows, cols] = tested.shape;
    SCOPED_TRACE(std::to_string(rows) + " x " + std::to_string(cols));
    DeviceCase<Dropout> c({.dtype = dtype_, .rows = rows, .cols = cols, .dropout = site_on_device(tested.p)});
    if (tested.p > 0) add_dropout(c, rows, tested.first_sample, tested.mapped);
    // One rounding, and that of the scale; a copy, and a scale of 2, are exact.
    const Tolerance tolerance{.ulps = tested.p == 0 || tested.p == 0.5 ? 0.0 : 2.0};
    const std::vector<double> x = normal_values(rows * cols, 1);
    if (tested.memory == Memory::shared) {
      c.in_out(c.params.y, dtype_, x, tolerance);
      c.share(c.params.x, c.params.y);
    } else {
      c.input(c.params.x, dtype_, x);
      if (tested.memory == Memory::misaligned_in) c.misalign(size_of(dtype_));
      c.output(c.params.y, dtype_, rows * cols, tolerance);
      if (tested.memory == Memory::misaligned_out) c.misalign(size_of(dtype_));
    }
    const bool aligned = tested.memory == Memory::own || tested.memory == Memory::shared;
    c.check_with(cols % 8 == 0 && aligned ? "by_eights" : "by_element");
  }
};

INSTANTIATE_TEST_SUITE_P(Dtypes, DropoutOnDevice, ::testing::ValuesIn(kDeviceDtypes),
                         [](const auto& tested) { return name(tested.param); });

TEST_P(DropoutOnDevice, MatchesReference) {
  for (const RowShape shape : kShapes)
    for (const double p : {0.1, 0.5}) check({.shape = shape, .p = p});
}

TEST_P(DropoutOnDevice, WithoutSomeOperands) {
  for (const std::int64_t cols : {20, 72}) {
    check({.shape = {13, cols}, .first_sample = false});
    check({.shape = {13, cols}, .mapped = false});
    check({.shape = {13, cols}, .p = 0});
  }
}

TEST_P(DropoutOnDevice, InPlaceAndMisaligned) {
  for (const Memory memory : {Memory::shared, Memory::misaligned_in, Memory::misaligned_out})
    check({.shape = {13, 72}, .memory = memory});
}

}  // namespace
}  // namespace sinter::kernels::testing
