// Gradients checked against finite differences.
#pragma once

#include <functional>
#include <string>

#include "core/tensor.h"

namespace sinter::autograd {

struct GradcheckOptions {
  double eps = 1e-6;      ///< step of the central difference
  double atol = 1e-6;     ///< |analytic - numeric| <= atol + rtol * |numeric|
  double rtol = 1e-5;
  std::uint64_t seed = 1; ///< of the random cotangents
};

using TensorFunction = std::function<Tensors(Inputs)>;

/// Compares backward with central differences of <u, fn(inputs)> for a random u, for every element of every input that
/// requires grad (these must be f64; all inputs on the CPU, fn may move them); also that backward is bit-equal when run
/// twice, and zero for a zero cotangent. Returns "" or a sentence that names the input, the element and both values.
/// The error of a central difference is about eps^2 |f'''| + 1e-16 |f| / eps, 1e-10 for smooth functions of order one.
std::string gradcheck(const TensorFunction& fn, const Tensors& inputs, GradcheckOptions options = {});

/// gradcheck of the gradient itself: fn's backward, recorded with create_graph, as a function of the inputs and of the
/// cotangent.
std::string gradgradcheck(const TensorFunction& fn, const Tensors& inputs, GradcheckOptions options = {});

}  // namespace sinter::autograd
