#include "kernels/layer_norm.h"

#include <string>

#include "tests/kernels/cuda/device_case.h"
#include "tests/kernels/cuda/dropout_operands.h"
#include "tests/kernels/row_cases.h"

namespace sinter::kernels::testing {
namespace {

/// Around 8 columns a lane, 32, 96 and 128 lanes, and what no register form takes.
constexpr RowShape kForwardShapes[] = {{0, 7},   {0, 768}, {1, 1},   {3, 7},    {9, 8},    {2, 256}, {2, 264},
                                       {5, 768}, {2, 770}, {2, 776}, {2, 1024}, {2, 1032}, {2, 2051}};
/// The same around the column blocks of 64 rows.
constexpr RowShape kBackwardShapes[] = {{0, 7},  {0, 768},  {1, 1},    {2, 8},   {63, 7},   {64, 9},
                                        {65, 8}, {66, 264}, {5, 768}, {20, 776}, {3, 1032}};

std::string text(RowShape shape) { return std::to_string(shape.rows) + " x " + std::to_string(shape.cols); }

/// Roundings behind an element: sums of cols / 32 terms a lane and a tree of at most 10, and the arithmetic around.
Tolerance row_tolerance(std::int64_t cols) { return {.ulps = static_cast<double>(cols) / 32 + 26, .floor = 1}; }
/// The backward's two means carry that error each, and one of them is multiplied by xhat, which stays below 6 here.
Tolerance gradient_tolerance(std::int64_t cols) { return {.ulps = 7 * row_tolerance(cols).ulps, .floor = 1}; }
/// Chains of 64 rows, of the blocks of a lane and of 16 lanes, over terms of about 1 that were rounded some times.
Tolerance column_tolerance(std::int64_t rows) {
  return {.ulps = 64 + static_cast<double>(rows) / 1024 + 16 + 8, .floor = static_cast<double>(rows)};
}

class LayerNormOnDevice : public ::testing::TestWithParam<Dtype> {
 protected:
  Dtype dtype_ = GetParam(), vector_dtype_ = computed_dtype(dtype_);
};

INSTANTIATE_TEST_SUITE_P(Dtypes, LayerNormOnDevice, ::testing::ValuesIn(kDeviceDtypes),
                         [](const auto& tested) { return name(tested.param); });

// --- Forward ---

enum class Misaligned { nothing, matrix, vector };

struct ForwardCase {
  RowShape shape;
  bool statistics = true;
  Misaligned misaligned = Misaligned::nothing;
};

void check_forward(Dtype dtype, const ForwardCase& tested) {
  SCOPED_TRACE(text(tested.shape));
  const auto [rows, cols] = tested.shape;
  DeviceCase<LayerNorm> c({.dtype = dtype, .rows = rows, .cols = cols});
  c.input(c.params.x, dtype, normal_values(rows * cols, 1, 0.3, 1.5));
  c.input(c.params.gamma, computed_dtype(dtype), normal_values(cols, 2, 1, 0.2));
  if (tested.misaligned == Misaligned::vector) c.misalign(size_of(computed_dtype(dtype)));
  c.input(c.params.beta, computed_dtype(dtype), normal_values(cols, 3));
  c.output(c.params.y, dtype, rows * cols, row_tolerance(cols));
  if (tested.misaligned == Misaligned::matrix) c.misalign(size_of(dtype));
  if (tested.statistics) {
    c.output(c.params.mean, computed_dtype(dtype), rows, row_tolerance(cols));
    c.output(c.params.rstd, computed_dtype(dtype), rows, row_tolerance(cols));
  }
  const bool eights = cols % 8 == 0 && cols <= 1024 && tested.misaligned == Misaligned::nothing;
  c.check_with(eights ? "by_warp" : "by_block");
}

TEST_P(LayerNormOnDevice, ForwardMatchesReference) {
  for (const RowShape shape : kForwardShapes) check_forward(dtype_, {.shape = shape});
}

TEST_P(LayerNormOnDevice, ForwardWithoutStatistics) {
  for (const RowShape shape : {RowShape{2, 7}, RowShape{5, 16}})
    check_forward(dtype_, {.shape = shape, .statistics = false});
}

TEST_P(LayerNormOnDevice, ForwardOfMisalignedOperands) {
  for (const Misaligned misaligned : {Misaligned::matrix, Misaligned::vector})
    check_forward(dtype_, {.shape = {3, 16}, .misaligned = misaligned});
}

// --- Backward ---

struct BackwardCase {
  RowShape shape;
  bool dx = true, sums = true;
  Misaligned misaligned = Misaligned::nothing;
};

void check_backward(Dtype dtype, const BackwardCase& tested) {
  SCOPED_TRACE(text(tested.shape));
  const auto [rows, cols] = tested.shape;
  const Dtype vector = computed_dtype(dtype);
  DeviceCase<LayerNormBackward> c({.dtype = dtype, .rows = rows, .cols = cols});
  c.input(c.params.dy, dtype, normal_values(rows * cols, 1));
  if (tested.misaligned == Misaligned::matrix) c.misalign(size_of(dtype));
  c.input(c.params.x, dtype, normal_values(rows * cols, 2, 0.3, 1.5));
  c.input(c.params.mean, vector, normal_values(rows, 3, 0.3, 0.1));
  c.input(c.params.rstd, vector, normal_values(rows, 4, 0.7, 0.05));
  c.input(c.params.gamma, vector, normal_values(cols, 5, 1, 0.2));
  if (tested.misaligned == Misaligned::vector) c.misalign(size_of(vector));
  if (tested.dx) c.output(c.params.dx, dtype, rows * cols, gradient_tolerance(cols));
  if (tested.sums) {
    c.output(c.params.dgamma, vector, cols, column_tolerance(rows));
    c.output(c.params.dbeta, vector, cols, column_tolerance(rows));
    c.workspace(c.params.workspace);
  }
  const bool eights = cols % 8 == 0 && cols <= 1024 && tested.misaligned == Misaligned::nothing;
  c.check_with(eights ? "in_registers" : "by_block");
}

TEST_P(LayerNormOnDevice, BackwardMatchesReference) {
  for (const RowShape shape : kBackwardShapes) check_backward(dtype_, {.shape = shape});
}

TEST_P(LayerNormOnDevice, BackwardOfSomeOfTheGradients) {
  for (const std::int64_t cols : {7, 16}) {
    check_backward(dtype_, {.shape = {3, cols}, .dx = false});
    check_backward(dtype_, {.shape = {3, cols}, .sums = false});
  }
}

TEST_P(LayerNormOnDevice, BackwardOfMisalignedOperands) {
  for (const Misaligned misaligned : {Misaligned::matrix, Misaligned::vector})
    check_backward(dtype_, {.shape = {3, 16}, .misaligned = misaligned});
}

TEST(LayerNormColumnsOnDevice, MoreBlocksOfRowsThanLanesThatAddThem) {
  check_backward(Dtype::f32, {.shape = {64 * 17 + 1, 8}, .dx = false});
}

// --- With bias, dropout and residual ---

struct ResidualCase {
  RowShape shape;
  double dropout = 0.5;   ///< a scale of 2, which is exact
  bool bias = true, z = true, statistics = true, first_sample = true, mapped = true;
  int misaligned = -1;    ///< number of the matrix or vector that is, in the order of the params
};

void check_residual(Dtype dtype, const ResidualCase& tested) {
  SCOPED_TRACE(text(tested.shape));
  const auto [rows, cols] = tested.shape;
  const Dtype vector = computed_dtype(dtype);
  DeviceCase<BiasDropoutResidualLayerNorm> c(
      {.dtype = dtype, .rows = rows, .cols = cols, .dropout = site_on_device(tested.dropout)});
  const auto misalign = [&](int number, Dtype of) {
    if (tested.misaligned == number) c.misalign(size_of(of));
  };
  if (tested.dropout > 0) add_dropout(c, rows, tested.first_sample, tested.mapped);
  c.input(c.params.x, dtype, exact_values(rows * cols, 1));
  misalign(0, dtype);
  if (tested.bias) c.input(c.params.bias, vector, exact_values(cols, 2));
  misalign(1, vector);
  c.input(c.params.residual, dtype, exact_values(rows * cols, 3));
  misalign(2, dtype);
  c.input(c.params.gamma, vector, normal_values(cols, 4, 1, 0.2));
  c.input(c.params.beta, vector, normal_values(cols, 5));
  misalign(3, vector);
  if (tested.z) c.output(c.params.z, dtype, rows * cols, {.ulps = 3, .floor = 1});
  misalign(4, dtype);
  c.output(c.params.y, dtype, rows * cols, row_tolerance(cols));
  if (tested.statistics) {
    c.output(c.params.mean, vector, rows, row_tolerance(cols));
    c.output(c.params.rstd, vector, rows, row_tolerance(cols));
  }
  const bool eights = cols % 8 == 0 && cols <= 1024 && tested.misaligned < 0;
  c.check_with(eights ? "by_warp" : "by_block");
}

TEST_P(LayerNormOnDevice, ResidualMatchesReference) {
  for (const RowShape shape : kForwardShapes) check_residual(dtype_, {.shape = shape});
}

TEST_P(LayerNormOnDevice, ResidualWithoutSomeOperands) {
  for (const std::int64_t cols : {7, 16}) {
    check_residual(dtype_, {.shape = {15, cols}, .bias = false});
    check_residual(dtype_, {.shape = {15, cols}, .z = false});
    check_residual(dtype_, {.shape = {15, cols}, .statistics = false});
    check_residual(dtype_, {.shape = {15, cols}, .first_sample = false});
    check_residual(dtype_, {.shape = {15, cols}, .mapped = false});
    check_residual(dtype_, {.shape = {15, cols}, .dropout = 0});
  }
}

TEST_P(LayerNormOnDevice, ResidualWithAScaleThatRounds) {
  check_residual(dtype_, {.shape = {15, 72}, .dropout = 0.1});
}

TEST_P(LayerNormOnDevice, ResidualOfMisalignedOperands) {
  for (const int number : {0, 1, 2, 3, 4}) check_residual(dtype_, {.shape = {3, 16}, .misaligned = number});
}

enum class Dx { own, is_dresidual, null };

struct ResidualBackwardCase {
  RowShape shape;
  double dropout = 0.1;
  Dx dx = Dx::own;
  bool dbias = true, dgamma = true, dbeta = true;
  int misaligned = -1;
};

void check_residual_backward(Dtype dtype, const ResidualBackwardCase& tested) {
  SCOPED_TRACE(text(tested.shape));
  const auto [rows, cols] = tested.shape;
  const Dtype vector = computed_dtype(dtype);
  DeviceCase<BiasDropoutResidualLayerNormBackward> c(
      {.dtype = dtype, .rows = rows, .cols = cols, .dropout = site_on_device(tested.dropout)});
  const auto misalign = [&](int number) {
    if (tested.misaligned == number) c.misalign(size_of(dtype));
  };
  if (tested.dropout > 0) add_dropout(c, rows, /*first_sample=*/true, /*mapped=*/true);
  c.input(c.params.dy, dtype, normal_values(rows * cols, 1));
  misalign(0);
  c.input(c.params.z, dtype, normal_values(rows * cols, 2, 0.3, 1.5));
  misalign(1);
  c.input(c.params.mean, vector, normal_values(rows, 3, 0.3, 0.1));
  c.input(c.params.rstd, vector, normal_values(rows, 4, 0.7, 0.05));
  c.input(c.params.gamma, vector, normal_values(cols, 5, 1, 0.2));
  c.output(c.params.dresidual, dtype, rows * cols, gradient_tolerance(cols));
  misalign(2);
  if (tested.dx == Dx::own) c.output(c.params.dx, dtype, rows * cols, gradient_tolerance(cols));
  misalign(3);
  if (tested.dx == Dx::is_dresidual) c.share(c.params.dx, c.params.dresidual);
  // The terms of dbias carry the error of dx themselves.
  const Tolerance dbias{.ulps = column_tolerance(rows).ulps + gradient_tolerance(cols).ulps,
                        .floor = static_cast<double>(rows)};
  if (tested.dbias) c.output(c.params.dbias, vector, cols, dbias);
  if (tested.dgamma) c.output(c.params.dgamma, vector, cols, column_tolerance(rows));
  if (tested.dbeta) c.output(c.params.dbeta, vector, cols, column_tolerance(rows));
  c.workspace(c.params.workspace);
  const bool eights = cols % 8 == 0 && cols <= 1024 && tested.misaligned < 0;
  c.check_with(eights ? "in_registers" : "by_block");
}

TEST_P(LayerNormOnDevice, ResidualBackwardMatchesReference) {
  for (const RowShape shape : kBackwardShapes) check_residual_backward(dtype_, {.shape = shape});
}

TEST_P(LayerNormOnDevice, ResidualBackwardWithoutSomeOperands) {
  for (const std::int64_t cols : {7, 16}) {
    check_residual_backward(dtype_, {.shape = {3, cols}, .dbias = false});
    check_residual_backward(dtype_, {.shape = {3, cols}, .dgamma = false});
    check_residual_backward(dtype_, {.shape = {3, cols}, .dbeta = false});
    check_residual_backward(dtype_, {.shape = {3, cols}, .dbias = false, .dgamma = false, .dbeta = false});
    for (const Dx dx : {Dx::own, Dx::is_dresidual, Dx::null})
      check_residual_backward(dtype_, {.shape = {3, cols}, .dropout = 0, .dx = dx});
  }
}

TEST_P(LayerNormOnDevice, ResidualBackwardOfMisalignedOperands) {
  for (const int number : {0, 1, 2, 3}) check_residual_backward(dtype_, {.shape = {3, 16}, .misaligned = number});
}

TEST(LayerNormRefusedOnDevice, DtypesThatAreNoNumbersOfAMatrix) {
  expect_refused(LayerNorm{.dtype = Dtype::i32, .rows = 1, .cols = 1}, "the dtype must be");
  expect_refused(BiasDropoutResidualLayerNormBackward{.dtype = Dtype::u8, .rows = 1, .cols = 1}, "the dtype must be");
}

}  // namespace
}  // namespace sinter::kernels::testing
