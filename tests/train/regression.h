// HF's own test model: y = a x + b, learnt from points around 2 x + 3. Trains in microseconds.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "core/ops/elementwise.h"
#include "core/ops/reduce.h"
#include "tests/train/trainer_fixture.h"

namespace sinter::train {

struct Regression : nn::Module {
  Tensor a, b;
  explicit Regression(double a_0 = 0, double b_0 = 0)
      : a(Tensor::full({1}, a_0).set_requires_grad()), b(Tensor::full({1}, b_0).set_requires_grad()) {
    register_parameter("a", a);
    register_parameter("b", b);
  }
};

/// Columns input_x and labels, real.
inline data::Dataset points(std::int64_t rows = 64) {
  data::Column::Reals x, y;
  std::uint32_t state = 42;
  const auto next = [&] { return (state = state * 1664525u + 1013904223u) / 4294967296.0 - 0.5; };
  for (std::int64_t i = 0; i < rows; ++i) {
    x.push_back(4 * next());
    y.push_back(2 * x.back() + 3 + 0.1 * next());
  }
  return data::Dataset(data::Columns{{"input_x", x}, {"labels", y}});
}

inline Tensor column_of(const LossInputs& inputs, const char* name) {
  std::vector<float> values;
  for (const std::int64_t row : inputs.rows)
    values.push_back(static_cast<float>(inputs.dataset.column(name).reals()[static_cast<std::size_t>(row)]));
  return Tensor::from(values, {static_cast<std::int64_t>(values.size())});
}

/// Squared error; the only output is y [B].
inline ModelOutput regression_loss(nn::Module& module, const LossInputs& inputs) {
  const auto& model = dynamic_cast<const Regression&>(module);
  const Tensor y = column_of(inputs, "input_x") * model.a + model.b;
  const Tensor difference = y - column_of(inputs, "labels");
  return {sum(difference * difference) * (1 / inputs.num_items), {y}};
}

/// Tests by the numbers of reference/hf_trainer.md section 6: TEST_F(HfBehaviour, N07_StepCounts).
class HfBehaviour : public TrainerFixture {
 protected:
  /// 8 updates an epoch, 3 epochs.
  TrainingArguments regression_arguments(const std::string& name = "run") const {
    TrainingArguments args;
    args.output_dir = (folder_ / name).string();
    args.learning_rate = 0.1;
    args.per_device_eval_batch_size = 8;
    args.use_cpu = true;
    args.logging_steps = 5;
    args.save_steps = 5;
    args.save_strategy = "no";
    args.disable_tqdm = true;
    return args;
  }

  static Trainer::Parts regression_parts(const std::shared_ptr<nn::Module>& m, const TrainingArguments& args) {
    return {.model = m,
            .args = args,
            .train_dataset = points(),
            .eval_dataset = points(),
            .compute_metrics = almost_accuracy,
            .compute_loss = regression_loss};
  }

  /// HF's AlmostAccuracy: the share of predictions within 0.25 of their label.
  static Metrics almost_accuracy(const EvalPrediction& prediction) {
    const std::vector<double>& labels = prediction.labels->at("labels").reals();
    double right = 0;
    for (std::size_t i = 0; i < labels.size(); ++i)
      right += std::abs(static_cast<double>(prediction.predictions[i]) - labels[i]) <= 0.25;
    return {{"accuracy", right / static_cast<double>(labels.size())}};
  }

  /// The values of `key` in the log.
  static std::vector<double> logged(const TrainerState& state, const char* key) {
    std::vector<double> values;
    for (const Json& entry : state.log_history)
      if (entry.contains(key)) values.push_back(entry.get<double>(key));
    return values;
  }
};

}  // namespace sinter::train
