#include "nn/module.h"

#include <algorithm>

#include "core/error.h"

namespace sinter::nn {
namespace {

std::string joined(const std::string& prefix, const std::string& name) {
  return prefix.empty() ? name : prefix + "." + name;
}

std::size_t next_hook_id() {
  static std::size_t next = 1;
  return next++;
}

}  // namespace

ParameterList Module::named_parameters() const {
  ParameterList list;
  for (const auto& [name, tensor] : parameters_) list.push_back({name, *tensor});
  for (const auto& [name, child] : children_)
    for (const Parameter& parameter : child->named_parameters())
      list.push_back({joined(name, parameter.name), parameter.tensor});
  return list;
}

ParameterList Module::named_buffers() const {
  ParameterList list;
  for (const auto& [name, tensor] : buffers_) list.push_back({name, *tensor});
  for (const auto& [name, child] : children_)
    for (const Parameter& buffer : child->named_buffers()) list.push_back({joined(name, buffer.name), buffer.tensor});
  return list;
}

std::vector<std::pair<std::string, Module*>> Module::named_modules() {
  std::vector<std::pair<std::string, Module*>> list{{"", this}};
  for (const auto& [name, child] : children_)
    for (const auto& [below, module] : child->named_modules())
      list.emplace_back(below.empty() ? name : joined(name, below), module);
  return list;
}

std::int64_t Module::num_parameters(bool only_trainable) const {
  const ParameterList list = named_parameters();
  std::int64_t count = 0;
  for (std::size_t i = 0; i < list.size(); ++i) {
    const Tensor& tensor = list[i].tensor;
    const bool tied = std::any_of(list.begin(), list.begin() + static_cast<std::ptrdiff_t>(i),
                                  [&](const Parameter& earlier) { return earlier.tensor.same(tensor); });
    if (!tied && (!only_trainable || tensor.requires_grad())) count += tensor.numel();
  }
  return count;
}

void Module::train(bool on) {
  training_ = on;
  for (const auto& [name, child] : children_) child->train(on);
}

void Module::apply(const std::function<void(Module&)>& fn) {
  for (const auto& [name, child] : children_) child->apply(fn);
  fn(*this);
}

void Module::zero_grad() {
  for (Parameter& parameter : named_parameters()) parameter.tensor.zero_grad();
}

void Module::to(Dtype dtype) {
  if (dtype != Dtype::f32 && dtype != Dtype::f64)
    fail(ErrorCode::unsupported, "a module in ", name(dtype), ": the CPU computes in f32 and f64");
  const NoGradGuard guard;
  std::vector<std::pair<Tensor, Tensor>> done;
  convert([dtype](const Tensor& x) { return kernels::is_floating(x.dtype()) ? x.to(dtype) : x; }, done);
}

void Module::to(Device device) {
  const NoGradGuard guard;
  std::vector<std::pair<Tensor, Tensor>> done;
  convert([device](const Tensor& x) { return x.to(device); }, done);
}

/// Puts converted(tensor) in the place of each tensor; where that is the tensor itself nothing happens.
void Module::convert(const std::function<Tensor(const Tensor&)>& converted,
                     std::vector<std::pair<Tensor, Tensor>>& done) {
  for (auto* list : {&parameters_, &buffers_})
    for (const auto& [name, tensor] : *list) {
      const auto tied =
          std::find_if(done.begin(), done.end(), [&](const auto& pair) { return pair.first.same(*tensor); });
      if (tied != done.end()) {
        *tensor = tied->second;
        continue;
      }
      const Tensor before = *tensor, values = before.detach(), after = converted(values);
      if (after.same(values)) continue;
      *tensor = after;
      if (before.requires_grad()) tensor->set_requires_grad();
      done.emplace_back(before, *tensor);
    }
  for (const auto& [name, child] : children_) child->convert(converted, done);
}

void Module::set_compute_dtype(Dtype dtype) {
  if (!kernels::is_floating(dtype)) fail(ErrorCode::usage, "a module cannot compute in ", name(dtype));
  compute_dtype_ = dtype;
  for (const auto& [name, child] : children_) child->set_compute_dtype(dtype);
}

Tensor Module::computed(const Tensor& x) const {
  const bool mixed = compute_dtype_ == Dtype::f16 || compute_dtype_ == Dtype::bf16;
  return mixed ? x.to(compute_dtype_) : x;
}

std::size_t Module::register_forward_pre_hook(ForwardPreHook hook) {
  pre_hooks_.emplace_back(next_hook_id(), std::move(hook));
  return pre_hooks_.back().first;
}

std::size_t Module::register_forward_hook(ForwardHook hook) {
  hooks_.emplace_back(next_hook_id(), std::move(hook));
  return hooks_.back().first;
}

void Module::remove_hook(std::size_t id) {
  std::erase_if(pre_hooks_, [id](const auto& hook) { return hook.first == id; });
  std::erase_if(hooks_, [id](const auto& hook) { return hook.first == id; });
}

void Module::check_name(const std::string& name) const {
  if (name.empty() || name.find('.') != std::string::npos)
    fail(ErrorCode::usage, "\"", name, "\" cannot name a part of a module: names are not empty and contain no dot");
  const auto used = [&](const auto& list) {
    return std::any_of(list.begin(), list.end(), [&](const auto& entry) { return entry.first == name; });
  };
  if (used(parameters_) || used(buffers_) || used(children_))
    fail(ErrorCode::usage, "a module has two parts called \"", name, "\"");
}

void Module::register_parameter(const std::string& name, Tensor& tensor) {
  check_name(name);
  tensor.set_requires_grad();
  parameters_.emplace_back(name, &tensor);
}

void Module::register_buffer(const std::string& name, Tensor& tensor) {
  check_name(name);
  buffers_.emplace_back(name, &tensor);
}

void Module::register_module(const std::string& name, Module& child) {
  check_name(name);
  children_.emplace_back(name, &child);
  child.set_path(joined(*path_, name));
}

void Module::set_path(const std::string& path) {
  path_ = std::make_shared<const std::string>(path);
  for (const auto& [name, child] : children_) child->set_path(joined(path, name));
}

void Module::run_pre_hooks(Tensors& inputs) const {
  auto& self = const_cast<Module&>(*this);  // hooks may change the module, forward does not
  for (const auto& [id, hook] : std::vector(pre_hooks_))
    if (Tensors replaced = hook(self, inputs); !replaced.empty()) inputs = std::move(replaced);
}

Tensor Module::run_hooks(Inputs inputs, Tensor output) const {
  auto& self = const_cast<Module&>(*this);
  for (const auto& [id, hook] : std::vector(hooks_))
    if (Tensor replaced = hook(self, inputs, output); replaced.defined()) output = std::move(replaced);
  return output;
}

}  // namespace sinter::nn
