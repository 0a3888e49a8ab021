// What BertForSequenceClassification does with its inputs: masks, positions, losses, dropout, hooks.
#include "nn/bert.h"

#include <gtest/gtest.h>

#include <cmath>
#include <functional>

#include "core/log.h"
#include "tests/core/expect_error.h"
#include "tests/nn/bert_reference.h"
#include "tests/nn/golden.h"
#include "tests/nn/small_bert.h"

namespace sinter {
namespace {

using testing::BertReference;
using testing::expect_error;
using testing::expect_usage_error;
using testing::grid;
using testing::random_ids;
using testing::relative_error;
using testing::small_bert;
using testing::small_config;

// f64: a forward is about 200 roundings deep, with sums of at most 24 products between them.
constexpr double kClose = 200 * 24 * 0x1p-53;

nn::BertInputs batch(const Tensor& ids, const Tensor& mask = {}) {
  nn::BertInputs inputs;
  inputs.input_ids = ids;
  inputs.attention_mask = mask;
  return inputs;
}

Tensor positions(std::int64_t rows, std::int64_t length) {
  return Tensor::arange(length).expand({rows, length}).contiguous();
}

Tensor ones(const Shape& shape) { return Tensor::ones(shape, {Dtype::i64}); }

TEST(Bert, MasksWithHolesTakeThePaddedPath) {
  const auto model = small_bert(small_config(), Dtype::f64);
  const Tensor ids = random_ids({3, 5}), types = grid({0, 0, 1, 1, 1, 0, 1, 0, 1, 0, 0, 0, 0, 0, 0}, 3);
  // A hole, a left pad whose row is pooled all the same, and no pad.
  const Tensor mask = grid({1, 0, 1, 1, 0, 0, 1, 1, 1, 1, 1, 1, 1, 1, 1}, 3);
  nn::BertInputs inputs = batch(ids, mask);
  inputs.token_type_ids = types;
  inputs.output_hidden_states = true;
  const nn::BertOutput output = (*model)(inputs);
  EXPECT_LE(relative_error(output.logits, BertReference(*model).logits(ids, types, positions(3, 5), mask)), kClose);
  ASSERT_EQ(output.hidden_states.size(), 3u);
  EXPECT_EQ(output.hidden_states[2].shape(), Shape({3, 5, 16}));
  // The first sample again, without the ignored tokens but with the places that the others have.
  nn::BertInputs packed;
  packed.packing = Packing::packed({3});
  const auto kept = [](const Tensor& x) {
    return index_select(x.select(0, 0), 0, Tensor::from<std::int64_t>({0, 2, 3}));
  };
  packed.input_ids = kept(ids);
  packed.token_type_ids = kept(types);
  packed.position_ids = Tensor::from<std::int64_t>({0, 2, 3});
  EXPECT_LE(relative_error((*model)(packed).logits, output.logits.narrow(0, 0, 1)), kClose);
}

TEST(Bert, PrefixMasksAreDroppedAndOutputsPaddedAgain) {
  const auto model = small_bert(small_config(), Dtype::f64);
  const Tensor ids = random_ids({2, 7}), mask = grid({1, 1, 1, 0, 0, 0, 0, 1, 1, 1, 1, 1, 1, 0}, 2);
  nn::BertInputs inputs = batch(ids, mask);
  inputs.output_hidden_states = true;
  const nn::BertOutput output = (*model)(inputs);
  const Tensor types = Tensor::zeros({2, 7}, {Dtype::i64});
  EXPECT_LE(relative_error(output.logits, BertReference(*model).logits(ids, types, positions(2, 7), mask)), kClose);
  for (const Tensor& state : output.hidden_states) {
    ASSERT_EQ(state.shape(), Shape({2, 7, 16}));
    EXPECT_EQ(testing::largest(testing::values(state.select(0, 0).narrow(0, 3, 4))), 0);
    EXPECT_GT(testing::largest(testing::values(state.select(0, 0).narrow(0, 2, 1))), 0);
  }
  // Without a mask every token counts.
  EXPECT_EQ(testing::values((*model)(batch(ids)).logits), testing::values((*model)(batch(ids, ones({2, 7}))).logits));
}

TEST(Bert, PositionsMayBeGiven) {
  const auto model = small_bert(small_config(), Dtype::f64);
  const Tensor ids = random_ids({2, 3}), types = Tensor::zeros({2, 3}, {Dtype::i64});
  nn::BertInputs inputs = batch(ids);
  inputs.position_ids = grid({4, 11, 0, 1, 1, 2}, 2);
  EXPECT_LE(relative_error((*model)(inputs).logits,
                           BertReference(*model).logits(ids, types, inputs.position_ids, ones({2, 3}))),
            kClose);
}

TEST(Bert, SaysOnceThatAMaskIsSlow) {
  std::vector<std::string> said;
  set_log_sink([&](const std::string& sentence) { said.push_back(sentence); });
  const auto model = small_bert();
  for (int i = 0; i < 2; ++i) (*model)(batch(random_ids({1, 3}), grid({1, 0, 1}, 1)));
  set_log_sink({});
  EXPECT_LE(said.size(), 1u);  // another test of this program may have been the first
  for (const std::string& sentence : said) EXPECT_NE(sentence.find("a 0 before a 1"), std::string::npos) << sentence;
}

TEST(Bert, RefusesBadInputs) {
  const auto model = small_bert();
  const Tensor ids = random_ids({2, 3});
  const auto expect = [&](const nn::BertInputs& inputs, const std::string& says) {
    expect_usage_error([&] { (*model)(inputs); }, says);
  };
  expect(batch(ids, grid({1, 1, 0, 0, 0, 0}, 2)),
         "attention_mask keeps no token of sample 1; every sample needs at least one");
  expect(batch(ids, grid({1, 2, 0, 1, 1, 1}, 2)), "attention_mask [0, 1] is 2, it must be 0 or 1");
  expect(batch(ids, grid({1, 1, 1, 1, 1, -1}, 2)), "attention_mask [1, 2] is -1");
  expect(batch(ids, ones({2, 4})), "attention_mask is i64 [2, 4], it must be i64 [2, 3] as input_ids are");
  expect(batch(ids, Tensor::ones({2, 3})), "attention_mask is f32 [2, 3], it must be i64");
  expect(batch(ids.to(Dtype::i32)), "input_ids is i32");
  expect(batch(ids.reshape({6})), "input_ids are [6], they must be [B, S], or [T] with a packing");
  expect(batch(Tensor::ones({2, 0}, {Dtype::i64})), "sequence 0 is empty");
  expect(batch(random_ids({1, 13})),
         "a sequence has 13 tokens, the model has 12 positions; truncate with max_length = 12");
  expect(batch(grid({1, 40, 2}, 1)), "40");
  expect(batch(grid({1, -1, 2}, 1)), "-1");
  nn::BertInputs inputs = batch(ids);
  inputs.token_type_ids = grid({0, 0, 0, 0, 2, 0}, 2);
  expect(inputs, "2");
  inputs = batch(ids);
  inputs.position_ids = grid({0, 1, 12, 0, 1, 2}, 2);
  expect(inputs, "12");
  inputs = batch(random_ids({5}));
  inputs.packing = Packing::packed({2, 3});
  (*model)(inputs);
  inputs.packing = Packing::packed({2, 0, 3});
  expect(inputs, "sequence 1 is empty; it needs at least one token to pool");
  inputs.packing = Packing::packed({2, 4});
  expect(inputs, "input_ids is i64 [5], it must be i64 [6]");
  inputs = batch(ids);
  inputs.labels = Tensor::from<std::int64_t>({0, 2});
  expect(inputs, "2");
}

TEST(Bert, HiddenActivations) {
  for (const char* activation : {"gelu", "gelu_new", "relu", "silu"}) {
    nn::BertConfig config = small_config();
    config.hidden_act = activation;
    const auto model = small_bert(config, Dtype::f64);
    const Tensor ids = random_ids({3, 6}), types = Tensor::zeros({3, 6}, {Dtype::i64});
    EXPECT_LE(relative_error((*model)(batch(ids)).logits,
                             BertReference(*model).logits(ids, types, positions(3, 6), ones({3, 6}))),
              kClose)
        << activation;
  }
}

struct LossCase {
  std::string problem_type;
  std::int64_t num_labels;
  Tensor labels;
  std::function<double(double x, double y)> term;  ///< loss of one number
};

TEST(Bert, RegressionAndMultiLabelLosses) {
  const auto square = [](double x, double y) { return (x - y) * (x - y); };
  const auto cross_entropy = [](double x, double y) {
    const double p = 1 / (1 + std::exp(-x));
    return -(y * std::log(p) + (1 - y) * std::log(1 - p));
  };
  const LossCase cases[] = {
      {"", 1, Tensor::from<double>({0.5, -2, 3}), square},
      {"", 1, Tensor::from<float>({0.5f, -2, 3}), square},
      {"", 1, Tensor::from<std::int64_t>({1, 0, 5}), square},
      {"regression", 3, Tensor::from<double>({0.5, -2, 3, 1, 2, 3, 4, 5, 6}).reshape({3, 3}), square},
      {"", 3, Tensor::from<double>({0, 1, 1, 0, 0, 1, 1, 1, 1}).reshape({3, 3}), cross_entropy},
      {"multi_label_classification", 3, Tensor::from<float>({0, 1, 1, 0, 0, 1, 0.5f, 1, 0}).reshape({3, 3}),
       cross_entropy},
  };
  for (const LossCase& each : cases) {
    nn::BertConfig config = small_config();
    config.problem_type = each.problem_type;
    config.num_labels = each.num_labels;
    const auto model = small_bert(config, Dtype::f64);
    nn::BertInputs inputs = batch(random_ids({3, 4}));
    inputs.labels = each.labels;
    const nn::BertOutput output = (*model)(inputs);
    const std::vector<double> x = testing::values(output.logits), y = testing::values(each.labels);
    double total = 0;
    for (std::size_t i = 0; i < x.size(); ++i) total += each.term(x[i], y[i]);
    const double mean_loss = total / static_cast<double>(x.size());
    EXPECT_NEAR(output.loss.item(), mean_loss, 1e-14 * std::max(1.0, mean_loss)) << each.problem_type;
    // Micro-batches: the sum over samples over the samples of the whole batch.
    inputs.num_items_in_batch = 12;
    EXPECT_NEAR((*model)(inputs).loss.item(), mean_loss * 3 / 12, 1e-14 * std::max(1.0, mean_loss))
        << each.problem_type;
    inputs.labels = Tensor::zeros({3, 1}, {Dtype::f64});
    expect_usage_error([&] { (*model)(inputs); }, "they must be [3");
  }
}

TEST(Bert, SingleLabelLoss) {
  const auto model = small_bert(small_config(), Dtype::f64);
  nn::BertInputs inputs = batch(random_ids({3, 4}));
  inputs.labels = Tensor::from<std::int64_t>({0, 1, 1});
  const nn::BertOutput output = (*model)(inputs);
  const std::vector<double> x = testing::values(output.logits);
  double total = 0;
  for (const auto& [row, label] : {std::pair{0, 0}, std::pair{1, 1}, std::pair{2, 1}}) {
    const double chosen = x[static_cast<std::size_t>(2 * row + label)],
                 other = x[static_cast<std::size_t>(2 * row + 1 - label)];
    total += std::log1p(std::exp(other - chosen));
  }
  EXPECT_NEAR(output.loss.item(), total / 3, 1e-14);
  inputs.num_items_in_batch = 10;
  EXPECT_NEAR((*model)(inputs).loss.item(), total / 10, 1e-14);
}

nn::BertConfig dropping_config() {
  nn::BertConfig config = small_config();
  config.hidden_dropout_prob = 0.25;
  config.attention_probs_dropout_prob = 0.3;
  config.classifier_dropout = 0.5;
  return config;
}

TEST(Bert, DropoutIsTheSamePackedAndPadded) {
  const auto model = small_bert(dropping_config(), Dtype::f64);
  const Tensor ids = random_ids({2, 6}), mask = grid({1, 1, 1, 0, 0, 0, 1, 1, 1, 1, 1, 0}, 2);
  nn::BertInputs padded;
  padded.packing = Packing::padded(mask);
  padded.input_ids = ids.reshape({-1});
  const auto logits = [&](const nn::BertInputs& inputs, std::uint32_t step) {
    const StepScope scope(1, step);
    return (*model)(inputs).logits;
  };
  const Tensor packed = logits(batch(ids, mask), 3);
  EXPECT_LE(relative_error(logits(padded, 3), packed), kClose);
  EXPECT_GT(relative_error(logits(batch(ids, mask), 4), packed), 1e-3);
  model->eval();
  EXPECT_GT(relative_error((*model)(batch(ids, mask)).logits, packed), 1e-3);
}

TEST(Bert, ARowDoesNotDependOnItsBatch) {
  const auto model = small_bert(dropping_config());
  const std::int64_t rows = 5;
  const Tensor ids = random_ids({rows, 9});
  const std::vector<std::int64_t> lengths{9, 2, 7, 1, 4};
  Tensor mask = Tensor::zeros({rows, 9}, {Dtype::i64});
  for (std::int64_t b = 0; b < rows; ++b)
    mask.select(0, b).narrow(0, 0, lengths[static_cast<std::size_t>(b)]).fill_(1);
  for (const bool training : {true, false}) {
    model->train(training);
    const auto logits = [&](std::int64_t first, std::int64_t count) {
      const StepScope scope(1, 2, static_cast<std::uint32_t>(first));
      return testing::values(
          (*model)(batch(ids.narrow(0, first, count).contiguous(), mask.narrow(0, first, count).contiguous())).logits);
    };
    const std::vector<double> whole = logits(0, rows);
    for (std::int64_t b = 0; b < rows; ++b)
      for (const std::int64_t count : {std::int64_t{1}, std::min<std::int64_t>(2, rows - b)}) {
        const std::vector<double> part = logits(b, count);
        EXPECT_TRUE(std::equal(part.begin(), part.end(), whole.begin() + 2 * b))
            << "row " << b << " training " << training;
      }
  }
}

TEST(Bert, HookedModulesRunUnfusedWithEqualValues) {
  const Tensor ids = random_ids({3, 5}), mask = grid({1, 1, 1, 0, 0, 1, 1, 1, 1, 1, 1, 0, 0, 0, 0}, 3);
  nn::BertInputs inputs = batch(ids, mask);
  inputs.labels = Tensor::from<std::int64_t>({0, 1, 1});
  const auto fused = small_bert(dropping_config(), Dtype::f64);
  const auto run = [&](nn::BertForSequenceClassification& model) {
    const StepScope scope(1, 2);
    nn::BertOutput output = model(inputs);
    output.loss.backward();
    return output.logits;
  };
  const Tensor expected = run(*fused);
  std::vector<std::string> names;
  for (const auto& [name, module] : fused->named_modules())
    if (name != "bert.encoder.layer" && !name.ends_with("attention.self.dropout")) names.push_back(name);
  ASSERT_GE(names.size(), 40u);
  for (const std::string& hooked : names) {
    const auto model = small_bert(dropping_config(), Dtype::f64);
    int calls = 0;
    for (const auto& [name, module] : model->named_modules())
      if (name == hooked)
        module->register_forward_hook([&](nn::Module&, Inputs, const Tensor& output) {
          ++calls;
          return output * 1.0;
        });
    EXPECT_LE(relative_error(run(*model), expected), kClose) << hooked;
    EXPECT_EQ(calls, 1) << hooked;
    const ParameterList a = model->named_parameters(), b = fused->named_parameters();
    for (std::size_t i = 0; i < a.size(); ++i)
      if (!a[i].name.ends_with("key.bias")) {  // its gradient is zero but for rounding
        EXPECT_LE(relative_error(a[i].tensor.grad(), b[i].tensor.grad()), 1e-9) << hooked << ": " << a[i].name;
      }
  }
}

TEST(Bert, AHookOnAttentionProbabilitiesIsRefused) {
  const auto model = small_bert();
  model->bert.encoder.layer[1]->attention.self.dropout.register_forward_hook(
      [](nn::Module&, Inputs, const Tensor&) { return Tensor(); });
  expect_error([&] { (*model)(batch(random_ids({1, 3}))); }, ErrorCode::unsupported,
               "bert.encoder.layer.1.attention.self.dropout has a hook");
}

}  // namespace
}  // namespace sinter
