#include "kernels/cross_entropy.h"

#include <limits>

#include "tests/kernels/kernel_test.h"

namespace sinter::kernels {
namespace {

using namespace testing;

template <class T>
struct Case {
  std::int64_t rows, classes;
  double smoothing;
  Buffer<T> x, dloss;
  Buffer<std::int64_t> labels;

  Case(std::int64_t n, std::int64_t c, double e, double stddev = 2)
      : rows(n), classes(c), smoothing(e), x(random_buffer<T>(n * c, 1, 1, stddev)), dloss(random_buffer<T>(n, 2)),
        labels(n) {
    std::mt19937 generator(3);
    for (std::int64_t i = 0; i < n; ++i)
      labels[i] = i % 5 == 3 ? -100 : static_cast<std::int64_t>(generator() % static_cast<unsigned>(c));
  }
};

template <class T>
struct Result {
  Buffer<T> loss, lse, dx;
};

template <class T>
Result<T> compute(const BackendModule& module, const Case<T>& c, Stream stream = {}) {
  Result<T> r{Buffer<T>(c.rows), Buffer<T>(c.rows), Buffer<T>(c.rows * c.classes)};
  EXPECT_TRUE(run_ok(module, CrossEntropy{dtype_of<T>, c.rows, c.classes, -100, c.smoothing, c.x.data(),
                                          c.labels.data(), r.loss.data(), r.lse.data()}, stream));
  EXPECT_TRUE(run_ok(module, CrossEntropyBackward{dtype_of<T>, c.rows, c.classes, -100, c.smoothing, c.dloss.data(),
                                                  c.x.data(), c.labels.data(), r.lse.data(), r.dx.data()}, stream));
  return r;
}

// Sums of `classes` terms in lanes, an exponential of 2 ulp, x - max with |x - max| below 20. In dx the error of lse
// (half an ulp of its size, below 16) is an error of the exponent, so relative in the probability.
template <class T>
double tolerance(std::int64_t classes) {
  return kUlp<T> * (32 + static_cast<double>(classes) / 4);
}

template <class T>
void against_reference(const Case<T>& c) {
  SCOPED_TRACE(::testing::Message() << c.rows << " x " << c.classes << ", smoothing " << c.smoothing);
  const Result<T> expected = compute(ref_module(), c);
  for_each_cpu([&](const BackendModule& module) {
    const Result<T> actual = compute(module, c);
    expect_close(actual.loss.span(), expected.loss.span(), tolerance<T>(c.classes), "loss", 1);
    expect_close(actual.lse.span(), expected.lse.span(), tolerance<T>(c.classes), "lse", 1);
    expect_close(actual.dx.span(), expected.dx.span(), tolerance<T>(c.classes), "dx", 1);
    for (std::int64_t n = 0; n < c.rows; ++n)
      if (c.labels[n] == -100) {
        EXPECT_EQ(actual.loss[n], T{0});
        for (std::int64_t k = 0; k < c.classes; ++k) EXPECT_EQ(actual.dx[n * c.classes + k], T{0});
      }
  });
}

TEST(CrossEntropy, MatchesReference) {
  for (const std::int64_t classes : {1, 2, 3, 7, 16, 17, 33, 100, 1000})
    for (const double smoothing : {0.0, 0.1, 1.0}) {
      against_reference(Case<float>(11, classes, smoothing));
      against_reference(Case<double>(11, classes, smoothing));
    }
  against_reference(Case<float>(0, 2, 0));
  against_reference(Case<float>(2, 30522, 0));
}

// log(1 + exp(-2e4)) is 0 and the loss of the wrong class is the distance itself: nothing overflows on the way.
TEST(CrossEntropy, ExtremeLogits) {
  for (const double smoothing : {0.0, 0.2}) {
    Case<float> c(4, 2, smoothing);
    const float logits[8] = {1e4f, -1e4f, 1e4f, -1e4f, -1e4f, -1e4f, 1e4f, 1e4f};
    const std::int64_t labels[4] = {0, 1, 0, 1};
    std::copy(logits, logits + 8, c.x.data());
    std::copy(labels, labels + 4, c.labels.data());
    c.dloss.fill(1);
    const Result<float> expected = compute(ref_module(), c);
    for_each_cpu([&](const BackendModule& module) {
      const Result<float> actual = compute(module, c);
      for (std::int64_t n = 0; n < 4; ++n) {
        EXPECT_TRUE(std::isfinite(actual.loss[n]));
        EXPECT_NEAR(actual.loss[n], expected.loss[n], 2e4 * 8 * kUlp<float>);
      }
      if (smoothing == 0) {
        EXPECT_EQ(actual.loss[0], 0.0f);
        EXPECT_EQ(actual.loss[1], 2e4f);
        EXPECT_NEAR(actual.loss[2], 0.693147f, 1e-6);  // the difference counts, not the distance from zero
      }
      expect_close(actual.dx.span(), expected.dx.span(), 1e4 * 2 * kUlp<float>, "dx");  // lse itself has an ulp of 1e4
    });
  }
}

TEST(CrossEntropy, InfiniteLogitOfAnotherClass) {
  Case<float> c(1, 3, 0);
  c.labels[0] = 0;
  c.x[2] = -std::numeric_limits<float>::infinity();
  for_each_cpu([&](const BackendModule& module) {
    const Result<float> r = compute(module, c);
    EXPECT_TRUE(std::isfinite(r.loss[0]));
    EXPECT_EQ(r.dx[2], 0.0f);
  });
}

TEST(CrossEntropy, ChecksLabelsBeforeItWrites) {
  for (const std::int64_t wrong : {std::int64_t{-1}, std::int64_t{3}, std::numeric_limits<std::int64_t>::max()}) {
    Case<float> c(9, 3, 0);
    c.labels[8] = wrong;
    const auto expect_refused = [&](const BackendModule& module) {
      Buffer<float> loss(9), lse(9), dx(27);
      loss.fill(7);
      dx.fill(7);
      CrossEntropy forward{Dtype::f32, 9, 3, -100, 0, c.x.data(), c.labels.data(), loss.data(), lse.data()};
      CrossEntropyBackward backward{Dtype::f32, 9, 3, -100, 0, c.dloss.data(), c.x.data(), c.labels.data(), lse.data(),
                                    dx.data()};
      EXPECT_EQ(run(module, forward).code, StatusCode::invalid_argument);
      EXPECT_EQ(run(module, backward).code, StatusCode::invalid_argument);
      for (std::int64_t i = 0; i < 9; ++i) EXPECT_EQ(loss[i], 7.0f);
      for (std::int64_t i = 0; i < 27; ++i) EXPECT_EQ(dx[i], 7.0f);
      forward.ignore_index = backward.ignore_index = wrong;  // the same label may be named as the one to ignore
      c.labels[3] = 0;
      EXPECT_TRUE(run_ok(module, forward));
      EXPECT_EQ(loss[8], 0.0f);
      c.labels[3] = -100;
    };
    for_each_cpu(expect_refused);
    expect_refused(ref_module());
  }
}

TEST(CrossEntropy, BitsDependOnTheRowAlone) {
  const Case<float> c(5000, 19, 0.1);
  for_each_cpu([&](const BackendModule& module) {
    const Result<float> once = compute(module, c);
    for (const int threads : {1, 2, 4}) {
      ThreadPool pool(threads);
      const Result<float> again = compute(module, c, pool.stream());
      expect_same_bits(again.loss, once.loss, "loss");
      expect_same_bits(again.lse, once.lse, "lse");
      expect_same_bits(again.dx, once.dx, "dx");
    }
  });
}

TEST(CrossEntropy, RefusesWhatItCannotDo) {
  CrossEntropy p;
  p.classes = 2;
  p.dtype = Dtype::bf16;
  EXPECT_EQ(run(cpu_module(), p).code, StatusCode::unsupported);
  p.dtype = Dtype::f32;
  p.label_smoothing = 1.5;
  EXPECT_EQ(run(cpu_module(), p).code, StatusCode::invalid_argument);
  p.label_smoothing = 0;
  p.classes = 0;
  EXPECT_EQ(run(cpu_module(), p).code, StatusCode::invalid_argument);
}

}  // namespace
}  // namespace sinter::kernels
