#include "core/ops/dropout.h"

#include "core/autograd/mode.h"
#include "core/error.h"
#include "core/op.h"
#include "core/ops/broadcast.h"
#include "core/ops/elementwise.h"
#include "core/ops/registry.h"
#include "core/runtime/runtime.h"
#include "kernels/dropout.h"

namespace sinter {

DropoutCall DropoutCall::make(double p, std::uint32_t site, const char* who) {
  if (!(p >= 0 && p < 1)) fail(ErrorCode::usage, who, ": the dropout probability is ", p, ", it must lie in [0, 1)");
  DropoutCall call;
  call.threshold = kernels::dropout_threshold(p);
  call.site = site;
  if (call.threshold != 0) call.step = StepScope::current(who);
  return call;
}

kernels::Dropout16 DropoutCall::kernel(Device device) const {
  if (threshold == 0) return {.site = site};
  const std::uint32_t* const counters = step.counters->on(device);
  return {.seed = step.seed, .step = counters, .first_sample = counters + 1, .site = site, .threshold = threshold};
}

kernels::RowMap row_map(const std::shared_ptr<const Packing>& packing, Device device) {
  if (packing == nullptr) return {};
  const Packing& there = packing->on(device);
  return {there.sample.data<std::int32_t>(), there.position.data<std::int32_t>()};
}

namespace {

struct Dropout {
  static constexpr const char* name = "dropout";
  static constexpr OpFlags flags{.second_order = true, .recompute_cheap = true};
  struct Attrs {
    DropoutCall call;
    std::shared_ptr<const Packing> packing;
  };
  static Tensors forward(Forward&, const Attrs& attrs, Inputs in) {
    const Tensor x = in[0].contiguous();
    Tensor y = Tensor::empty(x.shape(), x.options());
    const std::int64_t cols = x.size(-1);
    const kernels::Dropout params{
        .dtype = x.dtype(),
        .rows = cols == 0 ? 0 : x.numel() / cols,
        .cols = cols,
        .dropout = attrs.call.kernel(x.device()),
        .map = row_map(attrs.packing, x.device()),
        .x = x.data(),
        .y = y.data(),
    };
    Runtime::instance().launch(x.device(), params, name);
    return {y};
  }
  static Tensors backward(Backward&, const Attrs& attrs, Inputs dy) { return {run_op1(dropout_op, attrs, {dy[0]})}; }
};

}  // namespace

const OpRow dropout_op = make_row<Dropout>();

Tensor dropout(const Tensor& x, double p, std::uint32_t site, const std::shared_ptr<const Packing>& packing) {
  if (x.rank() == 0) fail(ErrorCode::usage, "dropout of a scalar; it needs at least one dimension");
  if (packing != nullptr && x.numel() != packing->tokens * x.size(-1))
    fail(ErrorCode::usage, "dropout: ", x.shape(), " does not have one row for each of ", packing->tokens, " tokens");
  const DropoutCall call = DropoutCall::make(p, site, "dropout");
  if (call.threshold == 0) return x;
  return run_op1(dropout_op, Dropout::Attrs{call, packing}, {x});
}

Tensor dropout_mask(const Tensor& x, const DropoutCall& call, const std::shared_ptr<const Packing>& packing) {
  const NoGradGuard guard;
  const Tensor ones = Tensor::ones(x.shape(), x.options());
  return call.threshold == 0 ? ones : run_op1(dropout_op, Dropout::Attrs{call, packing}, {ones});
}

}  // namespace sinter
