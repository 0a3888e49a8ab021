// Row-deferred AdamW against the dense one, to the bit.
#include "kernels/catch_up_rows.h"

#include <limits>
#include <random>
#include <vector>

#include "tests/kernels/kernel_test.h"

namespace sinter::kernels::testing {
namespace {

/// A run of AdamW over a flat buffer of two groups, in the first of which a table lies.
struct Job {
  std::int64_t rows = 0, cols = 0;
  std::int64_t steps = 0;
  double weight_decay = 0.01, beta1 = 0.9, beta2 = 0.999;
  std::int64_t history_size = 64;
  std::int64_t used_rows = 0;      ///< rows below this are touched now and then; 0: half of them
  std::int64_t begin = 16;         ///< of the table
  bool skips = false;              ///< every fifth update is skipped

  std::int64_t table() const { return rows * cols; }
  std::int64_t border() const { return begin + table() + 9; }   ///< of the groups
  std::int64_t n() const { return border() + 21; }
};

/// Learning rates of a warm-up and a decay to zero.
double lr_of(const Job& job, std::int64_t update) {
  const double at = static_cast<double>(update) / static_cast<double>(job.steps);
  return 1e-2 * std::min(at * 10, 1 - at);
}

template <class T>
class Run {
 public:
  Run(const BackendModule& cpu, const Job& job, bool deferred, Stream stream)
      : cpu_(cpu), job_(job), deferred_(deferred), stream_(stream), grad_(job.n()),
        param_(random_buffer<T>(job.n(), 2)), exp_avg_(job.n()), exp_avg_sq_(job.n()), low_(job.n()),
        marks_(job.rows), current_(job.rows),
        history_(static_cast<std::size_t>(2 * job.history_size)) {
    exp_avg_.fill(0);
    exp_avg_sq_.fill(0);
    marks_.fill(0);
    current_.fill(0);
    low_.fill(0);
    // Values on which cheap forms could go wrong: zeros of both signs and a denormal, also in rows never touched.
    for (const std::int64_t row : {std::int64_t{0}, job.rows - 1}) {
      T* const p = param_.data() + job.begin + row * job.cols;
      p[0] = 0;
      if (job.cols > 2) {
        p[1] = -T{0};
        p[2] = std::numeric_limits<T>::denorm_min() * 5;
      }
    }
  }

  void train() {
    std::mt19937 generator(7);
    const std::int64_t used = job_.used_rows > 0 ? job_.used_rows : (job_.rows + 1) / 2;
    for (std::int64_t update = 1; update <= job_.steps; ++update) {
      std::vector<std::int64_t> ids;
      // Row 0 is touched by the first updates alone, so that all of it vanishes.
      for (int k = 0; k < 3; ++k)
        if (update < 4 || generator() % 4 == 0) ids.push_back(static_cast<std::int64_t>(generator() % used));
      if (update >= 4) std::erase(ids, 0);
      step(ids, generator, job_.skips && update % 5 == 2, lr_of(job_, update));
    }
    if (deferred_) catch_up(nullptr);
  }

  void expect_same(const Run& other) const {
    expect_same_bits(param_, other.param_, "param");
    expect_same_bits(exp_avg_, other.exp_avg_, "exp_avg");
    expect_same_bits(exp_avg_sq_, other.exp_avg_sq_, "exp_avg_sq");
    expect_same_bits(low_, other.low_, "low");
  }
  const Buffer<T>& param() const { return param_; }
  const Buffer<T>& exp_avg() const { return exp_avg_; }
  const Buffer<T>& exp_avg_sq() const { return exp_avg_sq_; }
  const Buffer<std::int64_t>& current() const { return current_; }
  std::int64_t step_count() const { return t_; }

 private:
  void step(const std::vector<std::int64_t>& ids, std::mt19937& generator, bool skip, double lr) {
    if (deferred_) {
      if (t_ % job_.history_size == 0) catch_up(nullptr);   // the ring must not lose a step that a row misses
      catch_up(&ids);
    }
    std::normal_distribution<double> normal;
    const auto fill = [&](std::int64_t begin, std::int64_t count) {
      for (std::int64_t i = begin; i < begin + count; ++i) grad_[i] = static_cast<T>(normal(generator));
    };
    grad_.fill(0);
    marks_.fill(0);
    fill(0, job_.begin);
    fill(job_.begin + job_.table(), job_.n() - job_.begin - job_.table());
    for (const std::int64_t row : ids) {
      marks_[row] = 1;
      fill(job_.begin + row * job_.cols, job_.cols);
      grad_[job_.begin + row * job_.cols] = 0;   // a gradient of zero in a touched row
    }
    const std::int64_t t = t_ + 1;
    const AdamWGroup groups[] = {{0, job_.border()}, {job_.border(), job_.n()}};
    AdamWCoefficients* const now = history_.data() + t % job_.history_size * 2;
    now[0] = coefficients(lr, job_.weight_decay, job_.beta1, job_.beta2, t);
    now[1] = coefficients(lr * 3, 0, job_.beta1, job_.beta2, t);
    const double clip = 0.7;
    const std::int32_t skipped = skip ? 1 : 0;
    AdamW p{.dtype = dtype_of<T>, .groups = groups, .group_count = 2, .beta1 = job_.beta1, .beta2 = job_.beta2,
            .coefficients = now, .clip = &clip, .skip = &skipped, .grad = grad_.data(), .param = param_.data(),
            .exp_avg = exp_avg_.data(), .exp_avg_sq = exp_avg_sq_.data(), .low = low_.data()};
    if (deferred_) p.deferred = {{job_.begin, job_.rows, job_.cols, marks_.data()}, current_.data(), &t};
    ASSERT_TRUE(run_ok(cpu_, p, stream_));
    if (!skip) t_ = t;
  }

  void catch_up(const std::vector<std::int64_t>* ids) {
    CatchUpRows p{.dtype = dtype_of<T>, .rows = job_.rows, .cols = job_.cols, .beta1 = job_.beta1, .beta2 = job_.beta2,
                  .history = history_.data(), .history_size = job_.history_size, .history_stride = 2, .step = &t_,
                  .current = current_.data(), .param = param_.data() + job_.begin,
                  .exp_avg = exp_avg_.data() + job_.begin, .exp_avg_sq = exp_avg_sq_.data() + job_.begin,
                  .low = low_.data() + job_.begin};
    const std::vector<std::int64_t> none(1);
    if (ids != nullptr) {
      p.n = std::ssize(*ids);
      p.ids = ids->empty() ? none.data() : ids->data();
    }
    ASSERT_TRUE(run_ok(cpu_, p, stream_));
  }

  const BackendModule& cpu_;
  const Job job_;
  const bool deferred_;
  const Stream stream_;
  Buffer<T> grad_, param_, exp_avg_, exp_avg_sq_;
  Buffer<std::uint16_t> low_;
  Buffer<std::int32_t> marks_;
  Buffer<std::int64_t> current_;
  std::vector<AdamWCoefficients> history_;
  std::int64_t t_ = 0;   // updates done
};

template <class T>
class DeferredRowsTest : public ::testing::Test {};
using Types = ::testing::Types<float, double>;
TYPED_TEST_SUITE(DeferredRowsTest, Types);

// Conditions 1 and 4 of an exact row-deferred update: each missed step in order with the same operations, and a table
// of what each group's step was.
TYPED_TEST(DeferredRowsTest, HasTheBitsOfTheDenseUpdate) {
  using T = TypeParam;
  const Job jobs[] = {
      {.rows = 12, .cols = 37, .steps = 40},
      {.rows = 9, .cols = 1, .steps = 200},
      {.rows = 40, .cols = 130, .steps = 300, .history_size = 7},
      {.rows = 40, .cols = 64, .steps = 100, .weight_decay = 0, .skips = true},
      {.rows = 300, .cols = 96, .steps = 30, .begin = 4096},
      {.rows = 1, .cols = 70, .steps = 20},
  };
  for (const Job& job : jobs) {
    SCOPED_TRACE(std::to_string(job.rows) + " x " + std::to_string(job.cols));
    for_each_cpu([&](const BackendModule& cpu) {
      Run<T> dense(cpu, job, false, {});
      dense.train();
      for (const int threads : {1, 2, 4}) {
        ThreadPool pool(threads);
        Run<T> deferred(cpu, job, true, pool.stream());
        deferred.train();
        deferred.expect_same(dense);
        for (std::int64_t r = 0; r < job.rows; ++r) ASSERT_EQ(deferred.current()[r], deferred.step_count());
      }
    });
  }
}

// What has become zero is not computed any more: first the momentum, then (or before it) the mean square.
TYPED_TEST(DeferredRowsTest, HasThemToTheEndOfEveryMoment) {
  using T = TypeParam;
  const Job jobs[] = {
      {.rows = 6, .cols = 37, .steps = 2500, .history_size = 3000},                                 // f32: m vanishes
      {.rows = 6, .cols = 37, .steps = 2500, .weight_decay = 0, .history_size = 1000},
      {.rows = 6, .cols = 80, .steps = 4000, .beta1 = 0.5, .beta2 = 0.8, .history_size = 5000},     // both, m first
      {.rows = 6, .cols = 80, .steps = 4000, .beta1 = 0.8, .beta2 = 0.5, .history_size = 5000},     // both, v first
      {.rows = 6, .cols = 20, .steps = 2000, .beta1 = 0, .beta2 = 0, .history_size = 5000},
  };
  for (const Job& job : jobs)
    for_each_cpu([&](const BackendModule& cpu) {
      Run<T> dense(cpu, job, false, {}), deferred(cpu, job, true, {});
      dense.train();
      deferred.train();
      deferred.expect_same(dense);
      const std::int64_t of_row_0 = job.begin + 3;
      if (sizeof(T) == 4 || job.beta1 < 0.9) {
        EXPECT_EQ(dense.exp_avg()[of_row_0], 0);
      }
      EXPECT_EQ(dense.exp_avg_sq()[of_row_0] == 0, job.beta2 < 0.9);
    });
}

/// One row of 3 numbers that lags by `lag` steps, all with these coefficients.
struct Row {
  Buffer<double> param{3}, exp_avg{3}, exp_avg_sq{3};
  Buffer<std::int64_t> current{1};
  std::vector<AdamWCoefficients> history;
  std::int64_t step;

  explicit Row(std::int64_t lag, AdamWCoefficients k = {0.5, 0, 1}) : history(8, k), step(lag) {
    param.fill(64);
    exp_avg.fill(0);
    exp_avg_sq.fill(0);
    current.fill(0);
  }
  CatchUpRows params(const std::vector<std::int64_t>* ids = nullptr) {
    return {.dtype = Dtype::f64, .rows = 1, .cols = 3, .n = ids == nullptr ? 0 : std::ssize(*ids),
            .ids = ids == nullptr ? nullptr : ids->data(), .history = history.data(), .history_size = 8,
            .step = &step, .current = current.data(), .param = param.data(), .exp_avg = exp_avg.data(),
            .exp_avg_sq = exp_avg_sq.data()};
  }
};

// p halves in each of three steps; with momentum it also moves by step_size * m / (sqrt(v) * inverse_root + eps).
TEST(CatchUpRowsByHand, DecayAndMomentum) {
  for_each_cpu([&](const BackendModule& cpu) {
    Row still(3);
    const std::vector<std::int64_t> twice = {0, 0};
    ASSERT_TRUE(run_ok(cpu, still.params(&twice)));
    EXPECT_EQ(still.param[2], 8);
    EXPECT_EQ(still.current[0], 3);
    ASSERT_TRUE(run_ok(cpu, still.params()));   // it is current
    EXPECT_EQ(still.param[2], 8);
    Row moving(1, {1, 0.25, 2});
    moving.exp_avg.fill(2);
    moving.exp_avg_sq.fill(0.25 / 0.999);
    ASSERT_TRUE(run_ok(cpu, moving.params()));
    EXPECT_NEAR(moving.param[0], 64 - 0.25 * 1.8 / (0.5 * 2 + 1e-8), 1e-13);
    EXPECT_NEAR(moving.exp_avg[0], 1.8, 1e-15);
    EXPECT_NEAR(moving.exp_avg_sq[0], 0.25, 1e-15);
  });
}

// A mean square that is no number makes p one too, as in the dense update.
TEST(CatchUpRowsByHand, ABrokenMomentIsNotSkipped) {
  for (const double bad : {-1.0, std::numeric_limits<double>::quiet_NaN()})
    for_each_cpu([&](const BackendModule& cpu) {
      Row row(2);
      row.exp_avg_sq[1] = bad;
      ASSERT_TRUE(run_ok(cpu, row.params()));
      EXPECT_TRUE(std::isnan(row.param[1]));
      EXPECT_EQ(row.param[0], 16);
    });
}

TEST(CatchUpRowsChecks, RefuseWhatTheContractForbids) {
  for_each_cpu([&](const BackendModule& cpu) {
    Row row(9);   // one step more than the history holds
    EXPECT_EQ(to_string(run(cpu, row.params())), "a row lags by more steps than the history holds");
    row.step = -1;
    EXPECT_EQ(run(cpu, row.params()).code, StatusCode::invalid_argument);
    row.step = 8;
    const std::vector<std::int64_t> outside = {0, 1};
    EXPECT_EQ(to_string(run(cpu, row.params(&outside))), "ids: every index must lie in [0, rows)");
    EXPECT_EQ(row.param[0], 64) << "written before the check";
    EXPECT_TRUE(run_ok(cpu, row.params()));
    CatchUpRows bad = row.params();
    bad.history_size = 0;
    EXPECT_EQ(run(cpu, bad).code, StatusCode::invalid_argument);
    bad = row.params();
    bad.dtype = Dtype::f16;
    EXPECT_EQ(run(cpu, bad).code, StatusCode::unsupported);
  });
}

TEST(DeferredAdamWChecks, RefuseWhatTheContractForbids) {
  for_each_cpu([&](const BackendModule& cpu) {
    Row row(4);
    Buffer<double> grad(3);
    grad.fill(1);
    Buffer<std::int32_t> marks(1);
    marks.fill(1);
    const AdamWGroup groups[] = {{0, 2}, {2, 3}};
    const AdamWCoefficients now[2];
    AdamW p{.dtype = Dtype::f64, .groups = groups, .group_count = 2, .coefficients = now, .grad = grad.data(),
            .param = row.param.data(), .exp_avg = row.exp_avg.data(), .exp_avg_sq = row.exp_avg_sq.data()};
    p.deferred = {{0, 1, 2, marks.data()}, row.current.data(), &row.step};
    EXPECT_EQ(to_string(run(cpu, p)).substr(0, 56), "a touched row has not seen the update before this one; C");
    EXPECT_EQ(row.exp_avg[0], 0) << "written before the check";
    row.current[0] = 3;
    EXPECT_TRUE(run_ok(cpu, p));
    EXPECT_EQ(row.current[0], 4);
    p.deferred.table.cols = 3;
    EXPECT_EQ(to_string(run(cpu, p)), "the deferred table must lie inside one group");
    p.deferred.step = nullptr;
    EXPECT_EQ(run(cpu, p).code, StatusCode::invalid_argument);
  });
}

}  // namespace
}  // namespace sinter::kernels::testing
