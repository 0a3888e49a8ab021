#include "core/ops/softmax.h"

#include "core/op.h"
#include "core/ops/elementwise.h"
#include "core/ops/reduce.h"
#include "core/ops/registry.h"
#include "core/runtime/runtime.h"
#include "kernels/softmax.h"

namespace sinter {
namespace {

struct NoAttrs {};

std::int64_t rows_of(const Tensor& x) { return x.size(-1) == 0 ? 0 : x.numel() / x.size(-1); }

Tensor launch_softmax(const char* op, const Tensor& in, bool log) {
  const Tensor x = in.contiguous();
  Tensor y = Tensor::empty(x.shape(), x.options());
  const kernels::Softmax params{
      .dtype = x.dtype(), .log = log, .rows = rows_of(x), .cols = x.size(-1), .x = x.data(), .y = y.data()};
  Runtime::instance().launch(x.device(), params, op);
  return y;
}

Tensor launch_softmax_backward(const char* op, const Tensor& grad, const Tensor& y, bool log) {
  const Tensor dy = grad.contiguous();
  Tensor dx = Tensor::empty(y.shape(), y.options());
  const kernels::SoftmaxBackward params{.dtype = y.dtype(),
                                        .log = log,
                                        .rows = rows_of(y),
                                        .cols = y.size(-1),
                                        .dy = dy.data(),
                                        .y = y.data(),
                                        .dx = dx.data()};
  Runtime::instance().launch(y.device(), params, op);
  return dx;
}

/// Over the last dimension. The backward is made of primitive ops only when it is recorded itself.
struct Softmax {
  static constexpr const char* name = "softmax";
  static constexpr OpFlags flags{.second_order = true};
  static constexpr const char* branches[] = {"fused backward", "recorded backward"};
  using Attrs = NoAttrs;
  static Tensors forward(Forward& ctx, const Attrs&, Inputs in) {
    Tensor y = launch_softmax(name, in[0], false);
    ctx.save({y});
    return {y};
  }
  static Tensors backward(Backward& ctx, const Attrs&, Inputs dy) {
    const Tensor y = ctx.saved(0);
    ctx.enter(ctx.create_graph() ? 1 : 0);
    if (ctx.create_graph()) return {y * (dy[0] - sum(dy[0] * y, {-1}, true))};
    return {launch_softmax_backward(name, dy[0], y, false)};
  }
};

struct LogSoftmax {
  static constexpr const char* name = "log_softmax";
  static constexpr OpFlags flags{.second_order = true};
  static constexpr const char* branches[] = {"fused backward", "recorded backward"};
  using Attrs = NoAttrs;
  static Tensors forward(Forward& ctx, const Attrs&, Inputs in) {
    Tensor y = launch_softmax(name, in[0], true);
    ctx.save({y});
    return {y};
  }
  static Tensors backward(Backward& ctx, const Attrs&, Inputs dy) {
    const Tensor y = ctx.saved(0);
    ctx.enter(ctx.create_graph() ? 1 : 0);
    if (ctx.create_graph()) return {dy[0] - exp(y) * sum(dy[0], {-1}, true)};
    return {launch_softmax_backward(name, dy[0], y, true)};
  }
};

Tensor over_last(const OpRow& op, const Tensor& x, int d) {
  d = x.shape().dimension(d);
  if (d == x.rank() - 1) return run_op1(op, NoAttrs{}, {x});
  return run_op1(op, NoAttrs{}, {x.transpose(d, -1)}).transpose(d, -1);
}

}  // namespace

const OpRow softmax_op = make_row<Softmax>();
const OpRow log_softmax_op = make_row<LogSoftmax>();

Tensor softmax(const Tensor& x, int d) { return over_last(softmax_op, x, d); }
Tensor log_softmax(const Tensor& x, int d) { return over_last(log_softmax_op, x, d); }

}  // namespace sinter
