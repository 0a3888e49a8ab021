// The base of everything that has parameters.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "core/autograd/mode.h"
#include "core/parameter.h"
#include "core/tensor.h"

namespace sinter::nn {

/// A tree of modules that own parameters and buffers. Names are joined by dots in the order of registration, so that a
/// BertModel's parameters have the names of HF's checkpoints. A module is not copied or moved: parents hold addresses.
///
///   struct Mlp : nn::Module {
///     nn::Linear up{8, 32}, down{32, 2};
///     Mlp() { register_module("up", up); register_module("down", down); }
///     Tensor operator()(const Tensor& x) const { return down(relu(up(x))); }
///   };
class Module {
 public:
  Module() = default;
  virtual ~Module() = default;
  Module(const Module&) = delete;
  Module& operator=(const Module&) = delete;

  /// Parameters of this module and its children; a tensor that is registered under two names (tied weights) appears
  /// twice.
  ParameterList named_parameters() const;
  /// Tensors that are saved but not trained.
  ParameterList named_buffers() const;
  /// This module ("") and all below it, parents first.
  std::vector<std::pair<std::string, Module*>> named_modules();
  /// Sum of the elements of all parameters, tied ones once; only those that require grad when asked so.
  std::int64_t num_parameters(bool only_trainable = false) const;

  /// Dropout acts in training mode (the default) and not after eval().
  void train(bool on = true);
  void eval() { train(false); }
  bool is_training() const { return training_; }

  /// Calls fn with every module below this one and then with this one, as in torch.
  void apply(const std::function<void(Module&)>& fn);
  void zero_grad();
  /// Casts floating parameters and buffers to f32 or f64; tied ones stay tied. Before an optimizer takes them, not
  /// after.
  void to(Dtype dtype);
  /// Moves parameters and buffers; tied ones stay tied. Before an optimizer takes them, not after.
  void to(Device device);

  /// In which dtype the forward of this module and all below it computes. f16 and bf16 (CUDA devices only): mixed
  /// precision. Parameters and their gradients stay as they are; embeddings come out in this dtype, and a layer
  /// computes in the dtype of what it reads, with weights rounded to it. LayerNorm, softmax and every sum are in f32
  /// inside. f32, the default, and f64: everything in the dtype of the parameters.
  void set_compute_dtype(Dtype dtype);
  Dtype compute_dtype() const { return compute_dtype_; }

  /// Path from the root: "bert.encoder.layer.3.output"; "" for the root.
  const std::string& path() const { return *path_; }

  /// Called before forward with its inputs; a non-empty result replaces them.
  using ForwardPreHook = std::function<Tensors(Module&, Inputs inputs)>;
  /// Called after forward; a defined result replaces the output.
  using ForwardHook = std::function<Tensor(Module&, Inputs inputs, const Tensor& output)>;
  std::size_t register_forward_pre_hook(ForwardPreHook hook);
  std::size_t register_forward_hook(ForwardHook hook);
  void remove_hook(std::size_t id);
  /// True when this module has hooks. Layers whose work is fused into their parent's run unfused when they have some.
  bool has_hooks() const { return !pre_hooks_.empty() || !hooks_.empty(); }

 protected:
  /// Names may not be used twice in a module, and contain no dot: usage errors.
  void register_parameter(const std::string& name, Tensor& tensor);
  void register_buffer(const std::string& name, Tensor& tensor);
  void register_module(const std::string& name, Module& child);

  /// x in the compute dtype where that is f16 or bf16, else as it is.
  Tensor computed(const Tensor& x) const;

  /// Runs a forward: names the module to the nodes recorded by `body`, and calls the hooks around it.
  /// body(inputs) -> Tensor.
  template <class Body>
  Tensor run(Tensors inputs, Body&& body) const {
    const autograd::ModuleScope scope(path_);
    if (!has_hooks()) return body(Inputs(inputs));
    run_pre_hooks(inputs);
    Tensor output = body(Inputs(inputs));
    return run_hooks(inputs, std::move(output));
  }

 private:
  void check_name(const std::string& name) const;
  void set_path(const std::string& path);
  void convert(const std::function<Tensor(const Tensor&)>& converted, std::vector<std::pair<Tensor, Tensor>>& done);
  void run_pre_hooks(Tensors& inputs) const;
  Tensor run_hooks(Inputs inputs, Tensor output) const;

  std::vector<std::pair<std::string, Tensor*>> parameters_;
  std::vector<std::pair<std::string, Tensor*>> buffers_;
  std::vector<std::pair<std::string, Module*>> children_;
  std::vector<std::pair<std::size_t, ForwardPreHook>> pre_hooks_;
  std::vector<std::pair<std::size_t, ForwardHook>> hooks_;
  std::shared_ptr<const std::string> path_ = std::make_shared<const std::string>();
  bool training_ = true;
  Dtype compute_dtype_ = Dtype::f32;
};

}  // namespace sinter::nn
