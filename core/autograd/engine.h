// Walking the graph backwards.
#pragma once

#include <functional>

#include "core/tensor.h"

namespace sinter::autograd {

/// With create_graph, backward leaves a cycle (leaf, its grad, the recorded graph, leaf) that only zero_grad breaks, as
/// in torch; grad() leaves none.
struct BackwardOptions {
  bool retain_graph = false;   ///< keep saved tensors, so that backward can run again
  bool create_graph = false;   ///< record the backward itself (second order); implies retain_graph
};

/// Adds d(sum_i <roots[i], gradients[i]>) / d leaf to the grad of every leaf. An undefined gradient means 1 and needs a
/// one-element root. Iterative; nodes run in descending order of creation, so the order of every sum is fixed.
void backward(Inputs roots, Inputs gradients = {}, BackwardOptions options = {});

/// The same derivatives with respect to `inputs`, returned instead of accumulated; undefined where an input does not
/// contribute, which is an error unless `allow_unused`.
Tensors grad(Inputs outputs, Inputs inputs, Inputs gradients = {}, BackwardOptions options = {},
             bool allow_unused = false);

/// True while the backward pass of the calling thread adds into the leaves' grad (and not inside grad()).
bool accumulates_into_leaves();

/// Backward passes that the calling thread is in: 1, and one more inside each checkpoint that is computed again.
int backward_depth();

/// Called once for each leaf whose gradient is complete for this backward pass, in the order of completion, on the
/// thread that runs backward. Data parallelism overlaps its all-reduce with it. Undefined to remove. A leaf that is
/// used inside a checkpoint (core/autograd/checkpoint.h) and outside of it, or in two of them, is reported by each,
/// before the last.
using LeafReadyHook = std::function<void(const Tensor& leaf)>;
void set_leaf_ready_hook(LeafReadyHook hook);

}  // namespace sinter::autograd
