#include "kernels/touched_rows.h"

#include "kernels/adamw.h"
#include "tests/kernels/kernel_test.h"

namespace sinter::kernels::testing {
namespace {

Buffer<std::int32_t> marks_of(std::int64_t rows, const std::vector<std::int64_t>& touched) {
  Buffer<std::int32_t> marks(rows);
  marks.fill(0);
  for (const std::int64_t row : touched) marks[row] = 1;
  return marks;
}

TEST(MarkRows, MarksEachRowThatIsNamed) {
  const std::vector<std::int64_t> ids = {7, 0, 7, 4999, 3, 0};
  Buffer<std::int32_t> expected = marks_of(5000, {12});
  ASSERT_TRUE(run_ok(ref_module(), MarkRows{5000, std::ssize(ids), ids.data(), expected.data()}));
  for_each_cpu([&](const BackendModule& cpu) {
    Buffer<std::int32_t> marks = marks_of(5000, {12});   // an earlier mark stays
    ASSERT_TRUE(run_ok(cpu, MarkRows{5000, std::ssize(ids), ids.data(), marks.data()}));
    expect_same_bits(marks, expected, "marks");
    EXPECT_EQ(std::count(marks.data(), marks.data() + 5000, 1), 5);
    EXPECT_TRUE(run_ok(cpu, MarkRows{5000, 0, nullptr, marks.data()}));
  });
}

TEST(MarkRows, AnIdOutOfRangeIsRefusedBeforeAnythingIsWritten) {
  for_each_cpu([&](const BackendModule& cpu) {
    for (const std::int64_t bad : {std::int64_t{-1}, std::int64_t{6}}) {
      const std::vector<std::int64_t> ids = {2, bad};
      Buffer<std::int32_t> marks = marks_of(6, {});
      const Status status = run(cpu, MarkRows{6, 2, ids.data(), marks.data()});
      EXPECT_EQ(status.code, StatusCode::invalid_argument);
      EXPECT_EQ(to_string(status), "ids: every index must lie in [0, rows)");
      expect_same_bits(marks, marks_of(6, {}), "marks");
    }
  });
}

TEST(ZeroRows, ZeroesMarkedRowsAloneAndTakesTheMarksAway) {
  constexpr std::int64_t kRows = 5001, kCols = 7;   // several tasks
  const std::vector<std::int64_t> touched = {0, 1, 2047, 2048, 4096, 5000};
  for_each_cpu([&](const BackendModule& cpu) {
    for (const int threads : {1, 3}) {
      ThreadPool pool(threads);
      Buffer<std::int32_t> marks = marks_of(kRows, touched), expected_marks = marks_of(kRows, touched);
      Buffer<double> table = random_buffer<double>(kRows * kCols, 1);
      Buffer<double> expected = random_buffer<double>(kRows * kCols, 1);
      ASSERT_TRUE(run_ok(ref_module(), ZeroRows{Dtype::f64, kRows, kCols, expected_marks.data(), expected.data()}));
      ASSERT_TRUE(run_ok(cpu, ZeroRows{Dtype::f64, kRows, kCols, marks.data(), table.data()}, pool.stream()));
      expect_same_bits(table, expected, "table");
      expect_same_bits(marks, expected_marks, "marks");
      EXPECT_EQ(std::count(table.data(), table.data() + kRows * kCols, 0.0), std::ssize(touched) * kCols);
    }
    Buffer<std::int32_t> none(0);
    EXPECT_TRUE(run_ok(cpu, ZeroRows{Dtype::f32, 0, 3, none.data(), nullptr}));
  });
}

/// A gradient that holds a table, zero in the rows without a mark.
struct Gradient {
  std::int64_t n, begin, rows, cols;
  Buffer<std::int32_t> marks;
  Buffer<float> x;

  Gradient(std::int64_t size, std::int64_t table, std::int64_t r, std::int64_t c, std::int64_t every)
      : n(size), begin(table), rows(r), cols(c), marks(marks_of(r, {})), x(random_buffer<float>(size, 1)) {
    for (std::int64_t row = 0; row < rows; ++row) {
      marks[row] = row % every == 0 ? 1 : 0;
      if (marks[row] == 0) std::fill_n(x.data() + begin + row * cols, cols, 0.0f);
    }
  }
  double norm(const BackendModule& cpu, bool with_marks, Stream stream = {}) const {
    Buffer<double> sum(1), workspace((n + kFlatBlock - 1) / kFlatBlock);
    Buffer<std::int32_t> nonfinite(1);
    SquaredNorm p{Dtype::f32, n, x.data(), sum.data(), nonfinite.data(), workspace.data()};
    if (with_marks) p.table = {begin, rows, cols, marks.data()};
    EXPECT_TRUE(run_ok(cpu, p, stream));
    EXPECT_EQ(nonfinite[0], 0);
    return sum[0];
  }
};

// Condition 2 of an exact row-deferred update: the norm is summed in the dense tree.
TEST(SquaredNormOfTouchedRows, HasTheBitsOfTheDenseNorm) {
  struct {
    std::int64_t n, begin, rows, cols;
  } const cases[] = {{40000, 0, 100, 400}, {40000, 48, 300, 96}, {40000, 4096, 8, 4096}, {20000, 4095, 2, 5000},
                     {5000, 16, 4000, 1}, {9000, 0, 1, 9000}};
  for (const auto& c : cases)
    for (const std::int64_t every : {1, 7, 1000}) {
      SCOPED_TRACE(c.begin + c.rows * c.cols);
      const Gradient gradient(c.n, c.begin, c.rows, c.cols, every);
      for_each_cpu([&](const BackendModule& cpu) {
        const double dense = gradient.norm(cpu, false);
        for (const int threads : {1, 2, 4}) {
          ThreadPool pool(threads);
          const double sparse = gradient.norm(cpu, true, pool.stream());
          EXPECT_EQ(std::memcmp(&sparse, &dense, sizeof dense), 0) << sparse << " and " << dense;
        }
      });
    }
}

TEST(SquaredNormOfTouchedRows, BlocksWithoutAMarkAreNotRead) {
  Gradient gradient(10 * kFlatBlock, kFlatBlock, 64, 512, 1000);   // 8 rows a block; row 0 is marked
  for_each_cpu([&](const BackendModule& cpu) {
    const double before = gradient.norm(cpu, true);
    // In blocks of untouched rows anything may stand; in the block of row 0 and outside the table all is read.
    std::fill_n(gradient.x.data() + 2 * kFlatBlock, 7 * kFlatBlock, std::numeric_limits<float>::quiet_NaN());
    EXPECT_EQ(gradient.norm(cpu, true), before);
    std::fill_n(gradient.x.data() + 2 * kFlatBlock, 7 * kFlatBlock, 0.0f);
    for (const std::int64_t place : {kFlatBlock + 511, 2 * kFlatBlock - 1, kFlatBlock - 1, 9 * kFlatBlock}) {
      const float saved = std::exchange(gradient.x[place], 1000.0f);
      EXPECT_GT(gradient.norm(cpu, true), before + 9e5) << place;
      gradient.x[place] = saved;
    }
  });
}

TEST(TouchedRowsChecks, RefuseWhatTheContractForbids) {
  Buffer<float> x(10);
  x.fill(1);
  Buffer<double> sum(1), workspace(1);
  Buffer<std::int32_t> marks = marks_of(3, {});
  SquaredNorm norm{Dtype::f32, 10, x.data(), sum.data(), nullptr, workspace.data(), {2, 3, 3, marks.data()}};
  EXPECT_EQ(to_string(run(cpu_module(), norm)), "the table must lie inside the buffer");
  norm.table.begin = -1;
  EXPECT_EQ(run(cpu_module(), norm).code, StatusCode::invalid_argument);
  EXPECT_EQ(run(cpu_module(), MarkRows{-1}).code, StatusCode::invalid_argument);
  EXPECT_EQ(run(cpu_module(), ZeroRows{Dtype::f32, 1, -1}).code, StatusCode::invalid_argument);
}

}  // namespace
}  // namespace sinter::kernels::testing
