// Hooks of tensors, leaves and nodes.
#include <gtest/gtest.h>

#include <algorithm>
#include <stdexcept>

#include "core/autograd/checkpoint.h"
#include "core/autograd/engine.h"
#include "core/autograd/mode.h"
#include "core/autograd/node.h"
#include "core/ops/elementwise.h"
#include "core/ops/gelu.h"
#include "core/ops/matmul.h"
#include "core/ops/reduce.h"
#include "core/random.h"
#include "tests/core/expect_error.h"

namespace sinter {
namespace {

using Values = std::vector<double>;

Tensor leaf(std::initializer_list<double> values) { return Tensor::from<double>(values).set_requires_grad(); }

TEST(Hooks, RunInOrderAndReplaceTheGradient) {
  const Tensor x = leaf({3});
  const Tensor y = x * 2.0;
  Values seen;
  y.register_hook([&](const Tensor& gradient) {
    seen.push_back(gradient.item());
    return gradient * 10.0;
  });
  y.register_hook([&](const Tensor& gradient) {
    seen.push_back(gradient.item());
    return Tensor();
  });
  x.register_hook([&](const Tensor& gradient) {
    seen.push_back(gradient.item());
    return gradient + 1.0;
  });
  sum(y + y).backward();
  EXPECT_EQ(seen, (Values{2, 20, 40}));  // each once, with the complete gradient
  EXPECT_EQ(x.grad().item(), 41.0);
}

TEST(Hooks, CanBeRemoved) {
  const Tensor x = leaf({3});
  int calls = 0;
  const auto count = [&](const Tensor&) {
    ++calls;
    return Tensor();
  };
  const std::size_t first = x.register_hook(count);
  x.register_hook(count);
  x.remove_hook(first);
  sum(x * 2.0).backward();
  EXPECT_EQ(calls, 1);
  testing::expect_usage_error([] { Tensor::ones({1}).register_hook([](const Tensor&) { return Tensor(); }); },
                              "register_hook on a tensor that does not require grad");
}

TEST(Hooks, OfALeafRunBeforeItsGradientIsAdded) {
  const Tensor x = leaf({3});
  sum(x).backward();
  x.register_hook([](const Tensor& gradient) { return gradient * 0.5; });
  sum(x).backward();
  EXPECT_EQ(x.grad().item(), 1.5);
}

TEST(Hooks, RetainGradKeepsTheGradientOfANonLeaf) {
  const Tensor x = leaf({3});
  Tensor y = x * 2.0;
  y.retain_grad();
  y.retain_grad();
  const Tensor z = sum(y * y);
  z.backward({}, true);
  EXPECT_EQ(y.grad().item(), 12.0);
  z.backward();
  EXPECT_EQ(y.grad().item(), 24.0);
  EXPECT_EQ(x.grad().item(), 48.0);
}

TEST(Hooks, IdentityHooksChangeNoBit) {
  const auto run = [](bool hooks) {
    Tensor x = Tensor::empty({6, 5}), weight = Tensor::empty({4, 5});
    normal_(x, 0, 1, 1, 1);
    normal_(weight, 0, 1, 1, 2);
    x.set_requires_grad();
    weight.set_requires_grad();
    const Tensor hidden = linear(x, weight), y = gelu(hidden);
    if (hooks) {
      for (const Tensor& tensor : {x, weight, hidden, y}) {
        tensor.register_hook([](const Tensor& gradient) { return gradient; });
        tensor.register_hook([](const Tensor&) { return Tensor(); });
      }
      hidden.meta()->grad_fn->pre_hooks.push_back([](const autograd::Node&, Inputs) {});
      hidden.meta()->grad_fn->post_hooks.push_back([](const autograd::Node&, Inputs, Inputs) {});
    }
    sum(y * hidden + y).backward();
    return std::pair(x.grad().to_vector<float>(), weight.grad().to_vector<float>());
  };
  EXPECT_EQ(run(true), run(false));
}

TEST(Hooks, AThrowingHookEndsBackward) {
  const Tensor x = leaf({3}), y = leaf({2});
  const Tensor product = x * y;
  const Tensor z = sum(product * 1.0);
  const std::size_t id = product.register_hook([](const Tensor&) -> Tensor { throw std::runtime_error("stop"); });
  EXPECT_THROW(z.backward({}, true), std::runtime_error);
  EXPECT_FALSE(x.grad().defined());
  product.remove_hook(id);
  z.backward();  // the graph is as it was
  EXPECT_EQ(x.grad().item(), 2.0);
  EXPECT_EQ(y.grad().item(), 3.0);
}

TEST(Hooks, OfANodeSeeItsGradients) {
  const Tensor x = leaf({3}), y = leaf({2});
  const Tensor product = x * y;
  std::string name;
  Values incoming, outgoing;
  product.meta()->grad_fn->pre_hooks.push_back([&](const autograd::Node& node, Inputs grad_outputs) {
    name = node.name();
    incoming.push_back(grad_outputs[0].item());
  });
  product.meta()->grad_fn->post_hooks.push_back([&](const autograd::Node&, Inputs grad_inputs, Inputs grad_outputs) {
    incoming.push_back(grad_outputs[0].item());
    for (const Tensor& gradient : grad_inputs) outgoing.push_back(gradient.item());
  });
  sum(product * 4.0).backward();
  EXPECT_EQ(name, "mul");
  EXPECT_EQ(incoming, (Values{4, 4}));
  EXPECT_EQ(outgoing, (Values{8, 12}));
}

TEST(Hooks, LeafReadyComesOncePerLeafWhenItsGradientIsComplete) {
  const Tensor x = leaf({3}), y = leaf({2});
  Values at_that_time;
  autograd::set_leaf_ready_hook([&](const Tensor& ready) { at_that_time.push_back(ready.grad().item()); });
  sum(x * y + x * 5.0).backward();
  autograd::set_leaf_ready_hook({});
  std::sort(at_that_time.begin(), at_that_time.end());
  EXPECT_EQ(at_that_time, (Values{3, 7}));
  sum(x * y).backward();
  EXPECT_EQ(at_that_time.size(), 2u);
}

TEST(Hooks, LeafReadyHearsOfNoLeafThatACheckpointMade) {
  const Tensor x = leaf({3}), weight = leaf({2});
  int of_x = 0, of_weight = 0, others = 0;
  autograd::set_leaf_ready_hook([&](const Tensor& ready) {
    ++(ready.same(x) ? of_x : ready.same(weight) ? of_weight : others);
  });
  const Tensor middle = autograd::checkpoint([&](Inputs in) { return in[0] * weight; }, {x * 2.0});
  sum(autograd::checkpoint([](Inputs in) { return exp(in[0]); }, {middle})).backward();
  autograd::set_leaf_ready_hook({});
  EXPECT_EQ(of_x, 1);
  EXPECT_EQ(of_weight, 1);
  EXPECT_EQ(others, 0);
}

TEST(Hooks, NodesCarryTheModulePath) {
  const Tensor x = leaf({3});
  Tensor y;
  {
    const autograd::ModuleScope scope(std::make_shared<const std::string>("bert.encoder.layer.3"));
    y = x * 2.0;
  }
  EXPECT_EQ(y.meta()->grad_fn->describe(), "mul_scalar (bert.encoder.layer.3)");
  EXPECT_EQ((x * 2.0).meta()->grad_fn->describe(), "mul_scalar");
}

}  // namespace
}  // namespace sinter
