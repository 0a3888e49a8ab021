#include "core/autograd/engine.h"

#include <algorithm>
#include <queue>
#include <unordered_map>
#include <utility>

#include "core/autograd/mode.h"
#include "core/autograd/node.h"
#include "core/error.h"
#include "core/ops/elementwise.h"
#include "core/ops/reduce.h"
#include "core/row_tracker.h"

namespace sinter::autograd {
namespace {

thread_local bool t_accumulates = false;
thread_local int t_depth = 0;
thread_local LeafReadyHook t_leaf_ready;

/// Sum of two contributions to one gradient. In place only where nobody else can see the memory.
Tensor sum(Tensor a, const Tensor& b, bool create_graph) {
  if (!create_graph && a.uniquely_owned() && a.is_contiguous()) {
    a.add_(b);
    return a;
  }
  return add(a, b);
}

void accumulate_into_leaf(const Tensor& leaf, const Tensor& gradient, bool create_graph) {
  Meta& meta = leaf.ensure_meta();
  if (!meta.grad.defined()) {
    meta.grad =
        create_graph ? gradient : (gradient.uniquely_owned() && gradient.is_contiguous() ? gradient : gradient.clone());
  } else if (meta.grad_pinned) {
    if (create_graph)
      fail(ErrorCode::unsupported, "create_graph cannot accumulate into a gradient that lives in a flat buffer; use "
                                   "autograd::grad, which returns the gradients");
    const NoGradGuard guard;
    if (meta.grad_stale) {
      meta.grad.copy_(gradient);
    } else {
      meta.grad.add_(gradient);
    }
    meta.grad_stale = false;
    if (meta.rows != nullptr) meta.rows->mark_all();
  } else if (create_graph || meta.grad.requires_grad()) {
    meta.grad = add(meta.grad, gradient);
  } else {
    const NoGradGuard guard;
    meta.grad.add_(gradient);
  }
}

struct DepthScope {
  DepthScope() { ++t_depth; }
  ~DepthScope() { --t_depth; }
  DepthScope(const DepthScope&) = delete;
  DepthScope& operator=(const DepthScope&) = delete;
};

/// One backward pass: the gradients in flight and the order of the nodes.
class Pass {
 public:
  Pass(BackwardOptions options, bool accumulate) : options_(options), accumulate_(accumulate) {
    options_.retain_graph |= options_.create_graph;
  }

  void add_root(const Edge& edge, const Tensor& gradient) {
    if (edge.node == nullptr) return;
    deposit(edge, gradient);
    roots_.push_back(edge.node);
  }

  /// Returns the gradient that arrives at this edge instead of (grad()) or besides passing it on.
  void capture(const Edge& edge, Tensor* result) { captures_[edge.node.get()].push_back({edge.input_nr, result}); }

  void run() {
    const BackwardScope scope;
    const DepthScope depth;
    count_dependencies();
    std::sort(roots_.begin(), roots_.end());
    roots_.erase(std::unique(roots_.begin(), roots_.end()), roots_.end());
    for (const std::shared_ptr<Node>& root : roots_)
      if (states_[root.get()].pending == 0) ready_.push(root);
    while (!ready_.empty()) {
      const std::shared_ptr<Node> node = ready_.top();
      ready_.pop();
      Tensors gradients = std::move(states_[node.get()].gradients);
      states_.erase(node.get());
      visit(*node, gradients);
      for (const Edge& edge : node->edges)
        if (edge.node != nullptr && --states_[edge.node.get()].pending == 0) ready_.push(edge.node);
    }
  }

 private:
  struct State {
    int pending = 0;
    Tensors gradients;
  };
  struct Capture {
    int output_nr;
    Tensor* result;
  };
  struct LaterFirst {
    bool operator()(const std::shared_ptr<Node>& a, const std::shared_ptr<Node>& b) const { return a->seq < b->seq; }
  };

  void count_dependencies() {
    std::unordered_map<Node*, bool> seen;
    std::vector<Node*> stack;
    for (const std::shared_ptr<Node>& root : roots_)
      if (!std::exchange(seen[root.get()], true)) stack.push_back(root.get());
    while (!stack.empty()) {
      Node* node = stack.back();
      stack.pop_back();
      for (const Edge& edge : node->edges) {
        if (edge.node == nullptr) continue;
        ++states_[edge.node.get()].pending;
        if (!std::exchange(seen[edge.node.get()], true)) stack.push_back(edge.node.get());
      }
    }
  }

  void deposit(const Edge& edge, Tensor gradient) {
    Tensors& slots = states_[edge.node.get()].gradients;
    slots.resize(edge.node->outputs.size());
    Tensor& slot = slots[static_cast<std::size_t>(edge.input_nr)];
    slot = slot.defined() ? sum(std::move(slot), gradient, options_.create_graph) : std::move(gradient);
  }

  void visit(Node& node, Tensors& gradients) {
    gradients.resize(node.outputs.size());
    const bool is_leaf = node.leaf.defined();
    const std::vector<TensorHook>& hooks = is_leaf ? node.leaf.ensure_meta().leaf_hooks : node.tensor_hooks;
    for (const TensorHook& hook : std::vector<TensorHook>(hooks)) {
      Tensor& gradient = gradients[static_cast<std::size_t>(hook.output_nr)];
      if (!gradient.defined()) continue;
      if (Tensor replaced = hook.call(gradient); replaced.defined()) gradient = std::move(replaced);
    }
    if (const auto found = captures_.find(&node); found != captures_.end())
      for (const Capture& capture : found->second)
        *capture.result = gradients[static_cast<std::size_t>(capture.output_nr)];
    for (const auto& hook : node.pre_hooks) hook(node, gradients);
    if (is_leaf) {
      if (!accumulate_) return;
      if (gradients[0].defined())
        accumulate_into_leaf(node.leaf, std::exchange(gradients[0], {}), options_.create_graph);
      if (t_leaf_ready) t_leaf_ready(node.leaf);
      return;
    }
    const bool any = std::any_of(gradients.begin(), gradients.end(), [](const Tensor& g) { return g.defined(); });
    if (any) differentiate(node, gradients);
    if (!options_.retain_graph) node.release_saved();
  }

  void differentiate(Node& node, Tensors& gradients) {
    for (std::size_t i = 0; i < gradients.size(); ++i)
      if (!gradients[i].defined()) gradients[i] = Tensor::zeros(node.outputs[i].shape, node.outputs[i].options);
    if (options_.create_graph && !node.op->flags.second_order)
      fail(ErrorCode::unsupported, node.describe(), " cannot be differentiated twice",
           node.op->twin != nullptr
               ? "; set autograd::SecondOrderGuard before the forward, so that its composed twin runs"
               : "");
    Tensors results;
    {
      const GradModeGuard mode(options_.create_graph);
      const ModuleScope scope(node.module_path);
      const OpScope op(node.op->name);
      Backward ctx(node, options_.create_graph);
      results = node.op->backward(ctx, node.attrs.get(), gradients);
    }
    if (results.size() != node.edges.size())
      fail(ErrorCode::internal, node.describe(), ": backward returned ", results.size(), " gradients for ",
           node.edges.size(), " inputs");
    for (const auto& hook : node.post_hooks) hook(node, results, gradients);
    for (std::size_t i = 0; i < results.size(); ++i) {
      const Edge& edge = node.edges[i];
      if (edge.node == nullptr || !results[i].defined()) continue;
      const OutputInfo& expected = edge.node->outputs[static_cast<std::size_t>(edge.input_nr)];
      if (results[i].shape() != expected.shape || results[i].dtype() != expected.options.dtype)
        fail(ErrorCode::internal, node.describe(), ": the gradient of input ", i, " is ", name(results[i].dtype()), " ",
             results[i].shape(), ", the input is ", name(expected.options.dtype), " ", expected.shape);
      if (AnomalyGuard::active()) check_finite(node, i, results[i]);
      deposit(edge, std::move(results[i]));
    }
  }

  static void check_finite(const Node& node, std::size_t input, const Tensor& gradient) {
    const NoGradGuard guard;
    // 0 * x is 0 for finite x and NaN otherwise.
    const double probe = sinter::sum(mul(gradient.to(kernels::computed_dtype(gradient.dtype())), 0.0)).item();
    if (probe == 0) return;
    fail(ErrorCode::usage, "the backward of ", node.describe(), " (node ", node.seq, ") gave a gradient of input ",
         input, " ", gradient.shape(), " that is not finite");
  }

  BackwardOptions options_;
  bool accumulate_;
  std::vector<std::shared_ptr<Node>> roots_;
  std::unordered_map<Node*, State> states_;
  std::unordered_map<Node*, std::vector<Capture>> captures_;
  std::priority_queue<std::shared_ptr<Node>, std::vector<std::shared_ptr<Node>>, LaterFirst> ready_;
};

class AccumulateScope {
 public:
  explicit AccumulateScope(bool on) : before_(std::exchange(t_accumulates, on)) {}
  ~AccumulateScope() { t_accumulates = before_; }
  AccumulateScope(const AccumulateScope&) = delete;
  AccumulateScope& operator=(const AccumulateScope&) = delete;

 private:
  bool before_;
};

void add_roots(Pass& pass, Inputs roots, Inputs gradients) {
  if (!gradients.empty() && gradients.size() != roots.size())
    fail(ErrorCode::usage, "backward got ", gradients.size(), " gradients for ", roots.size(), " tensors");
  for (std::size_t i = 0; i < roots.size(); ++i) {
    if (!roots[i].requires_grad())
      fail(ErrorCode::usage, "backward of a tensor ", roots[i].shape(),
           " that does not require grad: nothing that requires "
           "grad went into it, or it was computed inside NoGradGuard");
    Tensor gradient = i < gradients.size() ? gradients[i] : Tensor();
    if (!gradient.defined()) {
      if (roots[i].numel() != 1)
        fail(ErrorCode::usage, "backward of a tensor ", roots[i].shape(),
             " needs a gradient of that shape; only a tensor of "
             "one element has the default of 1");
      gradient = Tensor::ones(roots[i].shape(), roots[i].options());
    } else if (gradient.shape() != roots[i].shape() || gradient.dtype() != roots[i].dtype()) {
      fail(ErrorCode::usage, "backward got a gradient ", name(gradient.dtype()), " ", gradient.shape(),
           " for a tensor ", name(roots[i].dtype()), " ", roots[i].shape());
    }
    pass.add_root(gradient_edge(roots[i]), gradient);
  }
}

}  // namespace

bool accumulates_into_leaves() { return t_accumulates; }

int backward_depth() { return t_depth; }

void set_leaf_ready_hook(LeafReadyHook hook) { t_leaf_ready = std::move(hook); }

void backward(Inputs roots, Inputs gradients, BackwardOptions options) {
  const AccumulateScope scope(true);
  Pass pass(options, true);
  add_roots(pass, roots, gradients);
  pass.run();
}

Tensors grad(Inputs outputs, Inputs inputs, Inputs gradients, BackwardOptions options, bool allow_unused) {
  const AccumulateScope scope(false);
  Pass pass(options, false);
  Tensors results(inputs.size());
  std::vector<Edge> keep;  // a leaf that nobody recorded has no other owner of its node
  for (std::size_t i = 0; i < inputs.size(); ++i) {
    if (!inputs[i].requires_grad()) fail(ErrorCode::usage, "grad: input ", i, " does not require grad");
    keep.push_back(gradient_edge(inputs[i]));
    pass.capture(keep.back(), &results[i]);
  }
  add_roots(pass, outputs, gradients);
  pass.run();
  for (std::size_t i = 0; i < results.size(); ++i)
    if (!results[i].defined() && !allow_unused)
      fail(ErrorCode::usage, "grad: input ", i, " ", inputs[i].shape(), " does not contribute to the outputs; pass "
                             "allow_unused to get an undefined gradient for it");
  return results;
}

}  // namespace sinter::autograd
