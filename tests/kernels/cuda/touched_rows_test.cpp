#include "kernels/touched_rows.h"

#include "kernels/adamw.h"
#include "tests/kernels/cuda/device_case.h"

namespace sinter::kernels::testing {
namespace {

std::vector<double> marks_of(std::int64_t rows, const std::vector<std::size_t>& touched) {
  std::vector<double> marks(static_cast<std::size_t>(rows), 0.0);
  for (const std::size_t row : touched) marks[row] = 1;
  return marks;
}

TEST(MarkRowsOnDevice, MatchesReference) {
  for (const std::int64_t n : {0, 1, 255, 256, 1500}) {   // more than one trip through the loop
    SCOPED_TRACE(n);
    DeviceCase<MarkRows> c({.rows = 300, .n = n});
    c.input(c.params.ids, Dtype::i64, whole_values(n, 0, 300, 1));
    c.in_out(c.params.touched, Dtype::i32, marks_of(300, {7, 299}), {.ulps = 0});
    c.check();
  }
}

TEST(MarkRowsOnDevice, AnIdOutOfRangeStopsTheKernel) {
  for (const double bad : {-1.0, 5.0}) {
    DeviceCase<MarkRows> c({.rows = 5, .n = 3});
    c.input(c.params.ids, Dtype::i64, {0, bad, 4});
    c.in_out(c.params.touched, Dtype::i32, marks_of(5, {}), {.ulps = 0});
    c.check_stops("ids: every index must lie in [0, rows)");
  }
}

TEST(ZeroRowsOnDevice, MatchesReference) {
  const struct {
    std::int64_t rows, cols;
    const char* variant;
  } cases[] = {{0, 8, "by_vector"}, {1, 8, "by_vector"}, {33, 3, "by_element"}, {400, 8, "by_vector"},
               {64, 1040, "by_vector"}, {70, 259, "by_element"}};
  for (const Dtype dtype : kDeviceDtypes)
    for (const auto& [rows, cols, variant] : cases) {
      SCOPED_TRACE(std::to_string(rows) + " x " + std::to_string(cols));
      DeviceCase<ZeroRows> c({.dtype = dtype, .rows = rows, .cols = cols});
      std::vector<double> marks = marks_of(rows, {});
      for (std::size_t r = 0; r < marks.size(); r += r % 5 + 1) marks[r] = 1;
      c.in_out(c.params.touched, Dtype::i32, marks, {.ulps = 0});
      c.in_out(c.params.table, dtype, normal_values(rows * cols, 1), {.ulps = 0});
      c.check_with(variant);
    }
}

/// The norm of whole numbers, which has no rounding: the sum without the blocks that are not read must be exact.
/// `garbage`: what stands in blocks without a mark.
void check_norm(Dtype dtype, std::int64_t begin, std::int64_t rows, std::int64_t cols, std::size_t every,
                double garbage = 0) {
  const std::int64_t n = begin + rows * cols + 4097;
  std::vector<double> marks = marks_of(rows, {}), x = whole_values(n, -3, 4, 1);
  for (std::size_t r = 0; r < marks.size(); ++r) {
    marks[r] = r % every == 0 ? 1 : 0;
    if (marks[r] == 0)
      std::fill_n(x.begin() + begin + static_cast<std::int64_t>(r) * cols, cols, garbage);
  }
  DeviceCase<SquaredNorm> c({.dtype = dtype, .n = n, .table = {begin, rows, cols}});
  c.input(c.params.x, dtype, x);
  c.input(c.params.table.touched, Dtype::i32, marks);
  c.output(c.params.sum, Dtype::f64, 1, {.ulps = 0});
  c.output(c.params.nonfinite, Dtype::i32, 1, {.ulps = 0});
  c.workspace(c.params.workspace);
  c.check();
}

TEST(SquaredNormOfTouchedRowsOnDevice, MatchesReference) {
  for (const Dtype dtype : kDeviceDtypes) {
    check_norm(dtype, 0, 100, 96, 7);
    check_norm(dtype, 48, 40, 512, 1);
    check_norm(dtype, 4096, 3, 4096, 2);
    check_norm(dtype, 8, 9000, 1, 9000);   // more rows in a block of elements than threads
    check_norm(dtype, 16, 9000, 1, 600);
  }
}

TEST(SquaredNormOfTouchedRowsOnDevice, BlocksWithoutAMarkAreNotRead) {
  // A row is a block; every second one has no mark.
  check_norm(Dtype::f32, 4096, 5, 4096, 2, std::numeric_limits<double>::quiet_NaN());
}

TEST(TouchedRowsOnDeviceChecks, RefuseWhatTheContractForbids) {
  const std::int32_t marks[] = {0};
  expect_refused(SquaredNorm{.n = 10, .table = {2, 3, 3, marks}}, "the table must lie inside the buffer");
  expect_refused(MarkRows{.rows = -1}, "must not be negative");
  expect_refused(ZeroRows{.cols = -1}, "must not be negative");
}

}  // namespace
}  // namespace sinter::kernels::testing
