#include "core/op.h"

#include <utility>

#include "core/autograd/engine.h"
#include "core/autograd/mode.h"
#include "core/autograd/node.h"
#include "core/low_copy.h"
#include "core/ops/registry.h"
#include "core/row_tracker.h"

namespace sinter {

using autograd::Meta;

bool Forward::needs(std::size_t i) const { return recording_ && inputs_[i].defined() && inputs_[i].requires_grad(); }

void Forward::enter(int branch) const { op_.entered->fetch_or(1u << branch, std::memory_order_relaxed); }

bool Backward::needs(std::size_t i) const { return node_.edges[i].node != nullptr; }

Tensor Backward::saved(std::size_t i) const { return node_.saved[i].unpack(node_, i); }

std::size_t Backward::saved_count() const { return node_.saved.size(); }

void Backward::enter(int branch) const { node_.op->entered->fetch_or(1u << branch, std::memory_order_relaxed); }

namespace {

/// What is a cast of a leaf into the dtype of its 16-bit gradient has that for its own, unless somebody looks at what
/// stands between.
std::optional<GradTarget> low_target(const autograd::Node& cast) {
  const autograd::Node* const leaf = cast.op == &cast_op ? cast.edges[0].node.get() : nullptr;
  if (leaf == nullptr || !leaf->leaf.defined()) return std::nullopt;
  for (const autograd::Node* node : {&cast, leaf})
    if (!node->tensor_hooks.empty() || !node->pre_hooks.empty() || !node->post_hooks.empty()) return std::nullopt;
  const Meta& meta = leaf->leaf.ensure_meta();
  LowCopy* const low = meta.low.get();
  if (low == nullptr || !low->grad.defined() || low->grad.dtype() != cast.outputs[0].options.dtype) return std::nullopt;
  if (!meta.leaf_hooks.empty()) return std::nullopt;
  return GradTarget{low->grad, !std::exchange(low->grad_stale, false), nullptr};
}

}  // namespace

std::optional<GradTarget> Backward::target(std::size_t i) const {
  const std::optional<GradTarget> found = target_of_rows(i);
  if (found && found->rows != nullptr) found->rows->mark_all();
  return found;
}

std::optional<GradTarget> Backward::target_of_rows(std::size_t i) const {
  if (create_graph_ || !autograd::accumulates_into_leaves() || autograd::AnomalyGuard::active()) return std::nullopt;
  const autograd::Node* next = node_.edges[i].node.get();
  if (next == nullptr || !node_.post_hooks.empty()) return std::nullopt;
  if (!next->leaf.defined()) return low_target(*next);
  if (!next->pre_hooks.empty()) return std::nullopt;
  Meta& meta = next->leaf.ensure_meta();
  if (!meta.grad_pinned || !meta.leaf_hooks.empty()) return std::nullopt;
  const bool accumulate = !meta.grad_stale;
  meta.grad_stale = false;
  return GradTarget{meta.grad, accumulate, meta.rows.get()};
}

kernels::Cost default_cost(Inputs in) {
  double bytes = 0;
  for (const Tensor& tensor : in)
    if (tensor.defined()) bytes += static_cast<double>(tensor.numel()) * static_cast<double>(size_of(tensor.dtype()));
  return {bytes, 0, 0};
}

Tensors run_op(const OpRow& op, const void* attrs, Inputs inputs) {
  const bool recording = op.backward != nullptr && autograd::should_record(inputs);
  if (recording && op.twin != nullptr && autograd::SecondOrderGuard::active()) return op.twin(attrs, inputs);
  Forward ctx(op, inputs, recording);
  Tensors outputs;
  {
    const NoGradGuard guard;
    const autograd::OpScope scope(op.name);
    outputs = op.forward(ctx, attrs, inputs);
  }
  if (recording) autograd::record(op, op.keep(attrs), inputs, ctx.saved_tensors(), outputs);
  return outputs;
}

}  // namespace sinter
