#include "core/autograd/node.h"

#include <algorithm>
#include <atomic>
#include <utility>

#include "core/autograd/mode.h"
#include "core/error.h"

namespace sinter::autograd {
namespace {

std::atomic<std::uint64_t> next_seq{1};

/// Releases what dead nodes held without recursion: a chain of 200,000 nodes would overflow the stack otherwise.
struct Graveyard {
  std::vector<std::shared_ptr<Node>> nodes;
  std::vector<Tensor> tensors;
  bool draining = false;

  void drain() {
    draining = true;
    while (!nodes.empty() || !tensors.empty()) {
      if (!nodes.empty()) {
        const std::shared_ptr<Node> node = std::move(nodes.back());
        nodes.pop_back();
      } else {
        const Tensor tensor = std::move(tensors.back());
        tensors.pop_back();
      }
    }
    draining = false;
  }
};

Graveyard& graveyard() {
  // Freed with its thread. Behind a pointer, because tensors of static storage duration die after the main thread's
  // locals: they make another one.
  static thread_local Graveyard* instance = nullptr;
  struct Owner {
    ~Owner() { delete std::exchange(instance, nullptr); }
  };
  if (instance == nullptr) {
    static thread_local const Owner owner;
    instance = new Graveyard();
  }
  return *instance;
}

// Backward of the node that adds into a leaf: the engine does that itself.
constexpr OpRow accumulate_row = {"accumulate_grad", {}, {}, nullptr, nullptr, nullptr, nullptr, nullptr, nullptr};

}  // namespace

Node::Node() : seq(next_seq.fetch_add(1, std::memory_order_relaxed)), module_path(ModuleScope::current()) {}

Node::~Node() {
  Graveyard& dead = graveyard();
  for (Edge& edge : edges)
    if (edge.node != nullptr) dead.nodes.push_back(std::move(edge.node));
  for (SavedTensor& tensor : saved) dead.tensors.push_back(tensor.raw());
  saved.clear();
  if (!dead.draining) dead.drain();
}

std::string Node::describe() const {
  return module_path == nullptr ? op->name : std::string(op->name) + " (" + *module_path + ")";
}

void Node::release_saved() {
  for (SavedTensor& tensor : saved) tensor.release();
  released = true;
}

SavedTensor::SavedTensor(const Tensor& tensor, int output_nr)
    : tensor_(output_nr >= 0 ? tensor.detach() : tensor),
      version_(tensor.defined() ? tensor.storage()->version() : 0),
      output_nr_(output_nr) {}

Tensor SavedTensor::unpack(const Node& owner, std::size_t index) const {
  if (owner.released)
    fail(ErrorCode::usage, "backward ran a second time through ", owner.describe(),
         ", whose saved tensors were freed; pass retain_graph = true to the first backward");
  if (!tensor_.defined()) return tensor_;
  const Storage& storage = *tensor_.storage();
  if (storage.version() != version_)
    fail(ErrorCode::usage, owner.describe(), ": tensor ", index, " ", tensor_.shape(),
         " saved for backward was at version ", version_, " and is at version ", storage.version(),
         " now; last written by ", storage.last_writer(), "; write to a copy, or after backward");
  if (output_nr_ < 0) return tensor_;
  Tensor alias = tensor_.detach();
  Meta& meta = alias.ensure_meta();
  meta.requires_grad = true;
  meta.grad_fn = std::const_pointer_cast<Node>(owner.shared_from_this());
  meta.output_nr = output_nr_;
  return alias;
}

bool should_record(Inputs inputs) {
  if (!grad_enabled()) return false;
  for (const Tensor& input : inputs)
    if (input.requires_grad()) return true;
  return false;
}

Edge gradient_edge(const Tensor& tensor) {
  if (!tensor.requires_grad()) return {};
  Meta& meta = tensor.ensure_meta();
  if (meta.grad_fn != nullptr) return {meta.grad_fn, meta.output_nr};
  std::shared_ptr<Node> accumulator = meta.accumulator.lock();
  if (accumulator == nullptr) {
    accumulator = std::make_shared<Node>();
    accumulator->op = &accumulate_row;
    accumulator->module_path = nullptr;
    accumulator->leaf = tensor;
    accumulator->outputs.push_back({tensor.shape(), tensor.options()});
    meta.accumulator = accumulator;
  }
  return {accumulator, 0};
}

void record(const OpRow& op, std::shared_ptr<const void> attrs, Inputs inputs, const Tensors& saved, Tensors& outputs) {
  auto node = std::make_shared<Node>();
  node->op = &op;
  node->attrs = std::move(attrs);
  for (const Tensor& input : inputs) node->edges.push_back(input.defined() ? gradient_edge(input) : Edge{});
  for (Tensor& output : outputs) {
    const auto same = [&](const Tensor& input) { return output.same(input); };
    if (output.meta() != nullptr || std::any_of(inputs.begin(), inputs.end(), same)) output = output.detach();
  }
  for (const Tensor& tensor : saved) {
    int output_nr = -1;
    for (std::size_t i = 0; i < outputs.size(); ++i)
      if (tensor.defined() && tensor.same(outputs[i])) output_nr = static_cast<int>(i);
    node->saved.emplace_back(tensor, output_nr);
  }
  for (std::size_t i = 0; i < outputs.size(); ++i) {
    node->outputs.push_back({outputs[i].shape(), outputs[i].options()});
    if (!kernels::is_floating(outputs[i].dtype())) continue;
    Meta& meta = outputs[i].ensure_meta();
    meta.requires_grad = true;
    meta.grad_fn = node;
    meta.output_nr = static_cast<int>(i);
  }
}

}  // namespace sinter::autograd
