// Which parameters decay, on the names and shapes of bert-base-uncased with two labels.
#include "optim/groups.h"

#include <gtest/gtest.h>

namespace sinter::optim {
namespace {

/// 201 parameters. Their tensors are views of one element: only names and shapes matter here.
ParameterList bert_base() {
  const Tensor one = Tensor::zeros({1});
  ParameterList list;
  const auto add = [&](const std::string& name, const Shape& shape) {
    list.push_back(
        {name, one.reshape(shape.rank() == 1 ? Shape{1} : Shape{1, 1}).expand(shape).detach().set_requires_grad()});
  };
  const auto dense = [&](const std::string& name, std::int64_t out, std::int64_t in) {
    add(name + ".weight", {out, in});
    add(name + ".bias", {out});
  };
  const auto norm = [&](const std::string& name) {
    add(name + ".LayerNorm.weight", {768});
    add(name + ".LayerNorm.bias", {768});
  };
  add("bert.embeddings.word_embeddings.weight", {30522, 768});
  add("bert.embeddings.position_embeddings.weight", {512, 768});
  add("bert.embeddings.token_type_embeddings.weight", {2, 768});
  norm("bert.embeddings");
  for (int i = 0; i < 12; ++i) {
    const std::string layer = "bert.encoder.layer." + std::to_string(i);
    for (const char* part : {".query", ".key", ".value"}) dense(layer + ".attention.self" + part, 768, 768);
    dense(layer + ".attention.output.dense", 768, 768);
    norm(layer + ".attention.output");
    dense(layer + ".intermediate.dense", 3072, 768);
    dense(layer + ".output.dense", 768, 3072);
    norm(layer + ".output");
  }
  dense("bert.pooler.dense", 768, 768);
  dense("classifier", 2, 768);
  return list;
}

std::int64_t elements(const ParameterGroup& group) {
  std::int64_t count = 0;
  for (const Parameter& p : group.parameters) count += p.tensor.numel();
  return count;
}

TEST(DecayGroups, BertBase) {
  const ParameterList all = bert_base();
  ASSERT_EQ(all.size(), 201u);
  const std::vector<ParameterGroup> groups = decay_groups(all, 0.01);
  ASSERT_EQ(groups.size(), 2u);
  EXPECT_EQ(groups[0].weight_decay, 0.01);
  EXPECT_EQ(groups[1].weight_decay, 0);
  EXPECT_EQ(groups[0].parameters.size(), 77u);
  EXPECT_EQ(elements(groups[0]), 109361664);
  EXPECT_EQ(groups[1].parameters.size(), 124u);
  EXPECT_EQ(elements(groups[1]), 122114);
  EXPECT_EQ(elements(groups[0]) + elements(groups[1]), 109483778);
  EXPECT_EQ(groups[0].lr_scale, 1);
}

TEST(DecayGroups, FrozenParametersAreLeftOut) {
  ParameterList all = bert_base();
  for (Parameter& p : all)
    if (p.name.starts_with("bert.")) p.tensor.set_requires_grad(false);
  const std::vector<ParameterGroup> groups = decay_groups(all, 0.01);
  ASSERT_EQ(groups[0].parameters.size(), 1u);
  EXPECT_EQ(groups[0].parameters[0].name, "classifier.weight");
  ASSERT_EQ(groups[1].parameters.size(), 1u);
  EXPECT_EQ(groups[1].parameters[0].name, "classifier.bias");
}

TEST(DecayGroups, Names) {
  for (const char* name : {"classifier.weight", "embeddings.word_embeddings.weight", "normal.weight",
                           "weight", "normalizer.weight"})
    EXPECT_TRUE(is_decayed(name)) << name;
  for (const char* name : {"classifier.bias", "bias", "LayerNorm.weight", "x.layernorm.weight", "norm.weight",
                           "a.norm.b.weight", "final_norm.weight", "RMSNorm.weight", "input_layernorm.weight",
                           "relative_attention_bias.weight"})
    EXPECT_FALSE(is_decayed(name)) << name;
}

}  // namespace
}  // namespace sinter::optim
