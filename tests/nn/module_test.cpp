// Modules: names, counts, hooks, casts, initial values.
#include "nn/module.h"

#include <gtest/gtest.h>

#include <cmath>

#include "core/autograd/node.h"
#include "core/ops/elementwise.h"
#include "core/ops/reduce.h"
#include "core/runtime/runtime.h"
#include "tests/core/expect_error.h"
#include "tests/nn/small_bert.h"

namespace sinter {
namespace {

using testing::expect_error;
using testing::expect_usage_error;

/// Names and shapes of HF's BertForSequenceClassification, in its order (transformers, modeling_bert.py).
std::vector<std::pair<std::string, Shape>> hf_parameters(const nn::BertConfig& c) {
  std::vector<std::pair<std::string, Shape>> list;
  const auto dense = [&](const std::string& name, std::int64_t out, std::int64_t in) {
    list.push_back({name + ".weight", {out, in}});
    list.push_back({name + ".bias", {out}});
  };
  const auto norm = [&](const std::string& name) {
    list.push_back({name + ".LayerNorm.weight", {c.hidden_size}});
    list.push_back({name + ".LayerNorm.bias", {c.hidden_size}});
  };
  const std::int64_t h = c.hidden_size;
  list.push_back({"bert.embeddings.word_embeddings.weight", {c.vocab_size, h}});
  list.push_back({"bert.embeddings.position_embeddings.weight", {c.max_position_embeddings, h}});
  list.push_back({"bert.embeddings.token_type_embeddings.weight", {c.type_vocab_size, h}});
  norm("bert.embeddings");
  for (std::int64_t i = 0; i < c.num_hidden_layers; ++i) {
    const std::string layer = "bert.encoder.layer." + std::to_string(i);
    for (const char* part : {".query", ".key", ".value"}) dense(layer + ".attention.self" + part, h, h);
    dense(layer + ".attention.output.dense", h, h);
    norm(layer + ".attention.output");
    dense(layer + ".intermediate.dense", c.intermediate_size, h);
    dense(layer + ".output.dense", h, c.intermediate_size);
    norm(layer + ".output");
  }
  dense("bert.pooler.dense", h, h);
  dense("classifier", c.num_labels, h);
  return list;
}

std::int64_t elements(const std::vector<std::pair<std::string, Shape>>& list) {
  std::int64_t count = 0;
  for (const auto& [name, shape] : list) count += shape.numel();
  return count;
}

TEST(Module, BertHasTheNamesOfHuggingFace) {
  nn::BertConfig config = testing::small_config();
  config.num_hidden_layers = 12;
  config.num_labels = 3;
  const nn::BertForSequenceClassification model(config);
  const auto expected = hf_parameters(config);
  const ParameterList actual = model.named_parameters();
  ASSERT_EQ(actual.size(), 201u);
  ASSERT_EQ(expected.size(), actual.size());
  for (std::size_t i = 0; i < actual.size(); ++i) {
    EXPECT_EQ(actual[i].name, expected[i].first);
    EXPECT_EQ(actual[i].tensor.shape(), expected[i].second) << actual[i].name;
    EXPECT_TRUE(actual[i].tensor.requires_grad()) << actual[i].name;
  }
  EXPECT_EQ(model.num_parameters(), elements(expected));
  EXPECT_TRUE(model.named_buffers().empty());
}

TEST(Module, BertBaseHas109483778Parameters) { EXPECT_EQ(elements(hf_parameters(nn::BertConfig())), 109483778); }

struct Mlp : nn::Module {
  nn::Linear up{4, 8}, down{8, 2};
  Tensor scale = Tensor::ones({2}), counts = Tensor::zeros({3}, {Dtype::i64});

  Mlp() {
    register_module("up", up);
    register_module("down", down);
    register_buffer("scale", scale);
    register_buffer("counts", counts);
    init_weights(*this, 0.5, 1);
  }
  Tensor operator()(const Tensor& x) const {
    return run({x}, [&](Inputs in) { return down(relu(up(in[0]))) * scale; });
  }
};

struct Tied : nn::Module {
  nn::Embedding table{5, 4, 0};
  nn::Linear head{4, 5, false};
  Mlp mlp;

  Tied() {
    head.weight = table.weight;
    register_module("table", table);
    register_module("head", head);
    register_module("mlp", mlp);
  }
};

std::vector<double> values(const Tensor& x) { return x.detach().to(Dtype::f64).to_vector<double>(); }

TEST(Module, TreesOfNames) {
  Tied model;
  std::vector<std::string> names, paths;
  for (const auto& [name, module] : model.named_modules()) {
    names.push_back(name);
    paths.push_back(module->path());
  }
  EXPECT_EQ(names, (std::vector<std::string>{"", "table", "head", "mlp", "mlp.up", "mlp.down"}));
  EXPECT_EQ(paths, names);
  ASSERT_EQ(model.named_buffers().size(), 2u);
  EXPECT_EQ(model.named_buffers()[1].name, "mlp.counts");
  EXPECT_EQ(model.named_parameters().size(), 6u);  // the tied weight under both of its names
  EXPECT_EQ(model.num_parameters(), 20 + (4 * 8 + 8) + (8 * 2 + 2));
  model.table.weight.set_requires_grad(false);
  EXPECT_EQ(model.num_parameters(true), (4 * 8 + 8) + (8 * 2 + 2));
}

TEST(Module, NamesAreChecked) {
  struct Open : nn::Module {
    using Module::register_buffer;
    using Module::register_module;
    using Module::register_parameter;
    Tensor x = Tensor::ones({1});
    nn::Linear child{1, 1};
  } module;
  module.register_parameter("x", module.x);
  expect_usage_error([&] { module.register_buffer("x", module.x); }, "a module has two parts called \"x\"");
  expect_usage_error([&] { module.register_module("x", module.child); }, "a module has two parts called \"x\"");
  expect_usage_error([&] { module.register_module("a.b", module.child); }, "\"a.b\" cannot name a part of a module");
  expect_usage_error([&] { module.register_parameter("", module.x); }, "\"\" cannot name a part of a module");
  Tensor index = Tensor::arange(2);
  expect_usage_error([&] { module.register_parameter("index", index); }, "cannot require grad");
}

TEST(Module, TrainEvalAndApplyReachEveryModule) {
  Tied model;
  EXPECT_TRUE(model.mlp.down.is_training());
  model.eval();
  std::vector<std::string> order;
  model.apply([&](nn::Module& module) {
    EXPECT_FALSE(module.is_training());
    order.push_back(module.path());
  });
  EXPECT_EQ(order, (std::vector<std::string>{"table", "head", "mlp.up", "mlp.down", "mlp", ""}));  // children first
  model.mlp.train();
  EXPECT_TRUE(model.mlp.up.is_training());
  EXPECT_FALSE(model.head.is_training());
}

TEST(Module, ZeroGrad) {
  Mlp model;
  sum(model(Tensor::ones({3, 4}))).backward();
  EXPECT_TRUE(model.up.weight.grad().defined());
  model.zero_grad();
  for (const Parameter& p : model.named_parameters()) EXPECT_FALSE(p.tensor.grad().defined()) << p.name;
}

TEST(Module, CastsWholeTrees) {
  Tied model;
  model.mlp.down.bias.set_requires_grad(false);
  const std::vector<double> before = values(model.table.weight);
  model.to(Dtype::f64);
  for (const Parameter& p : model.named_parameters()) {
    EXPECT_EQ(p.tensor.dtype(), Dtype::f64) << p.name;
    EXPECT_TRUE(p.tensor.is_leaf()) << p.name;
    EXPECT_EQ(p.tensor.requires_grad(), p.name != "mlp.down.bias") << p.name;
  }
  EXPECT_EQ(model.mlp.scale.dtype(), Dtype::f64);
  EXPECT_FALSE(model.mlp.scale.requires_grad());
  EXPECT_EQ(model.mlp.counts.dtype(), Dtype::i64);
  EXPECT_EQ(values(model.table.weight), before);
  EXPECT_TRUE(model.head.weight.same(model.table.weight));
  EXPECT_EQ(model.mlp(Tensor::ones({1, 4}, {Dtype::f64})).dtype(), Dtype::f64);
  expect_error([&] { model.to(Dtype::f16); }, ErrorCode::unsupported, "a module in f16");
}

TEST(Module, MovesWholeTrees) {
  if (const std::string why = Runtime::instance().why_unusable(Device::simt()); !why.empty())
    GTEST_SKIP() << "simt:0 is not usable: " << why;
  Tied model;
  model.mlp.down.bias.set_requires_grad(false);
  const std::vector<double> before = values(model.table.weight);
  const Tensor handle = model.table.weight;
  model.to(Device::cpu());
  EXPECT_TRUE(model.table.weight.same(handle));
  model.to(Device::simt());
  for (const Parameter& p : model.named_parameters()) {
    EXPECT_EQ(p.tensor.device(), Device::simt()) << p.name;
    EXPECT_TRUE(p.tensor.is_leaf()) << p.name;
    EXPECT_EQ(p.tensor.requires_grad(), p.name != "mlp.down.bias") << p.name;
  }
  EXPECT_EQ(model.mlp.scale.device(), Device::simt());
  EXPECT_EQ(model.mlp.counts.device(), Device::simt());
  EXPECT_TRUE(model.head.weight.same(model.table.weight));
  EXPECT_EQ(values(model.table.weight.detach().to(Device::cpu())), before);
}

TEST(ModuleHooks, ReplaceInputsAndOutputsInOrder) {
  Mlp model;
  const Tensor x = Tensor::ones({1, 4}), y = Tensor::full({1, 4}, 2);
  const std::vector<double> of_y = values(model(y));
  std::string calls;
  const auto first = model.register_forward_pre_hook([&](nn::Module& module, Inputs inputs) {
    EXPECT_EQ(&module, &model);
    EXPECT_TRUE(inputs[0].same(x));
    calls += "a";
    return Tensors{y};
  });
  const auto second = model.register_forward_pre_hook([&](nn::Module&, Inputs inputs) {
    EXPECT_TRUE(inputs[0].same(y));
    calls += "b";
    return Tensors{};
  });
  const auto third = model.register_forward_hook([&](nn::Module&, Inputs inputs, const Tensor& output) {
    EXPECT_TRUE(inputs[0].same(y));
    calls += "c";
    return output * 10.0;
  });
  EXPECT_TRUE(model.has_hooks());
  const std::vector<double> hooked = values(model(x));
  EXPECT_EQ(calls, "abc");
  for (std::size_t i = 0; i < 2; ++i)
    EXPECT_EQ(hooked[i], values((Tensor::from<float>({static_cast<float>(of_y[i])}) * 10.0))[0]);
  for (const std::size_t id : {first, second, third}) model.remove_hook(id);
  EXPECT_FALSE(model.has_hooks());
  EXPECT_EQ(values(model(y)), of_y);
  EXPECT_EQ(calls, "abc");
}

TEST(ModuleHooks, AHookMayRemoveItself) {
  Mlp model;
  std::size_t id = 0;
  int calls = 0;
  id = model.register_forward_hook([&](nn::Module& module, Inputs, const Tensor&) {
    ++calls;
    module.remove_hook(id);
    return Tensor();
  });
  model(Tensor::ones({1, 4}));
  model(Tensor::ones({1, 4}));
  EXPECT_EQ(calls, 1);
}

TEST(Module, NodesAndErrorsNameTheModule) {
  const auto model = testing::small_bert();
  nn::BertInputs inputs;
  inputs.input_ids = testing::random_ids({1, 3});
  const Tensor pooled = model->bert(inputs).pooler_output;
  EXPECT_EQ(pooled.meta()->grad_fn->describe(), "tanh (bert.pooler)");
  {
    const NoGradGuard guard;
    model->bert.encoder.layer[1]->intermediate.dense.weight.mul_(2);
  }
  expect_usage_error([&] { sum(pooled).backward(); }, "linear (bert.encoder.layer.1.intermediate");
}

TEST(InitWeights, IsAFunctionOfSeedAndName) {
  nn::BertConfig config = testing::small_config();
  nn::BertForSequenceClassification a(config), b(config), c(config), head_alone(config);
  init_weights(a, 0.02, 7);
  init_weights(b, 0.02, 7);
  init_weights(c, 0.02, 8);
  init_weights(head_alone.classifier, 0.02, 7);
  const ParameterList first = a.named_parameters(), again = b.named_parameters(), other = c.named_parameters();
  for (std::size_t i = 0; i < first.size(); ++i) {
    EXPECT_EQ(values(first[i].tensor), values(again[i].tensor)) << first[i].name;
    if (first[i].tensor.rank() == 2) {
      EXPECT_NE(values(first[i].tensor), values(other[i].tensor)) << first[i].name;
    } else {
      const double constant = first[i].name.ends_with("LayerNorm.weight") ? 1 : 0;
      EXPECT_EQ(values(first[i].tensor), std::vector<double>(values(first[i].tensor).size(), constant))
          << first[i].name;
    }
  }
  EXPECT_EQ(values(a.classifier.weight), values(head_alone.classifier.weight));
  EXPECT_NE(values(a.bert.encoder.layer[0]->attention.self.query.weight),
            values(a.bert.encoder.layer[1]->attention.self.query.weight));
  const std::vector<double> pad = values(a.bert.embeddings.word_embeddings.weight.select(0, config.pad_token_id));
  EXPECT_EQ(pad, std::vector<double>(16, 0.0));
  double squares = 0;
  const std::vector<double> word = values(a.bert.embeddings.word_embeddings.weight);
  for (const double w : word) squares += w * w;
  const double n = 39 * 16;  // the pad row is zero
  EXPECT_NEAR(squares / n, 0.02 * 0.02, 5 * 0.02 * 0.02 * std::sqrt(2 / n));
}

TEST(Layers, RefuseBadProbabilities) {
  for (const double p : {-0.1, 1.0, 1.5, std::nan("")})
    expect_usage_error([&] { nn::Dropout dropout(p); }, "it must lie in [0, 1)");
  const nn::Dropout dropout(0.5);
  expect_usage_error([&] { dropout(Tensor::ones({2, 2})); }, "put StepScope(seed, step) around the forward");
}

}  // namespace
}  // namespace sinter
