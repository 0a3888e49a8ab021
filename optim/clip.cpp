#include "optim/clip.h"

#include <cmath>

#include "core/error.h"
#include "core/runtime/runtime.h"
#include "kernels/adamw.h"

namespace sinter::optim {

GradNorm clip_grad_norm(FlatParameters& parameters, double max_norm, double scale) {
  if (!(max_norm > 0)) fail(ErrorCode::usage, "max_norm is ", max_norm, ", it must be positive");
  parameters.settle_gradients();
  const Tensor& gradients = parameters.gradients();
  const Tensor sum = Tensor::empty({}, {Dtype::f64, gradients.device()});
  const Tensor nonfinite = Tensor::empty({}, {Dtype::i32, gradients.device()});
  kernels::SquaredNorm params{.dtype = gradients.dtype(),
                              .n = gradients.numel(),
                              .x = gradients.data(),
                              .sum = sum.data<double>(),
                              .nonfinite = nonfinite.data<std::int32_t>()};
  Runtime& runtime = Runtime::instance();
  const auto bytes = static_cast<std::int64_t>(runtime.workspace(gradients.device(), params));
  const Tensor workspace = Tensor::empty({bytes}, {Dtype::u8, gradients.device()});
  params.workspace = workspace.data();
  runtime.launch(gradients.device(), params, "clip_grad_norm");
  GradNorm result;
  result.norm = std::sqrt(sum.item()) / scale;
  const double wanted = max_norm / (result.norm + 1e-6);
  result.coefficient = (wanted < 1 || std::isnan(wanted) ? wanted : 1) / scale;
  result.nonfinite = nonfinite.item() != 0;
  return result;
}

}  // namespace sinter::optim
