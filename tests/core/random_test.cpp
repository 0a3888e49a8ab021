#include "core/random.h"

#include <gtest/gtest.h>

#include <cmath>

#include "core/autograd/mode.h"
#include "core/ops/dropout.h"
#include "core/ops/reduce.h"
#include "tests/core/expect_error.h"

namespace sinter {
namespace {

using testing::expect_usage_error;

constexpr std::int64_t kCount = 100000;

Tensor drawn(void (*fill)(Tensor&, double, double, std::uint64_t, std::uint32_t), double a, double b,
             std::uint64_t seed,
             std::uint32_t site, const Shape& shape = {kCount}, Dtype dtype = Dtype::f64) {
  Tensor x = Tensor::empty(shape, {dtype});
  fill(x, a, b, seed, site);
  return x;
}

double moment(const Tensor& x, double centre, int order) {
  double total = 0;
  for (const double value : x.to_vector<double>()) total += std::pow(value - centre, order);
  return total / static_cast<double>(x.numel());
}

TEST(Random, NormalMoments) {
  const Tensor x = drawn(normal_, 3, 2, 1, 1);
  const double error = 5 / std::sqrt(static_cast<double>(kCount));  // five standard errors of a mean of unit variance
  EXPECT_NEAR(moment(x, 0, 1), 3, 2 * error);
  EXPECT_NEAR(moment(x, 3, 2), 4, 4 * std::sqrt(2.0) * error);
  EXPECT_NEAR(moment(x, 3, 3) / 8, 0, std::sqrt(15.0) * error);
  EXPECT_NEAR(moment(x, 3, 4) / 16, 3, std::sqrt(96.0) * error);
}

TEST(Random, UniformMoments) {
  const Tensor x = drawn(uniform_, -1, 3, 1, 1);
  const double error = 5 / std::sqrt(static_cast<double>(kCount));
  EXPECT_NEAR(moment(x, 0, 1), 1, std::sqrt(4.0 / 3) * error);
  EXPECT_NEAR(moment(x, 1, 2), 4.0 / 3, std::sqrt(64.0 / 45) * error);
  for (const double value : x.to_vector<double>()) ASSERT_TRUE(value >= -1 && value < 3);
}

TEST(Random, IsAPureFunctionOfSeedSiteAndPlace) {
  const std::vector<double> values = drawn(normal_, 0, 1, 5, 9, {37}).to_vector<double>();
  EXPECT_EQ(drawn(normal_, 0, 1, 5, 9, {37}).to_vector<double>(), values);
  EXPECT_EQ(drawn(normal_, 0, 1, 5, 9, {37, 1}).to_vector<double>(), values);
  const std::vector<double> longer = drawn(normal_, 0, 1, 5, 9, {64}).to_vector<double>();
  EXPECT_TRUE(std::equal(values.begin(), values.end(), longer.begin()));
  Tensor narrow = Tensor::empty({37}, {Dtype::f32});
  normal_(narrow, 0, 1, 5, 9);
  for (std::size_t i = 0; i < values.size(); ++i)
    EXPECT_EQ(narrow.to_vector<float>()[i], static_cast<float>(values[i]));
  Tensor transposed = Tensor::empty({4, 3}, {Dtype::f64}).transpose(0, 1);
  uniform_(transposed, 0, 1, 5, 9);
  EXPECT_EQ(transposed.to_vector<double>(), drawn(uniform_, 0, 1, 5, 9, {3, 4}).to_vector<double>());
}

TEST(Random, SeedsAndSitesAreIndependent) {
  const Tensor base = drawn(normal_, 0, 1, 5, 9);
  for (const Tensor& other : {drawn(normal_, 0, 1, 5, 10), drawn(normal_, 0, 1, 6, 9)}) {
    double product = 0;
    const std::vector<double> a = base.to_vector<double>(), b = other.to_vector<double>();
    for (std::size_t i = 0; i < a.size(); ++i) product += a[i] * b[i];
    EXPECT_LT(std::abs(product / static_cast<double>(kCount)), 5 / std::sqrt(static_cast<double>(kCount)));
  }
}

TEST(Random, OnlyFloatingTensors) {
  expect_usage_error([] { drawn(normal_, 0, 1, 1, 1, {2}, Dtype::i64); }, "random values for a i64 tensor");
}

TEST(StepScope, NestsAndEnds) {
  EXPECT_FALSE(StepScope::active().has_value());
  expect_usage_error([] { StepScope::current("dropout"); },
                     "dropout with p > 0 in training mode needs to know the step");
  {
    const StepScope outer(1, 2, 3);
    {
      const StepScope inner(4, 5);
      EXPECT_EQ(StepScope::current("x").global_step, 5u);
      EXPECT_EQ(StepScope::current("x").first_sample, 0u);
    }
    EXPECT_EQ(StepScope::active()->seed, 1u);
    EXPECT_EQ(StepScope::active()->first_sample, 3u);
  }
  EXPECT_FALSE(StepScope::active().has_value());
}

TEST(Site, IsTheModulesPath) {
  EXPECT_EQ(site_id(""), 2166136261u);
  EXPECT_EQ(site_id("a"), 0xe40c292cu);  // FNV-1a's own test vector
  EXPECT_NE(site_id("bert.encoder.layer.1"), site_id("bert.encoder.layer.10"));
  const autograd::ModuleScope scope(std::make_shared<const std::string>("bert.pooler"));
  EXPECT_EQ(current_site(".dropout"), site_id("bert.pooler.dropout"));
}

TEST(DropoutMask, DependsOnTheSampleAlone) {
  const Tensor x = Tensor::ones({8, 64}, {Dtype::f64});
  const auto masked = [&](std::uint32_t step, std::uint32_t first_sample, std::uint32_t site, const Tensor& rows) {
    const StepScope scope(3, step, first_sample);
    return dropout(rows, 0.5, site).to_vector<double>();
  };
  const std::vector<double> whole = masked(1, 0, 2, x);
  // The second half of the batch as a micro-batch of its own has the same masks.
  const std::vector<double> half = masked(1, 4, 2, x.narrow(0, 4, 4));
  EXPECT_TRUE(std::equal(half.begin(), half.end(), whole.begin() + 4 * 64));
  EXPECT_NE(masked(2, 0, 2, x), whole);
  EXPECT_NE(masked(1, 0, 3, x), whole);
  EXPECT_NE(masked(1, 1, 2, x), whole);
  double kept = 0;
  for (const double value : whole) kept += value != 0;
  EXPECT_NEAR(kept / 512, 0.5, 5 * 0.5 / std::sqrt(512.0));
}

}  // namespace
}  // namespace sinter
