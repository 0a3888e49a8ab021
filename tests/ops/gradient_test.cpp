// What holds for the backward of every op: finite differences, twins, f32 against f64.
#include <gtest/gtest.h>

#include "core/autograd/gradcheck.h"
#include "core/autograd/mode.h"
#include "core/ops/registry.h"
#include "core/runtime/runtime.h"
#include "tests/ops/run_sample.h"

namespace sinter::testing {
namespace {

TEST(EveryBackward, MatchesFiniteDifferences) {
  for (const Sample& sample : all_samples().valid) {
    if (!sample.no_gradcheck.empty() || !differentiable(sample)) continue;
    EXPECT_EQ(autograd::gradcheck(sample.call, leaves_of(sample, Dtype::f64, true)), "") << sample.name();
  }
}

/// Whether the gradient's own gradient is compared with finite differences, whose cost grows with the square of the
/// number of elements.
bool checked_twice(const Sample& sample) {
  const OpRow& op = find_op(sample.op.c_str());
  if (!(op.flags.second_order || op.twin != nullptr) || !sample.no_gradcheck.empty()) return false;
  std::int64_t elements = 0;
  for (const Tensor& input : sample.inputs) elements += input.numel();
  return elements <= 120 && differentiable(sample);
}

TEST(EveryBackward, IsCheckedOrGivesAReason) {
  for (const OpRow* row : all_ops()) {
    if (std::string(row->name) == "to_device" && !Runtime::instance().why_unusable(Device::simt()).empty())
      continue;   // no samples, which EveryOp.HasSamplesAndEverySampleAnOp says
    bool checked = row->backward == nullptr || std::string(row->name) == "cast";  // the forward of a cast rounds
    for (const Sample& sample : all_samples().valid)
      checked = checked || (sample.op == row->name && sample.no_gradcheck.empty() && differentiable(sample));
    EXPECT_TRUE(checked) << row->name << " has no sample that is compared with finite differences";
    bool twice = !(row->flags.second_order || row->twin != nullptr) || std::string(row->name) == "cast";
    for (const Sample& sample : all_samples().valid)
      twice = twice || (sample.op == row->name && checked_twice(sample) && sample.inputs[0].numel() > 0);
    EXPECT_TRUE(twice) << row->name << " has no sample whose second derivative is compared with finite differences";
  }
}

TEST(EveryBackward, OfSecondOrderMatchesFiniteDifferences) {
  for (const Sample& sample : all_samples().valid) {
    if (!checked_twice(sample)) continue;
    EXPECT_EQ(autograd::gradgradcheck(sample.call, leaves_of(sample, Dtype::f64, true)), "") << sample.name();
  }
}

TEST(EveryBackward, RecordedForASecondOrderIsTheSameGradient) {
  for (const Sample& sample : all_samples().valid) {
    if (!find_op(sample.op.c_str()).flags.second_order || !differentiable(sample)) continue;
    const SampleRun plain = run_sample(sample, leaves_of(sample, Dtype::f64, true));
    expect_close(run_recorded(sample, leaves_of(sample, Dtype::f64, true)), plain, 2 * tolerance(sample, Dtype::f64),
                 sample.name() + " with create_graph");
  }
}

TEST(EveryBackward, ATwinComputesTheSame) {
  for (const Sample& sample : all_samples().valid) {
    if (find_op(sample.op.c_str()).twin == nullptr) continue;
    for (const Dtype dtype : {Dtype::f64, Dtype::f32}) {
      const SampleRun fused = run_sample(sample, leaves_of(sample, dtype, true));
      SampleRun composed;
      {
        const autograd::SecondOrderGuard guard;
        for (const Tensor& output : sample.call(leaves_of(sample, dtype, true)))
          ASSERT_EQ(node_of(output, sample.op), nullptr) << sample.name() << " does not run as its twin";
        composed = run_sample(sample, leaves_of(sample, dtype, true));
      }
      // Both round, in another order.
      const double bound = dtype == Dtype::f64 ? 1e-12 : 2 * tolerance(sample, dtype);
      expect_close(composed, fused, bound, sample.name() + " as its twin, " + name(dtype));
    }
  }
}

TEST(EveryBackward, InF32IsNearF64) {
  for (const Sample& sample : all_samples().valid) {
    const Tensors narrow = leaves_of(sample, Dtype::f32, true);
    Tensors wide;
    for (const Tensor& leaf : narrow) wide.push_back(leaf.dtype() == Dtype::f32 ? leaf.detach().to(Dtype::f64) : leaf);
    // The cotangents of the f64 run are rounded to f32 in the other one: one more unit.
    expect_close(run_sample(sample, narrow), run_sample(sample, as_leaves(wide)),
                 tolerance(sample, Dtype::f32) + 0x1p-24,
                 sample.name() + " in f32 against f64");
  }
}

TEST(EveryBackward, SharesAGradientBetweenEqualElements) {
  const auto gradient = [](const char* op, std::size_t input) {
    for (const Sample& sample : all_samples().valid)
      if (sample.op == op && (sample.label == "ties" || sample.label == "zero")) {
        const Tensors leaves = leaves_of(sample, Dtype::f64, true);
        const Tensor y = sample.call(leaves)[0];
        y.backward(Tensor::ones(y.shape(), y.options()));
        return leaves[input].grad().to_vector<double>();
      }
    return std::vector<double>{};
  };
  EXPECT_EQ(gradient("maximum", 0), (std::vector<double>{0.5, 0, 0.5, 1}));
  EXPECT_EQ(gradient("maximum", 1), (std::vector<double>{0.5, 1, 0.5, 0}));
  EXPECT_EQ(gradient("minimum", 0), (std::vector<double>{0.5, 1, 0.5, 0}));
  EXPECT_EQ(gradient("minimum", 1), (std::vector<double>{0.5, 0, 0.5, 1}));
  EXPECT_EQ(gradient("amax", 0), (std::vector<double>{0, 0.5, 0.5, 1.0 / 3, 1.0 / 3, 1.0 / 3}));
  EXPECT_EQ(gradient("amin", 0), (std::vector<double>{1, 0, 0, 0, 0, 0}));
  EXPECT_EQ(gradient("relu", 0), (std::vector<double>{0, 1, 0}));
  EXPECT_EQ(gradient("abs", 0), (std::vector<double>{0, 1, -1}));
}

TEST(EveryBackward, OfAPaddingRowIsZero) {
  for (const Sample& sample : all_samples().valid) {
    if (sample.label != "padding row") continue;
    const Tensors leaves = leaves_of(sample, Dtype::f64, true);
    const HostArray gradient = HostArray::of(run_sample(sample, leaves).gradients[0]);
    double others = 0;
    for (std::int64_t c = 0; c < gradient.size(1); ++c) {
      EXPECT_EQ(gradient.at({0, c}), 0) << sample.name();
      others += std::abs(gradient.at({4, c}));
    }
    EXPECT_GT(others, 0) << sample.name();
  }
}

TEST(EveryBackward, OfACastComesBackInTheInputsDtype) {
  for (const Sample& sample : all_samples().valid) {
    if (sample.op != "cast" || !differentiable(sample)) continue;
    const Tensors leaves = leaves_of(sample, Dtype::f64, true);
    const Tensor y = sample.call(leaves)[0];
    y.backward(Tensor::full(y.shape(), 0.75, y.options()));  // every dtype holds 0.75
    for (const double g : leaves[0].grad().to_vector<double>()) EXPECT_EQ(g, 0.75) << sample.name();
  }
}

}  // namespace
}  // namespace sinter::testing
