#include "kernels/update.h"

#include "kernels/base/by_dtype.cuh"
#include "kernels/base/collective.cuh"
#include "kernels/base/families.h"
#include "kernels/base/vec.cuh"

namespace sinter::kernels::cuda {
namespace {

template <class T>
__global__ void accumulate_loss(const T* loss, UpdateState* state) {
  state->loss += static_cast<double>(load(loss));
}

/// One warp. Its lanes share the groups, whose powers are what takes time; the first one does all the rest.
__global__ void __launch_bounds__(kWarp, 1) prepare_update(const __grid_constant__ PrepareUpdate p) {
  const int lane = static_cast<int>(threadIdx.x);
  const std::int64_t t = p.state->adam_t + 1;
  if (t < 1 || p.state->scheduler_steps < 0 || p.state->global_step < 0)
    device_fail("a counter of the update's state is negative");
  const double lr = learning_rate(p);
  for (int g = lane; g < p.group_count; g += kWarp) prepare_group(p, lr, g, t);
  __syncwarp();
  if (lane == 0) advance(p);
}

Status run_accumulate_loss(const AccumulateLoss& p, Stream stream) {
  return by_floating(p.dtype, [&]<class T>(Type<T>) {
    return launch(accumulate_loss<T>, dim3(1), dim3(1), 0, stream, static_cast<const T*>(p.loss), p.state);
  });
}

Status run_prepare_update(const PrepareUpdate& p, Stream stream) {
  return launch(prepare_update, dim3(1), dim3(kWarp), 0, stream, p);
}

constexpr Variant loss_variants[] = {
    {"one_thread", "one addition", "not yet measured", erased_run<AccumulateLoss, run_accumulate_loss>}};
constexpr Variant prepare_variants[] = {
    {"one_warp", "a lane for each group, one for the rest", "not yet measured",
     erased_run<PrepareUpdate, run_prepare_update>}};
constexpr KernelEntry entries[] = {entry<AccumulateLoss, check_floating<AccumulateLoss>>(loss_variants),
                                   entry<PrepareUpdate, check>(prepare_variants)};

}  // namespace

extern const Family update_family;
const Family update_family = family(entries);

}  // namespace sinter::kernels::cuda
