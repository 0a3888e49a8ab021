#include "core/autograd/checkpoint.h"

#include <optional>

#include "core/autograd/engine.h"
#include "core/autograd/mode.h"
#include "core/autograd/node.h"
#include "core/error.h"
#include "core/random.h"

namespace sinter::autograd {
namespace {

struct CheckpointAttrs {
  std::function<Tensor(Inputs)> fn;
  std::size_t input_count;
  std::optional<StepScope::State> step;
};

Tensors end_here(Backward&, const void*, Inputs) { return {}; }

constexpr OpRow source_row = {"checkpoint_input", {}, {}, nullptr, end_here, nullptr, nullptr, nullptr, nullptr};

/// `value`, needing a gradient without being a leaf: the leaf-ready hook hears of leaves that somebody trains only.
Tensor source(const Tensor& value) {
  Tensors outputs{value};
  record(source_row, nullptr, {}, {}, outputs);
  return outputs[0];
}

Tensors recompute_and_differentiate(Backward& ctx, const void* raw, Inputs grad) {
  const auto& attrs = *static_cast<const CheckpointAttrs*>(raw);
  if (!accumulates_into_leaves())
    fail(ErrorCode::unsupported, "checkpoint inside autograd::grad: its recomputation adds into the leaves' grad; use "
                                 "backward()");
  Tensors inputs;
  for (std::size_t i = 0; i < attrs.input_count; ++i) {
    const Tensor input = ctx.saved(i).detach();
    inputs.push_back(ctx.needs(i) ? source(input) : input);
    if (ctx.needs(i)) inputs.back().retain_grad();
  }
  std::optional<StepScope> scope;
  if (attrs.step) scope.emplace(attrs.step->seed, attrs.step->global_step, attrs.step->first_sample);
  Tensor output;
  {
    const GradModeGuard record_again(true);
    output = attrs.fn(inputs);
  }
  if (output.requires_grad()) backward(Inputs(&output, 1), grad);
  Tensors grads;
  for (std::size_t i = 0; i < attrs.input_count; ++i) grads.push_back(ctx.needs(i) ? inputs[i].grad() : Tensor());
  grads.emplace_back();  // of the anchor
  return grads;
}

constexpr OpRow checkpoint_row = {"checkpoint", {},      {},      nullptr, recompute_and_differentiate,
                                  nullptr,      nullptr, nullptr, nullptr};

}  // namespace

Tensor checkpoint(const std::function<Tensor(Inputs)>& fn, const Tensors& inputs) {
  if (!grad_enabled()) return fn(inputs);
  Tensors outputs;
  {
    const NoGradGuard guard;
    outputs = {fn(inputs)};
  }
  // The parameters inside fn are not among the inputs: an input of its own makes sure that the node is recorded.
  Tensors with_anchor = inputs;
  with_anchor.push_back(source(Tensor::zeros({}, outputs[0].options())));
  auto attrs = std::make_shared<CheckpointAttrs>(CheckpointAttrs{fn, inputs.size(), StepScope::active()});
  record(checkpoint_row, attrs, with_anchor, inputs, outputs);
  return outputs[0];
}

}  // namespace sinter::autograd
