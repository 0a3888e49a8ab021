#include "kernels/adamw.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <optional>

#include "tests/kernels/adamw_groups.h"
#include "tests/kernels/cuda/device_case.h"

namespace sinter::kernels::testing {
namespace {

constexpr double kInfinity = std::numeric_limits<double>::infinity();
constexpr double kNaN = std::numeric_limits<double>::quiet_NaN();

class OptimizerOnDevice : public ::testing::TestWithParam<Dtype> {
 protected:
  Dtype dtype_ = GetParam(), computed_ = computed_dtype(dtype_);

  /// A chain of 16 squares (each rounded) and one for the tail, a tree over 256 threads, then f64; the reference's
  /// chain of n. In units of f64, because the sum is one.
  Tolerance norm_tolerance(std::int64_t n) const {
    return {.ulps = (16 + 3 + 5 + 8) * (computed_ == Dtype::f32 ? 0x1p29 : 1) + static_cast<double>(n)};
  }

  void check_norm(const std::vector<double>& x, std::size_t misalignment, const std::string& variant) {
    DeviceCase<SquaredNorm> c({.dtype = dtype_, .n = static_cast<std::int64_t>(x.size())});
    c.input(c.params.x, dtype_, x);
    c.misalign(misalignment);
    c.output(c.params.sum, Dtype::f64, 1, norm_tolerance(c.params.n));
    c.output(c.params.nonfinite, Dtype::i32, 1, {.ulps = 0});
    c.workspace(c.params.workspace);
    c.check_with(variant);
  }
};

INSTANTIATE_TEST_SUITE_P(Dtypes, OptimizerOnDevice, ::testing::ValuesIn(kDeviceDtypes),
                         [](const auto& tested) { return name(tested.param); });

TEST_P(OptimizerOnDevice, SquaredNormMatchesReference) {
  for (const std::int64_t n : {0, 1, 2, 7, 8, 9, 2049, 4095, 4096, 4097, 8195}) {
    SCOPED_TRACE(n);
    check_norm(normal_values(n, 1), 0, "by_vector");
    check_norm(normal_values(n, 1), size_of(dtype_), "by_element");
  }
}

// More partial sums than the last launch has threads.
TEST(SquaredNormOnDevice, ManyBlocks) {
  const std::int64_t n = 257 * kFlatBlock + 5;
  DeviceCase<SquaredNorm> c({.dtype = Dtype::f32, .n = n});
  std::vector<double> x(static_cast<std::size_t>(n), 0.0);
  for (std::size_t i = 0; i < x.size(); i += 4001) x[i] = 1 + static_cast<double>(i % 7);
  x.back() = 3;
  c.input(c.params.x, Dtype::f32, x);
  c.output(c.params.sum, Dtype::f64, 1, {.ulps = 0});   // whole numbers
  c.output(c.params.nonfinite, Dtype::i32, 1, {.ulps = 0});
  c.workspace(c.params.workspace);
  c.check();
}

// Of four blocks inside the table two hold a marked row, which one thread of the block finds; the others are not read.
TEST_P(OptimizerOnDevice, BlocksWithoutAMarkedRowAreZero) {
  constexpr std::int64_t kCols = 64, kRows = 4 * kFlatBlock / kCols, n = 5 * kFlatBlock + 100;
  std::vector<double> x = normal_values(n, 1), marks(kRows, 0.0);
  marks[5] = marks[3 * kRows / 4 - 1] = 1;
  for (std::int64_t i = 0; i < kRows * kCols; ++i)
    if (marks[static_cast<std::size_t>(i / kCols)] == 0) x[static_cast<std::size_t>(kFlatBlock + i)] = 0;
  DeviceCase<SquaredNorm> c({.dtype = dtype_, .n = n, .table = {.begin = kFlatBlock, .rows = kRows, .cols = kCols}});
  c.input(c.params.x, dtype_, x);
  c.input(c.params.table.touched, Dtype::i32, marks);
  c.output(c.params.sum, Dtype::f64, 1, norm_tolerance(n));
  c.output(c.params.nonfinite, Dtype::i32, 1, {.ulps = 0});
  c.workspace(c.params.workspace);
  c.check();
}

TEST_P(OptimizerOnDevice, NonfiniteElementsAreSeenWhereverTheyStand) {
  for (const double bad : {kInfinity, -kInfinity, kNaN})
    for (const std::size_t place : {0, 4095, 4099}) {
      SCOPED_TRACE(std::to_string(bad) + " at " + std::to_string(place));
      std::vector<double> x = normal_values(4100, 1);
      x[place] = bad;
      check_norm(x, 0, "by_vector");
    }
}

TEST_P(OptimizerOnDevice, TheFlagMayBeNull) {
  DeviceCase<SquaredNorm> c({.dtype = dtype_, .n = 100});
  c.input(c.params.x, dtype_, normal_values(100, 1));
  c.output(c.params.sum, Dtype::f64, 1, norm_tolerance(100));
  c.workspace(c.params.workspace);
  c.check();
}

TEST_P(OptimizerOnDevice, LargeElementsOverflowNoSum) {
  const double largest = dtype_ == Dtype::f16 ? 65504 : dtype_ == Dtype::f64 ? 1e150 : 1e30;
  check_norm(std::vector<double>(4100, largest), 0, "by_vector");
  if (dtype_ == Dtype::f64) check_norm(std::vector<double>(4100, 1e200), 0, "by_vector");   // inf, and no flag
}

/// A case with everything but the gaps between groups to step.
struct Step {
  DeviceCase<AdamW> device;
  std::vector<double> numbers, param, grad, exp_avg, exp_avg_sq;
  std::size_t misalignment = 0;
  int misaligned = -1;   ///< which of the five buffers; -1: none
  std::optional<int> skip;

  Step(Dtype dtype, std::int64_t n, const AdamWGroups& groups)
      : device({.dtype = dtype, .groups = groups.ranges.data(), .group_count = groups.count()}),
        numbers(groups.numbers()),
        param(normal_values(n, 2)),
        grad(normal_values(n, 1)),
        exp_avg(normal_values(n, 3, 0, 0.1)),
        exp_avg_sq(normal_values(n, 4, 0, 0.1)) {
    for (double& v : exp_avg_sq) v = std::abs(v);
  }

  /// Each quantity is rounded fewer than 8 times.
  void check(const std::string& variant, bool with_clip, bool with_low) {
    const Tolerance rounded = {.ulps = 8};
    AdamW& p = device.params;
    const Dtype dtype = p.dtype;
    device.input(p.coefficients, Dtype::f64, numbers);
    if (with_clip) device.input(p.clip, Dtype::f64, {0.37});
    if (skip) device.input(p.skip, Dtype::i32, {static_cast<double>(*skip)});
    const auto place = [&](int buffer, Dtype of) {
      if (buffer == misaligned) device.misalign(size_of(of));
    };
    device.input(p.grad, dtype, grad);
    place(0, dtype);
    device.in_out(p.param, dtype, param, rounded);
    place(1, dtype);
    device.in_out(p.exp_avg, dtype, exp_avg, rounded);
    place(2, dtype);
    device.in_out(p.exp_avg_sq, dtype, exp_avg_sq, rounded);
    place(3, dtype);
    if (with_low) {
      device.output(p.low, p.low_dtype, static_cast<std::int64_t>(param.size()), rounded);
      place(4, p.low_dtype);
    }
    device.check_with(variant);
  }
};

TEST_P(OptimizerOnDevice, AdamWMatchesReference) {
  for (const std::int64_t n : {0, 1, 7, 8, 9, 33, 2048, 2049, 4609}) {
    SCOPED_TRACE(n);
    // Two groups with a gap, which must stay as it is, and empty ones.
    const std::int64_t third = n / 24 * 8, half = n / 16 * 8;
    const AdamWGroups groups = {{0, third, 1e-2, 0.01}, {third, third, 1, 1}, {half, n, 3e-3, 0}};
    for (const Dtype low : {Dtype::f16, Dtype::bf16}) {
      Step step(dtype_, n, groups);
      step.device.params.low_dtype = low;
      step.check("by_vector", true, true);
    }
    Step(dtype_, n, groups).check("by_vector", false, false);
  }
}

TEST_P(OptimizerOnDevice, BordersOfGroupsMayStandAnywhere) {
  const AdamWGroups groups = {{1, 7, 1e-2, 0.01}, {8, 8, 1, 1}, {9, 39, 3e-3, 0}, {39, 40, 1e-3, 0.1}};
  Step(dtype_, 41, groups).check("by_element", true, true);
}

TEST_P(OptimizerOnDevice, EachBufferMayBeMisaligned) {
  const AdamWGroups groups = {{0, 40, 1e-2, 0.01}};
  for (int buffer = 0; buffer < 5; ++buffer) {
    SCOPED_TRACE(buffer);
    Step step(dtype_, 40, groups);
    step.misaligned = buffer;
    step.check("by_element", true, true);
  }
}

// More groups than one launch takes, the empty ones not counted.
TEST_P(OptimizerOnDevice, ManyGroups) {
  AdamWGroups groups({});
  for (std::int64_t g = 0; g < 131; ++g) {
    groups.add({8 * g, 8 * g + 8 - g % 3, 1e-3 * static_cast<double>(g + 1), 0.01});
    groups.add({8 * g + 8, 8 * g + 8, 1, 1});
  }
  Step(dtype_, 131 * 8, groups).check("by_vector", true, true);
}

TEST_P(OptimizerOnDevice, ASkippedUpdateWritesNothing) {
  const AdamWGroups groups = {{0, 2056, 1e-2, 0.01}, {2056, 4609, 3e-3, 0}};
  for (const int skip : {0, 1, -1, 256}) {
    SCOPED_TRACE(skip);
    Step step(dtype_, 4609, groups);
    step.skip = skip;
    step.check("by_vector", true, skip == 0);   // without the copy, whose bytes would have to be written
  }
}

// The copy is the rounded parameter itself: nothing moves it here, so it must agree to the bit.
TEST_P(OptimizerOnDevice, LowCopyRoundsTheStoredParameter) {
  const std::vector<double> special = {65504, 65520, -1e30, 1e-7,         6e-8,       2.9e-8,      0,         -0.0,
                                       kInfinity, 1.00048828125, 1.0009765625, 1.00390625, 1.01171875, -3.3e38, 1, 2};
  const AdamWGroups groups = {{0, 16, 1e-3, 0}};
  for (const Dtype low : {Dtype::f16, Dtype::bf16}) {
    DeviceCase<AdamW> c({.dtype = dtype_, .groups = groups.ranges.data(), .group_count = 1, .low_dtype = low});
    c.input(c.params.coefficients, Dtype::f64, groups.numbers());
    const std::vector<double> zeros(16, 0.0);
    c.input(c.params.grad, dtype_, zeros);
    c.in_out(c.params.param, dtype_, special, {.ulps = 0});
    c.in_out(c.params.exp_avg, dtype_, zeros, {.ulps = 0});
    c.in_out(c.params.exp_avg_sq, dtype_, zeros, {.ulps = 0});
    c.output(c.params.low, low, 16, {.ulps = 0});
    c.check();
  }
}

/// Ranges with a 16-bit side: borders inside of blocks and chunks, neighbours apart, the end of the buffer.
constexpr std::int64_t kSided = 3 * kFlatBlock + 1003;
const std::vector<double> kBorders = {16, 48, 64, 4096 + 32, 4096 + 48, 4096 + 64, 2 * 4096, kSided};

/// 1000 where the ranges are: nobody may read that. A sum with NaN would be taken again by other code.
std::vector<double> without_ranges(std::vector<double> x) {
  for (std::size_t r = 0; r < kBorders.size(); r += 2)
    std::fill(x.begin() + static_cast<std::ptrdiff_t>(kBorders[r]),
              x.begin() + static_cast<std::ptrdiff_t>(kBorders[r + 1]), 1000);
  return x;
}

TEST_P(OptimizerOnDevice, TheNormReadsGradientsIn16Bits) {
  for (const Dtype low : {Dtype::f16, Dtype::bf16})
    for (const double bad : {0.0, kInfinity})
      for (const bool aligned : {true, false}) {
        SCOPED_TRACE(std::string(name(low)) + (aligned ? ", aligned" : "") + ", " + std::to_string(bad));
        DeviceCase<SquaredNorm> c({.dtype = dtype_, .n = kSided, .low_dtype = low});
        c.input(c.params.x, dtype_, without_ranges(normal_values(kSided, 1)));
        std::vector<double> x = normal_values(kSided, 2);
        if (bad != 0) x[4096 + 50] = bad;
        c.input(c.params.low_x, low, x);
        if (!aligned) c.misalign(2);
        c.input(c.params.low_ranges.ranges, Dtype::i64, kBorders);
        c.params.low_ranges.count = 4;
        c.output(c.params.sum, Dtype::f64, 1, norm_tolerance(kSided));
        c.output(c.params.nonfinite, Dtype::i32, 1, {.ulps = 0});
        c.workspace(c.params.workspace);
        c.check_with(aligned ? "by_vector" : "by_element");
      }
}

TEST_P(OptimizerOnDevice, AdamWReadsGradientsIn16Bits) {
  const AdamWGroups groups = {{0, 4096 + 16, 1e-2, 0.01}, {4096 + 16, kSided, 3e-3, 0}};
  for (const Dtype low : {Dtype::f16, Dtype::bf16})
    for (const bool aligned : {true, false}) {
      SCOPED_TRACE(std::string(name(low)) + (aligned ? ", aligned" : ""));
      Step step(dtype_, kSided, groups);
      step.grad = without_ranges(step.grad);
      AdamW& p = step.device.params;
      p.low_dtype = low;
      step.device.input(p.low_grad, low, normal_values(kSided, 5));
      if (!aligned) step.device.misalign(2);
      step.device.input(p.low_ranges.ranges, Dtype::i64, kBorders);
      p.low_ranges.count = 4;
      step.device.in_out(p.low, low, normal_values(kSided, 6), {.ulps = 8});
      step.check(aligned ? "by_vector" : "by_element", true, false);
    }
}

// Without ranges every element has one.
TEST_P(OptimizerOnDevice, AllGradientsMayHave16Bits) {
  const AdamWGroups groups = {{0, 4609, 1e-2, 0.01}};
  Step step(dtype_, 4609, groups);
  step.grad.assign(4609, kNaN);
  step.device.input(step.device.params.low_grad, Dtype::bf16, normal_values(4609, 5));
  step.check("by_vector", true, true);
}

// Not f16, which stores no denormal of f32.
TEST(AdamWOnDevice, DenormalMomentsAreFlushed) {
  const AdamWGroups groups = {{0, 9, 1e-3, 0}};
  for (const Dtype dtype : {Dtype::f32, Dtype::f64, Dtype::bf16}) {
    const double least = dtype == Dtype::f64 ? std::numeric_limits<double>::min() : std::numeric_limits<float>::min();
    DeviceCase<AdamW> c({.dtype = dtype, .groups = groups.ranges.data(), .group_count = 1});
    c.input(c.params.coefficients, Dtype::f64, groups.numbers());
    c.input(c.params.grad, dtype, std::vector<double>(9, 0.0));
    c.in_out(c.params.param, dtype, std::vector<double>(9, 1.0), {.ulps = 0});
    c.in_out(c.params.exp_avg, dtype, std::vector<double>(9, 0.9 * least), {.ulps = 0});
    c.in_out(c.params.exp_avg_sq, dtype, std::vector<double>(9, least), {.ulps = 0});
    c.check();
  }
}

TEST(OptimizerOnDeviceChecks, RefuseWhatTheContractForbids) {
  const AdamWGroup overlapping[] = {{0, 6}, {5, 10}};
  expect_refused(AdamW{.groups = overlapping, .group_count = 2}, "groups must ascend");
  expect_refused(AdamW{.dtype = Dtype::i32}, "the dtype must be");
  expect_refused(SquaredNorm{.n = -1}, "must not be negative");
  const float nothing = 0;
  expect_refused(SquaredNorm{.low_x = &nothing, .low_dtype = Dtype::f32}, "must be f16 or bf16");
  expect_refused(AdamW{.low_grad = &nothing, .low_ranges = {nullptr, -1}}, "must not be negative");
}

}  // namespace
}  // namespace sinter::kernels::testing
