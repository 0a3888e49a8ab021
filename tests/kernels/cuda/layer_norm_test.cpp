#include "kernels/layer_norm.h"

#include "tests/kernels/cuda/device_case.h"
#include "tests/kernels/row_cases.h"

namespace sinter::kernels::testing {
namespace {

/// Roundings behind an element: sums of cols / 32 terms a lane and a tree of at most 10, and the arithmetic around.
Tolerance row_tolerance(std::int64_t cols) { return {.ulps = static_cast<double>(cols) / 32 + 26, .floor = 1}; }

class LayerNormOnDevice : public ::testing::TestWithParam<Dtype> {
 protected:
  Dtype dtype_ = GetParam(), vector_dtype_ = computed_dtype(dtype_);
};

INSTANTIATE_TEST_SUITE_P(Dtypes, LayerNormOnDevice, ::testing::ValuesIn(kDeviceDtypes),
                         [](const auto& tested) { return name(tested.param); });

TEST_P(LayerNormOnDevice, ForwardMatchesReference) {
  for (const RowShape shape : kRowShapes) {
    SCOPED_TRACE(std::to_string(shape.rows) + " x " + std::to_string(shape.cols));
    DeviceCase<LayerNorm> c({.dtype = dtype_, .rows = shape.rows, .cols = shape.cols});
    c.input(c.params.x, dtype_, normal_values(shape.rows * shape.cols, 1, 0.3, 1.5));
    c.input(c.params.gamma, vector_dtype_, normal_values(shape.cols, 2, 1, 0.2));
    c.input(c.params.beta, vector_dtype_, normal_values(shape.cols, 3));
    c.output(c.params.y, dtype_, shape.rows * shape.cols, row_tolerance(shape.cols));
    c.output(c.params.mean, vector_dtype_, shape.rows, row_tolerance(shape.cols));
    c.output(c.params.rstd, vector_dtype_, shape.rows, row_tolerance(shape.cols));
    c.check();
  }
}

}  // namespace
}  // namespace sinter::kernels::testing
