// How an operation is declared, once: a small struct in one file of core/ops, and one word in core/ops/registry.h.
//
//   struct Exp {
//     static constexpr const char* name = "exp";
//     static constexpr OpFlags flags{.second_order = true};
//     struct Attrs {};
//     static Tensors forward(Forward& ctx, const Attrs&, Inputs in);
//     static Tensors backward(Backward& ctx, const Attrs&, Inputs grad);    // absent: not differentiable
//     static Tensors twin(const Attrs&, Inputs in);                         // optional: the same from primitive ops
//     static kernels::Cost cost(const Attrs&, Inputs in);                   // optional: the default moves inputs once
//     static constexpr const char* branches[] = {"contiguous", "strided"};  // optional: what ctx.enter(i) can report
//   };
//   const OpRow exp_op = make_row<Exp>();
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <vector>

#include "core/tensor.h"
#include "kernels/base/status.h"

namespace sinter {

class RowTracker;
struct OpRow;

namespace autograd {
struct Node;
}

struct OpFlags {
  bool second_order = false;    ///< its backward is made of differentiable ops, so create_graph works through it
  bool recompute_cheap = false; ///< bound by memory: cheaper to compute again than to keep
  bool view = false;            ///< its output shares the input's memory
  bool capturable = true;       ///< can be part of a captured step (no host round trip)
};

/// What forward may ask and must say.
class Forward {
 public:
  Forward(const OpRow& op, Inputs inputs, bool recording) : op_(op), inputs_(inputs), recording_(recording) {}

  /// True when a graph is being recorded and input i needs a gradient.
  bool needs(std::size_t i) const;
  bool recording() const { return recording_; }
  /// Keeps tensors for backward, in this order. Does nothing when no graph is recorded.
  void save(std::initializer_list<Tensor> tensors) {
    if (recording_) saved_.insert(saved_.end(), tensors);
  }
  /// Reports which launch branch runs (an index into Op::branches); a test demands that samples enter every one.
  void enter(int branch) const;

  Tensors& saved_tensors() { return saved_; }

 private:
  const OpRow& op_;
  Inputs inputs_;
  bool recording_;
  Tensors saved_;
};

/// Where backward may add a gradient directly, instead of returning it.
struct GradTarget {
  Tensor grad;       ///< contiguous, of the input's shape and dtype
  bool accumulate;   ///< false: the old content is stale, overwrite it
  RowTracker* rows = nullptr;   ///< null: any element may be written; else see Backward::target_of_rows
};

/// What backward may ask.
class Backward {
 public:
  Backward(const autograd::Node& node, bool create_graph) : node_(node), create_graph_(create_graph) {}

  /// True when input i needs a gradient; otherwise an undefined Tensor may stand in its place.
  bool needs(std::size_t i) const;
  /// The i-th tensor that forward saved, its version checked.
  Tensor saved(std::size_t i) const;
  std::size_t saved_count() const;
  /// The gradient buffer of input i, a leaf's in a flat buffer or that of a leaf's cast (LowCopy::grad), where nobody
  /// sees the single contribution. The caller writes or adds the whole product, and returns an undefined Tensor for it.
  std::optional<GradTarget> target(std::size_t i) const;
  /// The same for ops that add to few rows of a table. Where `rows` is not null, the caller marks there what it adds
  /// to.
  std::optional<GradTarget> target_of_rows(std::size_t i) const;
  bool create_graph() const { return create_graph_; }
  void enter(int branch) const;

 private:
  const autograd::Node& node_;
  bool create_graph_;
};

/// The type-erased form of an op: what generic tools (tests, gradcheck, traces, benchmarks) walk over.
struct OpRow {
  const char* name;
  OpFlags flags;
  std::span<const char* const> branches;
  Tensors (*forward)(Forward& ctx, const void* attrs, Inputs in);
  Tensors (*backward)(Backward& ctx, const void* attrs, Inputs grad);   ///< null: not differentiable
  Tensors (*twin)(const void* attrs, Inputs in);                        ///< null: no composed twin
  kernels::Cost (*cost)(const void* attrs, Inputs in);
  std::shared_ptr<const void> (*keep)(const void* attrs);               ///< a copy that lives as long as the node
  std::atomic<std::uint32_t>* entered;                                  ///< bit i: branches[i] ran in this process
};

namespace detail {
template <class Op>
inline std::atomic<std::uint32_t> entered_branches{0};
}

/// Bytes of every input, read once. The cost of ops that give none of their own.
kernels::Cost default_cost(Inputs in);

template <class Op>
constexpr OpRow make_row() {
  using Attrs = typename Op::Attrs;
  OpRow row{Op::name, Op::flags, {}, nullptr, nullptr, nullptr, nullptr, nullptr, &detail::entered_branches<Op>};
  if constexpr (requires { Op::branches; }) row.branches = Op::branches;
  row.forward = [](Forward& ctx, const void* attrs, Inputs in) {
    return Op::forward(ctx, *static_cast<const Attrs*>(attrs), in);
  };
  if constexpr (requires { &Op::backward; })
    row.backward = [](Backward& ctx, const void* attrs, Inputs grad) {
      return Op::backward(ctx, *static_cast<const Attrs*>(attrs), grad);
    };
  if constexpr (requires { &Op::twin; })
    row.twin = [](const void* attrs, Inputs in) { return Op::twin(*static_cast<const Attrs*>(attrs), in); };
  if constexpr (requires { &Op::cost; }) {
    row.cost = [](const void* attrs, Inputs in) { return Op::cost(*static_cast<const Attrs*>(attrs), in); };
  } else {
    row.cost = [](const void*, Inputs in) { return default_cost(in); };
  }
  row.keep = [](const void* attrs) -> std::shared_ptr<const void> {
    return std::make_shared<const Attrs>(*static_cast<const Attrs*>(attrs));
  };
  return row;
}

/// Runs an op: forward without a graph, then one Node when gradients are on and an input needs one. Inside a
/// SecondOrderGuard an op that has a twin runs as that instead.
Tensors run_op(const OpRow& op, const void* attrs, Inputs inputs);

template <class Attrs>
Tensor run_op1(const OpRow& op, const Attrs& attrs, std::initializer_list<Tensor> inputs) {
  return run_op(op, &attrs, Inputs(inputs.begin(), inputs.size())).front();
}

}  // namespace sinter
