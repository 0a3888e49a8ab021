#include "tests/ops/run_sample.h"

#include <cmath>
#include <cstring>

#include "core/autograd/engine.h"
#include "core/autograd/mode.h"
#include "core/flat_parameters.h"
#include "core/random.h"

namespace sinter::testing {

Tensors leaves_of(const Sample& sample, Dtype dtype, bool with_grad) {
  Tensors leaves;
  for (const Tensor& input : sample.inputs) {
    Tensor leaf = input.dtype() == Dtype::f64 ? input.to(dtype).clone() : input.clone();
    if (with_grad && kernels::is_floating(leaf.dtype())) leaf.set_requires_grad();
    leaves.push_back(leaf);
  }
  return leaves;
}

Tensors as_leaves(Inputs inputs) {
  Tensors leaves;
  for (const Tensor& input : inputs) {
    leaves.push_back(input.detach());
    if (kernels::is_floating(input.dtype())) leaves.back().set_requires_grad();
  }
  return leaves;
}

void adopt(const Tensors& leaves) {
  ParameterList parameters;
  for (const Tensor& leaf : leaves)
    if (leaf.requires_grad()) parameters.push_back({"input " + std::to_string(parameters.size()), leaf});
  if (parameters.empty()) return;
  FlatParameters flat = FlatParameters::adopt({parameters});
  flat.zero_grad();
  flat.gradients().fill_(std::nan(""));
}

Tensors cotangents_of(const Tensors& outputs) {
  Tensors cotangents;
  for (std::size_t i = 0; i < outputs.size(); ++i) {
    if (!outputs[i].requires_grad()) continue;
    Tensor u = Tensor::empty(outputs[i].shape(), {Dtype::f64});
    normal_(u, 0, 1, 13, static_cast<std::uint32_t>(i));
    cotangents.push_back(u.to(outputs[i].dtype()).to(outputs[i].device()));
  }
  return cotangents;
}

SampleRun run_sample(const Sample& sample, const Tensors& leaves) {
  SampleRun run;
  const Tensors outputs = sample.call(leaves);
  Tensors roots;
  for (const Tensor& output : outputs) {
    run.outputs.push_back(output.detach());
    if (output.requires_grad()) roots.push_back(output);
  }
  if (!roots.empty()) autograd::backward(roots, cotangents_of(outputs));
  for (const Tensor& leaf : leaves) run.gradients.push_back(leaf.grad());
  return run;
}

SampleRun run_recorded(const Sample& sample, const Tensors& leaves) {
  SampleRun run;
  const Tensors outputs = sample.call(leaves);
  Tensors roots, wanted;
  for (const Tensor& output : outputs) {
    run.outputs.push_back(output.detach());
    if (output.requires_grad()) roots.push_back(output);
  }
  for (const Tensor& leaf : leaves)
    if (leaf.requires_grad()) wanted.push_back(leaf);
  const Tensors found = autograd::grad(roots, wanted, cotangents_of(outputs), {.create_graph = true}, true);
  std::size_t next = 0;
  for (const Tensor& leaf : leaves) run.gradients.push_back(leaf.requires_grad() ? found[next++].detach() : Tensor());
  return run;
}

bool differentiable(const Sample& sample) {
  for (const Tensor& output : sample.call(leaves_of(sample, Dtype::f64, true)))
    if (output.requires_grad()) return true;
  return false;
}

std::shared_ptr<autograd::Node> node_of(const Tensor& output, const std::string& op) {
  std::vector<std::shared_ptr<autograd::Node>> nodes;
  if (output.meta() != nullptr && output.meta()->grad_fn != nullptr) nodes.push_back(output.meta()->grad_fn);
  for (std::size_t i = 0; i < nodes.size(); ++i) {
    if (op == nodes[i]->name()) return nodes[i];
    for (const autograd::Edge& edge : nodes[i]->edges)
      if (edge.node != nullptr) nodes.push_back(edge.node);
  }
  return nullptr;
}

bool same_bits(const Tensor& a, const Tensor& b) {
  if (!a.defined() || !b.defined()) return a.defined() == b.defined();
  if (a.shape() != b.shape() || a.dtype() != b.dtype()) return false;
  const NoGradGuard guard;
  const Tensor x = a.to(Device::cpu()).contiguous(), y = b.to(Device::cpu()).contiguous();
  const std::size_t bytes = static_cast<std::size_t>(x.numel()) * kernels::size_of(x.dtype());
  return bytes == 0 || std::memcmp(x.data(), y.data(), bytes) == 0;
}

void expect_same_bits(const SampleRun& a, const SampleRun& b, const std::string& what) {
  ASSERT_EQ(a.outputs.size(), b.outputs.size()) << what;
  for (std::size_t i = 0; i < a.outputs.size(); ++i)
    EXPECT_TRUE(same_bits(a.outputs[i], b.outputs[i])) << what << ": output " << i << " is " << a.outputs[i].str(64)
        << " and "
                                                       << b.outputs[i].str(64);
  for (std::size_t i = 0; i < a.gradients.size(); ++i)
    EXPECT_TRUE(same_bits(a.gradients[i], b.gradients[i]))
        << what << ": the gradient of input " << i << " is " << a.gradients[i].str(64) << " and "
            << b.gradients[i].str(64);
}

void expect_close(const HostArray& a, const HostArray& b, double tolerance, const std::string& what) {
  ASSERT_EQ(a.shape.str(), b.shape.str()) << what;
  double largest = 1;
  for (const double x : b.values) largest = std::max(largest, std::abs(x));
  for (std::size_t i = 0; i < a.values.size(); ++i) {
    if (std::isnan(a.values[i]) && std::isnan(b.values[i])) continue;
    const double error = std::abs(a.values[i] - b.values[i]);
    EXPECT_TRUE(error <= tolerance * largest) << what << ": element " << i << " is " << a.values[i] << ", expected "
                                              << b.values[i] << ", an error of " << error << " where "
                                              << tolerance * largest << " is allowed";
    if (!(error <= tolerance * largest)) return;
  }
}

void expect_close(const SampleRun& a, const SampleRun& b, double tolerance, const std::string& what) {
  ASSERT_EQ(a.outputs.size(), b.outputs.size()) << what;
  for (std::size_t i = 0; i < a.outputs.size(); ++i)
    expect_close(HostArray::of(a.outputs[i]), HostArray::of(b.outputs[i]), tolerance,
                 what + ", output " + std::to_string(i));
  for (std::size_t i = 0; i < a.gradients.size(); ++i) {
    ASSERT_EQ(a.gradients[i].defined(), b.gradients[i].defined()) << what << ", gradient " << i;
    if (!a.gradients[i].defined()) continue;
    expect_close(HostArray::of(a.gradients[i]), HostArray::of(b.gradients[i]), tolerance,
                 what + ", gradient " + std::to_string(i));
  }
}

double tolerance(const Sample& sample, Dtype dtype) {
  const double unit = dtype == Dtype::f32 ? 0x1p-24 : 0x1p-53;
  return unit * (sample.terms + 8);
}

}  // namespace sinter::testing
