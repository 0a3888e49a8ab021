// What the graph around an op may do to it: ask for some gradients only, hand it a strided gradient, write to what it
// was computed from.
#include <gtest/gtest.h>

#include "core/autograd/engine.h"
#include "core/autograd/mode.h"
#include "core/error.h"
#include "core/ops/elementwise.h"
#include "tests/ops/run_sample.h"

namespace sinter::testing {
namespace {

TEST(Graph, AnInputAloneGetsTheGradientThatItGetsAmongAll) {
  for (const Sample& sample : all_samples().valid) {
    const SampleRun full = run_sample(sample, leaves_of(sample, Dtype::f64, true));
    for (std::size_t i = 0; i < sample.inputs.size(); ++i) {
      if (!full.gradients[i].defined()) continue;
      Tensors leaves = leaves_of(sample, Dtype::f64, false);
      leaves[i].set_requires_grad();
      SampleRun wanted{full.outputs, Tensors(leaves.size())};
      wanted.gradients[i] = full.gradients[i];
      expect_same_bits(run_sample(sample, leaves), wanted, sample.name() + ", input " + std::to_string(i) + " alone");
    }
  }
}

TEST(Graph, ATensorThatIsTwoInputsGetsBothGradients) {
  for (const Sample& sample : all_samples().valid)
    for (std::size_t i = 0; i < sample.inputs.size(); ++i)
      for (std::size_t j = i + 1; j < sample.inputs.size(); ++j) {
        const Tensor &a = sample.inputs[i], &b = sample.inputs[j];
        if (a.dtype() != Dtype::f64 || b.dtype() != Dtype::f64 || a.shape() != b.shape()) continue;
        Tensors two = leaves_of(sample, Dtype::f64, true);
        two[j] = two[i].detach().clone().set_requires_grad();
        const SampleRun apart = run_sample(sample, two);
        if (!apart.gradients[i].defined() || !apart.gradients[j].defined()) continue;
        const HostArray expected = HostArray::of(apart.gradients[i] + apart.gradients[j]);
        for (const bool flat : {false, true}) {
          Tensors one = leaves_of(sample, Dtype::f64, true);
          one[j] = one[i];
          if (flat) adopt(one);
          expect_close(HostArray::of(run_sample(sample, one).gradients[i]), expected, 2 * tolerance(sample, Dtype::f64),
                       sample.name() + ": one tensor as inputs " + std::to_string(i) + " and " + std::to_string(j) +
                           (flat ? ", into a flat gradient" : ""));
        }
      }
}

/// The gradients of `leaves` for these cotangents of the outputs that require grad.
SampleRun run_with(const Sample& sample, const Tensors& cotangents) {
  const Tensors leaves = leaves_of(sample, Dtype::f64, true);
  Tensors roots;
  for (const Tensor& output : sample.call(leaves))
    if (output.requires_grad()) roots.push_back(output);
  autograd::backward(roots, cotangents);
  SampleRun run;
  for (const Tensor& leaf : leaves) run.gradients.push_back(leaf.grad());
  return run;
}

TEST(Graph, TheLayoutOfAnIncomingGradientChangesNothing) {
  // The gradient of sum() is one number with strides of 0, that of a transpose is transposed.
  const auto repeated = [](const Tensor& u) { return Tensor::full({}, 0.75, u.options()).expand(u.shape()); };
  const auto transposed = [](const Tensor& u) {
    return u.rank() < 2 ? u : u.transpose(0, -1).contiguous().transpose(0, -1);
  };
  for (const Sample& sample : all_samples().valid) {
    if (!differentiable(sample)) continue;
    const Tensors dense = cotangents_of(sample.call(leaves_of(sample, Dtype::f64, true)));
    for (const bool repeats : {true, false}) {
      Tensors strided, copies;
      for (const Tensor& u : dense) {
        strided.push_back(repeats ? repeated(u) : transposed(u));
        copies.push_back(strided.back().clone());
      }
      const std::string what = sample.name() + (repeats ? ", a repeated gradient" : ", a transposed gradient");
      if (sample.layout_keeps_bits) {
        expect_same_bits(run_with(sample, strided), run_with(sample, copies), what);
      } else {
        expect_close(run_with(sample, strided), run_with(sample, copies), tolerance(sample, Dtype::f64), what);
      }
    }
  }
}

/// Writes ones to an input or an output between forward and backward. The gradients must be those of the values that
/// the forward saw, or backward must refuse.
void overwrite(const Sample& sample, const SampleRun& untouched, bool output, std::size_t index) {
  const std::string what = sample.name() + ": " + (output ? "output " : "input ") + std::to_string(index);
  const Tensors leaves = leaves_of(sample, Dtype::f64, true);
  const Tensors outputs = sample.call(leaves);
  Tensors roots;
  for (const Tensor& y : outputs)
    if (y.requires_grad()) roots.push_back(y);
  (output ? outputs : leaves)[index].detach().fill_(1);
  try {
    autograd::backward(roots, cotangents_of(outputs));
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::usage) << what << ": " << error.what();
    EXPECT_NE(std::string(error.what()).find("last written by fill_"), std::string::npos) << what << ": "
                                                                                           << error.what();
    return;
  }
  for (std::size_t i = 0; i < leaves.size(); ++i)
    EXPECT_TRUE(same_bits(leaves[i].grad(), untouched.gradients[i]))
        << what << " was overwritten after the forward, and the gradient of input " << i << " is silently another one";
}

TEST(Graph, WhatIsOverwrittenBeforeBackwardIsNoticed) {
  for (const Sample& sample : all_samples().valid) {
    if (!differentiable(sample)) continue;
    const SampleRun untouched = run_sample(sample, leaves_of(sample, Dtype::f64, true));
    for (std::size_t i = 0; i < sample.inputs.size(); ++i) overwrite(sample, untouched, false, i);
    for (std::size_t i = 0; i < untouched.outputs.size(); ++i) overwrite(sample, untouched, true, i);
  }
}

}  // namespace
}  // namespace sinter::testing
