#include "kernels/update.h"

#include "kernels/base/families.h"

namespace sinter::kernels::cpu {
namespace {

double value_of(Dtype dtype, const void* x) {
  switch (dtype) {
    case Dtype::f32: return static_cast<double>(*static_cast<const float*>(x));
    case Dtype::f16: return static_cast<double>(to_float(*static_cast<const f16*>(x)));
    case Dtype::bf16: return static_cast<double>(to_float(*static_cast<const bf16*>(x)));
    default: return *static_cast<const double*>(x);
  }
}

Status check_dtype(const AccumulateLoss& p) {
  return is_floating(p.dtype) ? check(p) : unsupported("the dtype must be f32, f64, f16 or bf16");
}

Status run_accumulate_loss(const AccumulateLoss& p, Stream) {
  p.state->loss += value_of(p.dtype, p.loss);
  return {};
}

Status run_prepare_update(const PrepareUpdate& p, Stream) {
  if (p.state->scheduler_steps < 0 || p.state->global_step < 0 || p.state->adam_t < 0)
    return invalid("a counter of the update's state is negative");
  const double lr = learning_rate(p);
  for (int g = 0; g < p.group_count; ++g) prepare_group(p, lr, g, p.state->adam_t + 1);
  advance(p);
  return {};
}

constexpr Variant loss_variants[] = {
    {"one_thread", "one addition", "selected always", erased_run<AccumulateLoss, run_accumulate_loss>}};
constexpr Variant prepare_variants[] = {
    {"one_thread", "the calling thread", "selected always", erased_run<PrepareUpdate, run_prepare_update>}};
constexpr KernelEntry entries[] = {entry<AccumulateLoss, check_dtype>(loss_variants),
                                   entry<PrepareUpdate, check>(prepare_variants)};

}  // namespace

extern const Family update_family;
const Family update_family = family(entries);

}  // namespace sinter::kernels::cpu
