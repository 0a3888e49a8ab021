#include "kernels/catch_up_rows.h"

#include <cmath>
#include <limits>
#include <vector>

#include "tests/kernels/cuda/device_case.h"
#include "tests/kernels/cuda/device_under_test.h"

namespace sinter::kernels::testing {
namespace {

/// The coefficients of steps 1, 2 ... in a ring of `size` places of `stride` coefficients each.
std::vector<double> history_of(std::int64_t steps, std::int64_t size, std::int64_t stride) {
  std::vector<double> numbers(static_cast<std::size_t>(size * stride * 3), 1e30);   // of other groups, and unused
  for (std::int64_t s = 1; s <= steps; ++s) {
    const AdamWCoefficients k = coefficients(1e-2 / static_cast<double>(s), 0.1, 0.9, 0.999, s);
    double* const place = numbers.data() + s % size * stride * 3;
    place[0] = k.decay;
    place[1] = k.step_size;
    place[2] = k.inverse_root;
  }
  return numbers;
}

class CatchUpOnDevice : public ::testing::TestWithParam<Dtype> {
 protected:
  /// Rows that have seen update 3 * r % 7 come to update 8 of 8, in a ring of 9 places.
  void check(std::int64_t rows, std::int64_t cols, const std::vector<double>* ids, const std::string& variant,
             Dtype low = Dtype::bf16) {
    const Dtype dtype = GetParam();
    const std::int64_t n = rows * cols;
    DeviceCase<CatchUpRows> c({.dtype = dtype, .rows = rows, .cols = cols, .history_size = 9, .history_stride = 2,
                               .low_dtype = low});
    std::vector<double> current, squares = normal_values(n, 3, 0, 0.1);
    for (std::int64_t r = 0; r < rows; ++r) current.push_back(static_cast<double>(3 * r % 7));
    for (double& v : squares) v = std::abs(v);
    for (std::int64_t i = 0; i < n && i < cols; ++i) squares[static_cast<std::size_t>(i)] = 0;   // row 0 only decays
    std::vector<double> momentum = normal_values(n, 2, 0, 0.1);
    for (std::int64_t i = 0; i < n && i < cols; ++i) momentum[static_cast<std::size_t>(i)] = 0;
    if (ids != nullptr) {
      c.params.n = std::ssize(*ids);
      c.input(c.params.ids, Dtype::i64, *ids);
    }
    std::vector<double> history = history_of(8, 9, 2);
    c.input(c.params.history, Dtype::f64, history);
    c.input(c.params.step, Dtype::i64, {8});
    c.in_out(c.params.current, Dtype::i64, current, {.ulps = 0});
    // 8 steps of fewer than 8 roundings; those of 16-bit types round what they store in each.
    const bool wide = dtype == Dtype::f32 || dtype == Dtype::f64;
    const Tolerance rounded = {.ulps = 64 * (wide ? 1 : dtype == Dtype::f16 ? 0x1p13 : 0x1p16)};
    c.in_out(c.params.param, dtype, normal_values(n, 1), rounded);
    c.in_out(c.params.exp_avg, dtype, momentum, rounded);
    c.in_out(c.params.exp_avg_sq, dtype, squares, rounded);
    c.in_out(c.params.low, low, std::vector<double>(static_cast<std::size_t>(n), 0.5), rounded);
    c.check_with(variant);
  }
};

INSTANTIATE_TEST_SUITE_P(Dtypes, CatchUpOnDevice, ::testing::ValuesIn(kDeviceDtypes),
                         [](const auto& tested) { return name(tested.param); });

TEST_P(CatchUpOnDevice, NamedRowsMatchReference) {
  const std::vector<double> ids = {3, 0, 9, 3, 3, 5, 1, 9, 0};
  for (const Dtype low : {Dtype::f16, Dtype::bf16}) check(10, 40, &ids, "by_vector", low);
  check(10, 1544, &ids, "by_vector");   // more columns than a block has lanes
  check(10, 3, &ids, "by_element");
}

TEST_P(CatchUpOnDevice, AllRowsMatchReference) {
  check(17, 24, nullptr, "by_vector");
  check(5, 7, nullptr, "by_element");
  check(0, 8, nullptr, "by_vector");
}

TEST(CatchUpRowsOnDevice, WhatIsOutOfRangeStopsTheKernel) {
  const struct {
    double id, step, current;
    const char* says;
  } cases[] = {{2, 1, 0, "ids: every index must lie in [0, rows)"},
               {-1, 1, 0, "ids: every index must lie in [0, rows)"},
               {1, 4, 0, "a row lags by more steps than the history holds"},
               {1, 0, 1, "a row lags by more steps than the history holds"}};
  for (const auto& [id, step, current, says] : cases) {
    SCOPED_TRACE(says);
    DeviceCase<CatchUpRows> c({.rows = 2, .cols = 4, .n = 1, .history_size = 3});
    c.input(c.params.ids, Dtype::i64, {id});
    c.input(c.params.history, Dtype::f64, history_of(3, 3, 1));
    c.input(c.params.step, Dtype::i64, {step});
    c.in_out(c.params.current, Dtype::i64, {0, current}, {.ulps = 0});
    c.in_out(c.params.param, Dtype::f32, normal_values(8, 1), {.ulps = 0});
    c.in_out(c.params.exp_avg, Dtype::f32, normal_values(8, 1), {.ulps = 0});
    c.in_out(c.params.exp_avg_sq, Dtype::f32, std::vector<double>(8, 1.0), {.ulps = 0});
    c.check_stops(says);
  }
}

// --- The bits: AdamW and CatchUpRows against AdamW alone ---

/// Memory of the device; the host writes and reads it.
class Memory {
 public:
  explicit Memory(std::size_t bytes) : bytes_(bytes) {
    EXPECT_TRUE(api().allocate(0, bytes, &memory_).ok());
  }
  ~Memory() { api().deallocate(0, memory_); }
  Memory(const Memory&) = delete;
  Memory& operator=(const Memory&) = delete;

  template <class T>
  void write(const std::vector<T>& values, std::size_t at = 0) {
    EXPECT_TRUE(api().copy(0, data<T>() + at, values.data(), values.size() * sizeof(T), {}).ok());
    EXPECT_TRUE(api().synchronize(0, {}).ok());
  }
  std::vector<std::byte> read() const {
    std::vector<std::byte> bytes(bytes_);
    EXPECT_TRUE(api().copy(0, bytes.data(), memory_, bytes_, {}).ok());
    EXPECT_TRUE(api().synchronize(0, {}).ok());
    return bytes;
  }
  template <class T>
  T* data() const {
    return static_cast<T*>(memory_);
  }

 private:
  static const DeviceApi& api() { return *device_under_test().device; }

  std::size_t bytes_;
  void* memory_ = nullptr;
};

/// Values as the bytes of any floating dtype.
std::vector<std::byte> elements(Dtype dtype, const std::vector<double>& values) {
  std::vector<std::byte> bytes(values.size() * size_of(dtype));
  for (std::size_t i = 0; i < values.size(); ++i) {
    std::byte* const place = bytes.data() + i * size_of(dtype);
    const float x = static_cast<float>(values[i]);
    const f16 half = to_f16(x);
    const bf16 brain = to_bf16(x);
    if (dtype == Dtype::f64) std::memcpy(place, &values[i], sizeof values[i]);
    if (dtype == Dtype::f32) std::memcpy(place, &x, sizeof x);
    if (dtype == Dtype::f16) std::memcpy(place, &half, sizeof half);
    if (dtype == Dtype::bf16) std::memcpy(place, &brain, sizeof brain);
  }
  return bytes;
}

/// Updates of a buffer with a table [rows, cols] at `begin`, of which a few rows are touched in each.
struct Job {
  Dtype dtype;
  std::int64_t rows, cols, begin, steps;
  double beta1 = 0.9, beta2 = 0.999;
};

std::vector<std::vector<std::byte>> train(const Job& job, bool deferred) {
  constexpr std::int64_t kHistory = 40;
  const std::int64_t border = job.begin + job.rows * job.cols + 8, n = border + 24;
  const std::size_t size = size_of(job.dtype), count = static_cast<std::size_t>(n);
  Memory param(count * size), grad(count * size), exp_avg(count * size), exp_avg_sq(count * size), low(2 * count);
  Memory marks(static_cast<std::size_t>(job.rows) * 4), current(static_cast<std::size_t>(job.rows) * 8), step(8);
  Memory history(kHistory * 2 * sizeof(AdamWCoefficients)), ids(16), skip(4);
  const std::vector<double> zeros(count, 0.0);
  param.write(elements(job.dtype, normal_values(n, 1)));
  exp_avg.write(elements(job.dtype, zeros));
  exp_avg_sq.write(elements(job.dtype, zeros));
  low.write(std::vector<std::uint16_t>(count, 0));
  current.write(std::vector<std::int64_t>(static_cast<std::size_t>(job.rows), 0));
  step.write(std::vector<std::int64_t>{0});
  const BackendModule& device = device_under_test();
  const auto must = [](const Status& status) { ASSERT_TRUE(status.ok()) << status.what; };
  const auto catch_up = [&](std::int64_t named) {   // -1: all
    const auto at = [&](const Memory& memory) {
      return memory.data<std::byte>() + static_cast<std::size_t>(job.begin) * size;
    };
    must(run(device, CatchUpRows{.dtype = job.dtype, .rows = job.rows, .cols = job.cols,
                                 .n = std::max<std::int64_t>(0, named),
                                 .ids = named < 0 ? nullptr : ids.data<std::int64_t>(), .beta1 = job.beta1,
                                 .beta2 = job.beta2, .history = history.data<AdamWCoefficients>(),
                                 .history_size = kHistory, .history_stride = 2, .step = step.data<std::int64_t>(),
                                 .current = current.data<std::int64_t>(), .param = at(param), .exp_avg = at(exp_avg),
                                 .exp_avg_sq = at(exp_avg_sq), .low = low.data<std::uint16_t>() + job.begin}));
  };
  const AdamWGroup groups[] = {{0, border}, {border, n}};
  std::int64_t t = 0;
  for (std::int64_t update = 1; update <= job.steps; ++update) {
    const std::int64_t touched[] = {update % (job.rows / 2), (update * update) % (job.rows / 2)};
    const bool quiet = update > 20 && update % 9 != 0, skipped = update % 5 == 2;
    ids.write(std::vector<std::int64_t>(touched, touched + 2));
    if (deferred && t % kHistory == 0) catch_up(-1);
    if (deferred) catch_up(quiet ? 0 : 2);
    std::vector<double> g = normal_values(n, static_cast<unsigned>(update));
    std::vector<std::int32_t> mark(static_cast<std::size_t>(job.rows), 0);
    if (!quiet) mark[static_cast<std::size_t>(touched[0])] = mark[static_cast<std::size_t>(touched[1])] = 1;
    for (std::int64_t i = 0; i < job.rows * job.cols; ++i)
      if (mark[static_cast<std::size_t>(i / job.cols)] == 0) g[static_cast<std::size_t>(job.begin + i)] = 0;
    grad.write(elements(job.dtype, g));
    marks.write(mark);
    skip.write(std::vector<std::int32_t>{skipped ? 1 : 0});
    step.write(std::vector<std::int64_t>{t + 1});
    const double lr = 1e-2 / static_cast<double>(update);
    history.write(std::vector<AdamWCoefficients>{coefficients(lr, 0.1, job.beta1, job.beta2, t + 1),
                                                 coefficients(lr * 2, 0, job.beta1, job.beta2, t + 1)},
                  static_cast<std::size_t>((t + 1) % kHistory * 2));
    AdamW p{.dtype = job.dtype, .groups = groups, .group_count = 2, .beta1 = job.beta1, .beta2 = job.beta2,
            .coefficients = history.data<AdamWCoefficients>() + (t + 1) % kHistory * 2,
            .skip = skip.data<std::int32_t>(), .grad = grad.data<void>(), .param = param.data<void>(),
            .exp_avg = exp_avg.data<void>(), .exp_avg_sq = exp_avg_sq.data<void>(), .low = low.data<void>()};
    if (deferred)
      p.deferred = {{job.begin, job.rows, job.cols, marks.data<std::int32_t>()}, current.data<std::int64_t>(),
                    step.data<std::int64_t>()};
    must(run(device, p));
    if (!skipped) ++t;
    step.write(std::vector<std::int64_t>{t});
  }
  if (deferred) catch_up(-1);
  return {param.read(), exp_avg.read(), exp_avg_sq.read(), low.read()};
}

void expect_same_bits(const Job& job) {
  SCOPED_TRACE(std::string(name(job.dtype)) + " " + std::to_string(job.rows) + " x " + std::to_string(job.cols));
  const auto dense = train(job, false), deferred = train(job, true);
  for (std::size_t i = 0; i < dense.size(); ++i) EXPECT_EQ(deferred[i], dense[i]) << "buffer " << i;
}

TEST_P(CatchUpOnDevice, HasTheBitsOfTheDenseUpdate) {
  expect_same_bits({GetParam(), 40, 24, 16, 60});
  expect_same_bits({GetParam(), 6, 5, 3, 40});   // nothing is aligned
}

// To where nothing but decay is left of the rows that were touched at first.
TEST(DeferredAdamWOnDevice, HasThemToTheEndOfEveryMoment) {
  for (const Dtype dtype : {Dtype::f32, Dtype::bf16}) {
    expect_same_bits({dtype, 400, 8, 8, 300, 0.5, 0.6});
    expect_same_bits({dtype, 400, 8, 8, 300, 0.6, 0.5});
  }
}

TEST_P(CatchUpOnDevice, DeferredAdamWMatchesReference) {
  const std::int64_t rows = 70, cols = 16, begin = 16, n = begin + rows * cols + 40;
  const AdamWGroup groups[] = {{0, 0}, {0, n - 16}, {n - 16, n}};
  DeviceCase<AdamW> c({.dtype = GetParam(), .groups = groups, .group_count = 3, .deferred = {{begin, rows, cols}}});
  std::vector<double> marks, current, squares = normal_values(n, 4, 0, 0.1), now;
  for (std::int64_t r = 0; r < rows; ++r) {
    marks.push_back(r % 6 == 1 || r == 69 ? 1 : 0);
    current.push_back(marks.back() != 0 ? 4 : static_cast<double>(r % 3));
  }
  for (double& v : squares) v = std::abs(v);
  for (int g = 0; g < 3; ++g) now.insert(now.end(), {0.9 + 0.01 * g, 1e-2 * g, 1.5});
  c.input(c.params.coefficients, Dtype::f64, now);
  c.input(c.params.grad, GetParam(), normal_values(n, 1));
  c.in_out(c.params.param, GetParam(), normal_values(n, 2), {.ulps = 8});
  c.in_out(c.params.exp_avg, GetParam(), normal_values(n, 3, 0, 0.1), {.ulps = 8});
  c.in_out(c.params.exp_avg_sq, GetParam(), squares, {.ulps = 8});
  c.input(c.params.deferred.table.touched, Dtype::i32, marks);
  c.in_out(c.params.deferred.current, Dtype::i64, current, {.ulps = 0});
  c.input(c.params.deferred.step, Dtype::i64, {5});
  c.check_with("by_vector");
}

TEST(DeferredAdamWOnDevice, ATouchedRowThatLagsStopsTheKernel) {
  const AdamWGroup groups[] = {{0, 16}};
  DeviceCase<AdamW> c({.groups = groups, .group_count = 1, .deferred = {{0, 2, 8}}});
  c.input(c.params.coefficients, Dtype::f64, {1, 1, 1});
  c.input(c.params.grad, Dtype::f32, normal_values(16, 1));
  for (void** field : {&c.params.param, &c.params.exp_avg, &c.params.exp_avg_sq})
    c.in_out(*field, Dtype::f32, std::vector<double>(16, 1.0), {.ulps = 8});
  c.input(c.params.deferred.table.touched, Dtype::i32, {0, 1});
  c.in_out(c.params.deferred.current, Dtype::i64, {0, 3}, {.ulps = 0});
  c.input(c.params.deferred.step, Dtype::i64, {5});
  c.check_stops("a touched row has not seen the update before this one");
}

TEST(DeferredAdamWOnDevice, RefusesWhatTheContractForbids) {
  const std::int32_t marks[] = {0};
  std::int64_t current[] = {0}, step[] = {1};
  const AdamWGroup groups[] = {{0, 8}, {8, 16}};
  AdamW p{.groups = groups, .group_count = 2, .deferred = {{4, 1, 8, marks}, current, step}};
  expect_refused(p, "the deferred table must lie inside one group");
  p.deferred.step = nullptr;
  expect_refused(p, "deferred rows need the update");
  expect_refused(CatchUpRows{.rows = -1}, "must not be negative");
  expect_refused(CatchUpRows{}, "the history must hold");
  expect_refused(CatchUpRows{.dtype = Dtype::i32, .history_size = 1}, "the dtype must be");
}

}  // namespace
}  // namespace sinter::kernels::testing
