#include "core/autograd/gradcheck.h"

#include <cmath>
#include <cstring>
#include <sstream>

#include "core/autograd/engine.h"
#include "core/autograd/mode.h"
#include "core/error.h"
#include "core/ops/elementwise.h"
#include "core/ops/reduce.h"
#include "core/random.h"

namespace sinter::autograd {
namespace {

/// Leaves with the inputs' values: dense copies, so that perturbing one element changes nothing else.
Tensors fresh_leaves(Inputs inputs) {
  Tensors leaves;
  for (const Tensor& input : inputs) {
    const NoGradGuard guard;
    Tensor leaf = input.detach().clone();
    if (input.requires_grad()) {
      if (input.dtype() != Dtype::f64)
        fail(ErrorCode::usage, "gradcheck needs f64 inputs, one is ", name(input.dtype()));
      leaf.set_requires_grad();
    }
    if (!leaf.device().is_cpu())
      fail(ErrorCode::usage, "gradcheck perturbs inputs on the CPU, one is on ", leaf.device().str(),
           "; move them inside the function");
    leaves.push_back(leaf);
  }
  return leaves;
}

Tensors random_cotangents(Inputs outputs, std::uint64_t seed) {
  Tensors cotangents;
  for (std::size_t i = 0; i < outputs.size(); ++i) {
    Tensor u = Tensor::empty(outputs[i].shape(), outputs[i].options());
    if (kernels::is_floating(u.dtype())) normal_(u, 0, 1, seed, static_cast<std::uint32_t>(i));
    cotangents.push_back(u);
  }
  return cotangents;
}

double weighted_sum(Inputs outputs, Inputs cotangents) {
  double total = 0;
  for (std::size_t i = 0; i < outputs.size(); ++i)
    if (outputs[i].dtype() == Dtype::f64) total += sum(outputs[i] * cotangents[i]).item();
  return total;
}

/// Gradients of <cotangents, fn(leaves)>; undefined for leaves that need none.
Tensors analytic(const TensorFunction& fn, const Tensors& leaves, const Tensors& cotangents) {
  Tensors roots, gradients, wanted;
  const Tensors outputs = fn(leaves);
  for (std::size_t i = 0; i < outputs.size(); ++i) {
    if (!outputs[i].requires_grad()) continue;
    roots.push_back(outputs[i]);
    gradients.push_back(cotangents[i]);
  }
  for (const Tensor& leaf : leaves)
    if (leaf.requires_grad()) wanted.push_back(leaf);
  const Tensors found = roots.empty() ? Tensors(wanted.size()) : grad(roots, wanted, gradients, {}, true);
  Tensors result(leaves.size());
  std::size_t next = 0;
  for (std::size_t i = 0; i < leaves.size(); ++i) {
    if (!leaves[i].requires_grad()) continue;
    const Tensor& g = found[next++];
    result[i] = g.defined() ? g.contiguous() : Tensor::zeros(leaves[i].shape(), leaves[i].options());
  }
  return result;
}

bool same_bits(const Tensor& a, const Tensor& b) {
  const std::size_t bytes = static_cast<std::size_t>(a.numel()) * size_of(a.dtype());
  return bytes == 0 || std::memcmp(a.data(), b.data(), bytes) == 0;  // nothing has no address
}

}  // namespace

std::string gradcheck(const TensorFunction& fn, const Tensors& inputs, GradcheckOptions options) {
  const Tensors leaves = fresh_leaves(inputs);
  Tensors outputs;
  {
    const NoGradGuard guard;
    outputs = fn(leaves);
  }
  const Tensors cotangents = random_cotangents(outputs, options.seed);
  const Tensors gradients = analytic(fn, leaves, cotangents);
  const Tensors again = analytic(fn, leaves, cotangents);
  Tensors zeros;
  for (const Tensor& u : cotangents) zeros.push_back(Tensor::zeros(u.shape(), u.options()));
  const Tensors of_zero = analytic(fn, leaves, zeros);

  std::ostringstream trouble;
  for (std::size_t i = 0; i < leaves.size(); ++i) {
    if (!leaves[i].requires_grad()) continue;
    if (!same_bits(gradients[i], again[i])) trouble << "input " << i << ": two runs of backward differ";
    double* x = leaves[i].data<double>();
    for (std::int64_t j = 0; j < leaves[i].numel() && trouble.str().empty(); ++j) {
      if (of_zero[i].data<double>()[j] != 0) {
        trouble << "input " << i << ", element " << j << ": a zero cotangent gives " << of_zero[i].data<double>()[j];
        break;
      }
      const NoGradGuard guard;
      const double before = x[j];
      x[j] = before + options.eps;
      const double up = weighted_sum(fn(leaves), cotangents);
      x[j] = before - options.eps;
      const double down = weighted_sum(fn(leaves), cotangents);
      x[j] = before;
      const double numeric = (up - down) / (2 * options.eps);
      const double exact = gradients[i].data<double>()[j];
      if (!(std::abs(exact - numeric) <= options.atol + options.rtol * std::abs(numeric)))
        trouble << "input " << i << " " << leaves[i].shape() << ", element " << j << ": backward gives " << exact
                << ", a central difference " << numeric;
    }
    if (!trouble.str().empty()) break;
  }
  return trouble.str();
}

std::string gradgradcheck(const TensorFunction& fn, const Tensors& inputs, GradcheckOptions options) {
  Tensors outputs;
  {
    const NoGradGuard guard;
    outputs = fn(inputs);
  }
  Tensors all = inputs;
  for (Tensor& u : random_cotangents(outputs, options.seed + 1))
    all.push_back(u.dtype() == Dtype::f64 ? u.set_requires_grad() : u);
  const std::size_t n = inputs.size();
  const auto gradient = [&](Inputs values) {
    const SecondOrderGuard guard;
    Tensors roots, cotangents, wanted;
    const Tensors results = fn(values.first(n));
    for (std::size_t i = 0; i < results.size(); ++i) {
      if (!results[i].requires_grad()) continue;
      roots.push_back(results[i]);
      cotangents.push_back(values[n + i]);
    }
    for (const Tensor& value : values.first(n))
      if (value.requires_grad()) wanted.push_back(value);
    Tensors found = grad(roots, wanted, cotangents, {.create_graph = true}, true);
    for (std::size_t i = 0; i < found.size(); ++i)
      if (!found[i].defined()) found[i] = Tensor::zeros(wanted[i].shape(), wanted[i].options());
    return found;
  };
  // The finite differences run fn under NoGradGuard, and still need its gradient there.
  return gradcheck(
      [&](Inputs values) {
        const GradModeGuard record(true);
        return gradient(values);
      },
      all, options);
}

}  // namespace sinter::autograd
