#include "optim/clip.h"

#include <cstring>
#include <vector>

#include "core/error.h"
#include "core/runtime/runtime.h"
#include "kernels/update.h"

namespace sinter::optim {

GradNorm clip_grad_norm(FlatParameters& parameters, double max_norm, double scale) {
  if (!(max_norm > 0)) fail(ErrorCode::usage, "max_norm is ", max_norm, ", it must be positive");
  parameters.settle_gradients();
  const Device device = parameters.gradients().device();
  const Tensor results = Tensor::empty({2}, {Dtype::f64, device});   // one copy brings both
  kernels::SquaredNorm params = parameters.squared_norm();
  params.sum = results.data<double>();
  params.nonfinite = reinterpret_cast<std::int32_t*>(results.data<double>() + 1);
  Runtime& runtime = Runtime::instance();
  const auto bytes = static_cast<std::int64_t>(runtime.workspace(device, params));
  const Tensor workspace = Tensor::empty({bytes}, {Dtype::u8, device});
  params.workspace = workspace.data();
  runtime.launch(device, params, "clip_grad_norm");
  const std::vector<double> found = results.to_vector<double>();
  std::int32_t nonfinite = 0;
  std::memcpy(&nonfinite, &found[1], sizeof nonfinite);
  const kernels::ClippedNorm clipped = kernels::clipped_norm(found[0], max_norm, scale);
  return {clipped.norm, clipped.coefficient, nonfinite != 0};
}

}  // namespace sinter::optim
