// SGD against torch's, step by step.
#include "optim/sgd.h"

#include <gtest/gtest.h>

#include <cmath>
#include <vector>

#include "core/autograd/mode.h"
#include "core/ops/elementwise.h"
#include "core/ops/reduce.h"
#include "tests/core/expect_error.h"

namespace sinter::optim {
namespace {

// torch 2.13, float64: p = Parameter([1, -2]); SGD([p], lr=0.1, ...); three times: (p ** 3).sum().backward(), step, and
// p behind each step.
struct Row {
  SgdOptions options;
  double weight_decay;
  std::vector<std::vector<double>> values;
};

TEST(Sgd, TorchValues) {
  const Row rows[] = {
      {{.lr = 0.1}, 0, {{0.7, -3.2}, {0.5529999999999999, -6.272000000000001}, {0.4612573, -18.073395200000007}}},
      {{.lr = 0.1}, 0.5, {{0.65, -3.1}, {0.49075, -5.828}, {0.39396183125, -15.726275200000003}}},
      {{.lr = 0.1, .momentum = 0.9},
       0.01,
       {{0.699, -3.198}, {0.2808206999999999, -7.3411632}, {-0.11947957036454712, -27.23047205551028}}},
      {{.lr = 0.1, .momentum = 0.9, .nesterov = true},
       0,
       {{0.42999999999999994, -4.28},
        {0.08160699999999992, -15.693488000000002},
        {-0.18581973039593008, -161.40243159550215}}},
  };
  for (const Row& row : rows) {
    Tensor p = Tensor::from({1.0, -2.0}).set_requires_grad();
    Sgd optimizer({{.parameters = {{"p", p}}, .weight_decay = row.weight_decay}}, row.options);
    for (const std::vector<double>& expected : row.values) {
      optimizer.zero_grad();
      sum(p * p * p).backward();
      optimizer.step();
      const std::vector<double> found = p.to_vector<double>();
      for (std::size_t i = 0; i < 2; ++i)  // ten roundings a step, each amplified by the cubic's slope: below 100 ulp
        EXPECT_NEAR(found[i], expected[i], 1e-14 * std::abs(expected[i]));
    }
  }
}

TEST(Sgd, ItsStateIsTheMomentum) {
  Tensor p = Tensor::from({1.0, -2.0}).set_requires_grad();
  Sgd plain({{.parameters = {{"p", p}}}}, {.lr = 0.1});
  EXPECT_TRUE(plain.state_tensors().empty());
  Sgd moving({{.parameters = {{"p", p}}}}, {.lr = 0.1, .momentum = 0.9});
  sum(p).backward();
  moving.step();
  ASSERT_EQ(moving.state_tensors().size(), 1u);
  EXPECT_EQ(moving.state_tensors()[0].first, "momentum_buffer.p");
  EXPECT_EQ(moving.state_tensors()[0].second.to_vector<double>(), (std::vector<double>{1, 1}));
}

TEST(Sgd, OptionsAreRead) {
  const SgdOptions options = parse_sgd_options("momentum=0.5,nesterov=true", {.lr = 3});
  EXPECT_EQ(options.lr, 3);
  EXPECT_EQ(options.momentum, 0.5);
  EXPECT_TRUE(options.nesterov);
  EXPECT_EQ(parse_sgd_options("").momentum, 0);
  for (const auto& [text, says] :
       {std::pair{"momentum=", R"("momentum=" is not known)"}, std::pair{"beta=1", R"("beta=1" is not known)"},
        std::pair{"momentum=0.5x", R"("momentum=0.5x" is not known)"},
        std::pair{"momentum=1", "momentum is 1, it must"}, std::pair{"nesterov=true", "nesterov needs a momentum"}})
    testing::expect_usage_error([&] { parse_sgd_options(text); }, says);
}

}  // namespace
}  // namespace sinter::optim
