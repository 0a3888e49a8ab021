#include <gtest/gtest.h>

#include "core/autograd/engine.h"
#include "core/autograd/function.h"
#include "core/autograd/gradcheck.h"
#include "core/ops/elementwise.h"
#include "core/ops/matmul.h"
#include "core/ops/reduce.h"
#include "core/ops/softmax.h"
#include "core/random.h"

namespace sinter {
namespace {

Tensor random(const Shape& shape, std::uint32_t site) {
  Tensor x = Tensor::empty(shape, {Dtype::f64});
  normal_(x, 0, 1, 7, site);
  return x.set_requires_grad();
}

TEST(Autograd, ChainOf200000Nodes) {
  Tensor x = Tensor::from<double>({2.0}).set_requires_grad();
  Tensor y = x;
  for (int i = 0; i < 200000; ++i) y = y + 0.5;
  sum(y).backward();
  EXPECT_EQ(x.grad().item(), 1.0);
}

TEST(Autograd, SecondBackwardAccumulatesOnlyAtLeaves) {
  Tensor x = Tensor::from<double>({3.0}).set_requires_grad();
  const Tensor y = sum(x * x * 2.0);
  y.backward({}, true);
  EXPECT_EQ(x.grad().item(), 12.0);
  y.backward();
  EXPECT_EQ(x.grad().item(), 24.0);
}

TEST(Autograd, Gradcheck) {
  const Tensor a = random({3, 4}, 1), b = random({4, 5}, 2);
  EXPECT_EQ(autograd::gradcheck([](Inputs in) { return Tensors{softmax(matmul(in[0], in[1]))}; }, {a, b}), "");
  EXPECT_EQ(autograd::gradgradcheck([](Inputs in) { return Tensors{tanh(matmul(in[0], in[1]))}; }, {a, b}), "");
}

}  // namespace
}  // namespace sinter
