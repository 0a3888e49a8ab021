#include "core/ops/gelu.h"

#include <numbers>

#include "core/error.h"
#include "core/op.h"
#include "core/ops/broadcast.h"
#include "core/ops/elementwise.h"
#include "core/ops/registry.h"
#include "core/runtime/runtime.h"
#include "kernels/bias_gelu.h"

namespace sinter {
namespace {

struct BiasGelu {
  static constexpr const char* name = "bias_gelu";
  static constexpr OpFlags flags{.recompute_cheap = true};
  static constexpr const char* branches[] = {"bias", "no bias"};
  struct Attrs {
    bool has_bias;
  };
  static std::int64_t cols_of(const Tensor& x) { return x.rank() == 0 ? 1 : x.size(-1); }
  static std::int64_t rows_of(const Tensor& x) { return x.numel() == 0 ? 0 : x.numel() / cols_of(x); }

  static Tensors forward(Forward& ctx, const Attrs& attrs, Inputs in) {
    const Tensor x = in[0].contiguous(), bias = attrs.has_bias ? in[1].contiguous() : Tensor();
    ctx.enter(attrs.has_bias ? 0 : 1);
    Tensor y = Tensor::empty(x.shape(), x.options());
    const kernels::BiasGelu params{
        .dtype = x.dtype(), .rows = rows_of(x), .cols = cols_of(x),
        .x = x.data(), .bias = attrs.has_bias ? bias.data() : nullptr, .y = y.data(),
    };
    Runtime::instance().launch(x.device(), params, name);
    ctx.save({x, bias});
    return {y};
  }
  static Tensors backward(Backward& ctx, const Attrs& attrs, Inputs grad) {
    const Tensor x = ctx.saved(0), bias = ctx.saved(1);
    const Tensor dy = grad[0].contiguous();
    const Tensor dx = Tensor::empty(x.shape(), x.options());
    const Tensor dbias = attrs.has_bias ? Tensor::empty(bias.shape(), bias.options()) : Tensor();
    kernels::BiasGeluBackward params{
        .dtype = x.dtype(), .rows = rows_of(x), .cols = cols_of(x),
        .dy = dy.data(), .x = x.data(), .bias = attrs.has_bias ? bias.data() : nullptr,
        .dx = dx.data(), .dbias = attrs.has_bias ? dbias.data() : nullptr,
    };
    const auto bytes = static_cast<std::int64_t>(Runtime::instance().workspace(x.device(), params));
    const Tensor workspace = Tensor::empty({bytes}, {Dtype::u8, x.device()});
    params.workspace = workspace.data();
    Runtime::instance().launch(x.device(), params, name);
    return attrs.has_bias ? Tensors{dx, dbias} : Tensors{dx};
  }
  static Tensors twin(const Attrs& attrs, Inputs in) {
    const Tensor u = attrs.has_bias ? in[0] + in[1] : in[0];
    return {u * (erf(u * (1 / std::numbers::sqrt2)) + 1.0) * 0.5};
  }
  static kernels::Cost cost(const Attrs&, Inputs in) {
    return kernels::cost(kernels::BiasGelu{.dtype = in[0].dtype(), .rows = rows_of(in[0]), .cols = cols_of(in[0])});
  }
};

}  // namespace

const OpRow bias_gelu_op = make_row<BiasGelu>();

Tensor bias_gelu(const Tensor& x, const Tensor& bias) {
  if (x.rank() == 0) fail(ErrorCode::usage, "bias_gelu of a scalar; it needs at least one dimension");
  check_vector("bias_gelu", "bias", x, bias, x.size(-1));
  return run_op1(bias_gelu_op, BiasGelu::Attrs{true}, {x, bias});
}

Tensor gelu(const Tensor& x) { return run_op1(bias_gelu_op, BiasGelu::Attrs{false}, {x}); }

}  // namespace sinter
