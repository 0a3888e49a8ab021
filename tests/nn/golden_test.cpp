// sinter against torch and transformers (tests/golden/README.md): the forward, every gradient, and 20 training steps.
#include "core/ops/elementwise.h"
#include "nn/pretrained.h"
#include "optim/clip.h"
#include "optim/adamw.h"
#include "optim/groups.h"
#include "optim/schedule.h"
#include "tests/nn/golden.h"

namespace sinter {
namespace {

using testing::golden_folder;
using testing::read_batch;
using testing::read_tensor;
using testing::relative_error;

class Golden : public ::testing::TestWithParam<const char*> {
 protected:
  std::filesystem::path folder_ = golden_folder(GetParam());
  Json facts_ = Json::load(folder_ / "golden.json");
  SafetensorsFile inputs_{folder_ / "inputs.safetensors"};

  std::shared_ptr<nn::BertForSequenceClassification> model(Dtype dtype) const {
    auto loaded = nn::AutoModelForSequenceClassification::from_pretrained(folder_);
    loaded->to(dtype);
    return loaded;
  }
};

/// Its true gradient is zero: softmax does not see what all keys of a query share. Only rounding is left of it.
bool is_key_bias(const std::string& name) { return name.ends_with("attention.self.key.bias"); }

void expect_first_batch(const nn::BertForSequenceClassification& model, const SafetensorsFile& inputs,
                        const SafetensorsFile& outputs, double loss, double tolerance) {
  nn::BertInputs batch = read_batch(inputs, "");
  batch.output_hidden_states = true;
  const nn::BertOutput output = model(batch);
  EXPECT_NEAR(output.loss.item(), loss, tolerance * loss);
  EXPECT_LE(relative_error(output.logits, read_tensor(outputs, "logits")), tolerance) << "logits";
  // HF computes padded rows too, where sinter has zeros: only real tokens count.
  const Tensor mask = batch.attention_mask.to(output.logits.dtype()).unsqueeze(2);
  for (std::size_t i = 0; i < output.hidden_states.size(); ++i) {
    const NoGradGuard guard;
    const Tensor expected = read_tensor(outputs, "hidden_states." + std::to_string(i)) * mask;
    EXPECT_LE(relative_error(output.hidden_states[i], expected), tolerance) << "hidden_states." << i;
  }
  output.loss.backward();
  double scale = 0;
  for (const Parameter& p : model.named_parameters())
    scale = std::max(scale, testing::largest(testing::values(p.tensor.grad())));
  for (const Parameter& p : model.named_parameters()) {
    if (is_key_bias(p.name)) {
      EXPECT_LE(testing::largest(testing::values(p.tensor.grad())), tolerance * scale) << p.name;
    } else {
      EXPECT_LE(relative_error(p.tensor.grad(), read_tensor(outputs, "grad." + p.name)), tolerance) << p.name;
    }
  }
}

TEST_P(Golden, FirstBatchInF64) {
  expect_first_batch(*model(Dtype::f64), inputs_, SafetensorsFile(folder_ / "outputs_f64.safetensors"),
                     facts_.at("f64").get<double>("loss"), 1e-9);
}

TEST_P(Golden, FirstBatchInF32) {
  expect_first_batch(*model(Dtype::f32), inputs_, SafetensorsFile(folder_ / "outputs_f32.safetensors"),
                     facts_.at("f32").get<double>("loss"), 1e-5);
}

/// 20 steps of HF's Trainer: AdamW with decay groups, linear warm-up over 5 of 20 steps, clipping at 1.
void train(nn::BertForSequenceClassification& model, const SafetensorsFile& inputs, const Json& expected,
           double tolerance) {
  const auto peak = expected.get<double>("learning_rate");
  optim::AdamW optimizer(optim::decay_groups(model.named_parameters(), 0.01), {.lr = peak});
  const optim::Schedule schedule = optim::get_scheduler("linear", 5, 20);
  for (int step = 0; step < 20; ++step) {
    char prefix[16];
    std::snprintf(prefix, sizeof(prefix), "step%02d.", step);
    const nn::BertOutput output = model(read_batch(inputs, prefix));
    optimizer.zero_grad();
    output.loss.backward();
    const optim::GradNorm norm = optim::clip_grad_norm(optimizer.parameters(), 1.0);
    optimizer.set_lr(peak * schedule.factor(step));
    const auto fact = [&](const char* name) {
      return expected.at("train").at(name).elements()[static_cast<std::size_t>(step)].as<double>();
    };
    EXPECT_NEAR(optimizer.lr(), fact("learning_rate"), 1e-12) << "step " << step;
    EXPECT_NEAR(output.loss.item(), fact("loss"), tolerance * std::max(1.0, fact("loss"))) << "step " << step;
    EXPECT_NEAR(norm.norm, fact("grad_norm"), 20 * tolerance * fact("grad_norm")) << "step " << step;
    optimizer.step(norm.coefficient);
  }
}

TEST_P(Golden, TwentyStepsInF64) {
  const auto trained = model(Dtype::f64);
  train(*trained, inputs_, facts_.at("f64"), 1e-9);
  const SafetensorsFile expected(folder_ / "trained_f64.safetensors");
  for (const Parameter& p : trained->named_parameters()) {
    if (is_key_bias(p.name)) {  // AdamW turns the rounding of a zero gradient into steps of up to lr each
      EXPECT_LE(testing::largest(testing::values(p.tensor)),
                testing::largest(testing::values(read_tensor(expected, p.name))) + 20 * 1e-2)
          << p.name;
    } else {
      EXPECT_LE(relative_error(p.tensor, read_tensor(expected, p.name)), 1e-9) << p.name;
    }
  }
}

TEST_P(Golden, TwentyLossesInF32) {
  const auto trained = model(Dtype::f32);
  train(*trained, inputs_, facts_.at("f32"), 1e-5);
}

TEST_P(Golden, PackedEqualsPadded) {
  for (const Dtype dtype : {Dtype::f32, Dtype::f64}) {
    const auto padded = model(dtype), packed = model(dtype);
    const nn::BertInputs grid = read_batch(inputs_, "");
    const nn::BertOutput from_grid = (*padded)(grid);
    const std::int64_t batch = grid.input_ids.size(0), length = grid.input_ids.size(1);
    const auto ids = grid.input_ids.to_vector<std::int64_t>(), types = grid.token_type_ids.to_vector<std::int64_t>();
    const auto mask = grid.attention_mask.to_vector<std::int64_t>();
    std::vector<std::int64_t> flat_ids, flat_types, lengths(static_cast<std::size_t>(batch), 0);
    for (std::size_t i = 0; i < ids.size(); ++i) {
      if (mask[i] == 0) continue;
      flat_ids.push_back(ids[i]);
      flat_types.push_back(types[i]);
      ++lengths[i / static_cast<std::size_t>(length)];
    }
    nn::BertInputs flat;
    flat.packing = Packing::packed(lengths);
    flat.input_ids = Tensor::from(flat_ids, {flat.packing->tokens});
    flat.token_type_ids = Tensor::from(flat_types, {flat.packing->tokens});
    flat.labels = grid.labels;
    const nn::BertOutput from_flat = (*packed)(flat);
    EXPECT_LE(relative_error(from_flat.logits, from_grid.logits), 1e-6);
    // The padded path proper: every sequence S rows with a key mask, which a mask with holes takes.
    nn::BertInputs masked;
    masked.packing = Packing::padded(grid.attention_mask);
    masked.input_ids = grid.input_ids.reshape({-1});
    masked.token_type_ids = grid.token_type_ids.reshape({-1});
    masked.labels = grid.labels;
    const auto with_mask = model(dtype);
    const nn::BertOutput from_masked = (*with_mask)(masked);
    EXPECT_LE(relative_error(from_masked.logits, from_flat.logits), 1e-6);
    from_flat.loss.backward();
    from_masked.loss.backward();
    const ParameterList a = packed->named_parameters(), b = with_mask->named_parameters();
    for (std::size_t i = 0; i < a.size(); ++i)
      if (!is_key_bias(a[i].name)) {
        EXPECT_LE(relative_error(a[i].tensor.grad(), b[i].tensor.grad()), 4e-6) << a[i].name;
      }
  }
}

INSTANTIATE_TEST_SUITE_P(Models, Golden, ::testing::Values("tiny_bert", "odd_bert"),
                         [](const auto& param) { return std::string(param.param); });

}  // namespace
}  // namespace sinter
