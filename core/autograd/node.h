// The recorded graph: what backward walks over.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "core/op.h"
#include "core/tensor.h"

namespace sinter {
class RowTracker;
struct LowCopy;
}

namespace sinter::autograd {

/// A tensor kept for backward, with the version it had. An output of the node itself is kept without its graph edge, so
/// that a node never owns itself.
class SavedTensor {
 public:
  SavedTensor() = default;
  SavedTensor(const Tensor& tensor, int output_nr);
  /// Throws when the tensor was written to since it was saved: names the op, its module, the writer and both versions.
  Tensor unpack(const Node& owner, std::size_t index) const;
  const Tensor& raw() const { return tensor_; }
  void release() { tensor_ = {}; }

 private:
  Tensor tensor_;
  std::uint64_t version_ = 0;
  int output_nr_ = -1;  // of the owner; -1: not one of its outputs
};

struct Edge {
  std::shared_ptr<Node> node;  ///< null: this input needs no gradient
  int input_nr = 0;            ///< which output of `node` the gradient belongs to
};

/// Shape, dtype and device of an output, for the zeros of a gradient that never came.
struct OutputInfo {
  Shape shape;
  TensorOptions options;
};

struct TensorHook {
  std::size_t id;
  int output_nr;
  std::function<Tensor(const Tensor&)> call;
};

/// One operation of the graph. Data, not a closure: any tool can list it, name it and free it.
struct Node : std::enable_shared_from_this<Node> {
  const OpRow* op = nullptr;
  std::shared_ptr<const void> attrs;
  std::uint64_t seq = 0;                    ///< order of creation; backward runs the highest first
  std::vector<SavedTensor> saved;
  std::vector<Edge> edges;                  ///< one for each input
  std::vector<OutputInfo> outputs;
  std::shared_ptr<const std::string> module_path;   ///< "bert.encoder.layer.3.output", or null outside any module
  Tensor leaf;                              ///< only for the node that accumulates into a leaf
  bool released = false;                    ///< its saved tensors were freed by an earlier backward

  std::vector<TensorHook> tensor_hooks;     ///< of the outputs; those of a leaf are in its Meta
  /// Called with the gradients of the outputs before, and of the inputs after, this node's backward.
  std::vector<std::function<void(const Node&, Inputs grad_outputs)>> pre_hooks;
  std::vector<std::function<void(const Node&, Inputs grad_inputs, Inputs grad_outputs)>> post_hooks;

  Node();
  ~Node();
  Node(const Node&) = delete;
  Node& operator=(const Node&) = delete;

  const char* name() const { return op->name; }
  /// "gelu (bert.encoder.layer.3.intermediate)".
  std::string describe() const;
  void release_saved();
};

/// What a tensor knows about gradients.
struct Meta {
  bool requires_grad = false;
  bool retains_grad = false;
  /// The gradient's memory belongs to a flat buffer and stays; `grad_stale` says that its content is old and the next
  /// accumulation overwrites it.
  bool grad_pinned = false;
  bool grad_stale = false;
  /// Of a table whose pinned gradient is followed row by row; that is never stale. Null: none.
  std::shared_ptr<RowTracker> rows;
  /// Of a parameter that products read in 16 bits. Null: none.
  std::shared_ptr<LowCopy> low;
  Tensor grad;
  std::shared_ptr<Node> grad_fn;    ///< null on leaves
  int output_nr = 0;
  std::weak_ptr<Node> accumulator;  ///< of a leaf
  std::vector<TensorHook> leaf_hooks;
};

/// Makes `outputs` (floating ones) the results of a new node of `op`, so that backward reaches `inputs` through it.
/// An output that is one of the inputs is replaced by an alias first.
void record(const OpRow& op, std::shared_ptr<const void> attrs, Inputs inputs, const Tensors& saved, Tensors& outputs);

/// True when gradients are on and one of `inputs` needs one.
bool should_record(Inputs inputs);

/// The edge through which a gradient reaches `tensor`; no node when it needs none.
Edge gradient_edge(const Tensor& tensor);

}  // namespace sinter::autograd
