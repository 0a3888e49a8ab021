#include "train/weights.h"

#include <algorithm>
#include <cmath>

#include "core/autograd/mode.h"
#include "core/error.h"
#include "core/io/safetensors.h"
#include "core/ops/reduce.h"

namespace sinter::train {
namespace {

/// Every tensor once, under its first name.
ParameterList tensors_of(const nn::Module& module) {
  ParameterList all;
  for (const ParameterList& list : {module.named_parameters(), module.named_buffers()})
    for (const Parameter& tensor : list)
      if (std::none_of(all.begin(), all.end(), [&](const Parameter& p) { return p.tensor.same(tensor.tensor); }))
        all.push_back(tensor);
  return all;
}

}  // namespace

void check_finite(const nn::Module& module) {
  const NoGradGuard guard;
  for (const Parameter& parameter : tensors_of(module)) {
    if (!kernels::is_floating(parameter.tensor.dtype()) || parameter.tensor.numel() == 0) continue;
    if (!std::isfinite(sum(parameter.tensor).item()))   // inf and NaN survive a sum
      fail(ErrorCode::diverged, "the weight ", parameter.name,
           " holds inf or NaN, so nothing is saved; lower learning_rate");
  }
}

void write_weights(const nn::Module& module, OutputFile& out) {
  const NoGradGuard guard;
  std::vector<SafetensorsTensor> tensors;
  Tensors alive;
  for (const Parameter& parameter : tensors_of(module)) {
    alive.push_back(parameter.tensor.detach().to(Device::cpu()).contiguous());
    const Tensor& tensor = alive.back();
    tensors.push_back({parameter.name, tensor.dtype(), {tensor.shape().begin(), tensor.shape().end()}, tensor.data()});
  }
  write_safetensors(out, tensors, {{"format", "pt"}});
}

void read_weights(nn::Module& module, const std::filesystem::path& path) {
  const NoGradGuard guard;
  const SafetensorsFile file(path);
  ParameterList tensors = tensors_of(module);
  if (file.tensors().size() != tensors.size())
    fail(ErrorCode::bad_input, path.string(), " has ", file.tensors().size(), " tensors, the model has ",
         tensors.size(), "; they do not belong together");
  for (const Parameter& target : tensors) {  // all are checked before one is written
    const SafetensorsEntry& entry = file.at(target.name);
    if (entry.dtype != target.tensor.dtype() || Shape(entry.shape) != target.tensor.shape())
      fail(ErrorCode::bad_input, path.string(), ": tensor \"", entry.name, "\" is ", kernels::name(entry.dtype), " ",
           Shape(entry.shape), ", the model's is ", kernels::name(target.tensor.dtype()), " ", target.tensor.shape());
  }
  for (Parameter& target : tensors) {
    Tensor stored = Tensor::empty(target.tensor.shape(), {target.tensor.dtype()});
    file.read(target.name, stored.data(), file.at(target.name).bytes());
    target.tensor.copy_(stored);
  }
}

}  // namespace sinter::train
