#include "core/ops/layer_norm.h"

#include "core/error.h"
#include "core/op.h"
#include "core/ops/broadcast.h"
#include "core/ops/elementwise.h"
#include "core/ops/reduce.h"
#include "core/ops/registry.h"
#include "core/runtime/runtime.h"
#include "kernels/layer_norm.h"

namespace sinter {
namespace {

std::int64_t rows_of(const Tensor& x) { return x.size(-1) == 0 ? 0 : x.numel() / x.size(-1); }

Tensor workspace_for(const Tensor& like, std::size_t bytes) {
  return Tensor::empty({static_cast<std::int64_t>(bytes)}, {Dtype::u8, like.device()});
}

Tensor composed_layer_norm(const Tensor& x, const Tensor& gamma, const Tensor& beta, double eps) {
  const Tensor centred = x - mean(x, {-1}, true);
  const Tensor variance = mean(centred * centred, {-1}, true);
  return centred * rsqrt(variance + eps) * gamma + beta;
}

struct LayerNorm {
  static constexpr const char* name = "layer_norm";
  static constexpr OpFlags flags{.recompute_cheap = true};
  static constexpr const char* branches[] = {"input and affine gradients", "input gradient alone"};
  struct Attrs {
    double eps;
  };
  static Tensors forward(Forward& ctx, const Attrs& attrs, Inputs in) {
    const Tensor x = in[0].contiguous(), gamma = in[1].contiguous(), beta = in[2].contiguous();
    Tensor y = Tensor::empty(x.shape(), x.options());
    const Tensor mean = Tensor::empty({rows_of(x)}, computed_options(x));
    const Tensor rstd = Tensor::empty(mean.shape(), mean.options());
    const kernels::LayerNorm params{
        .dtype = x.dtype(), .rows = rows_of(x), .cols = x.size(-1), .eps = attrs.eps,
        .x = x.data(), .gamma = gamma.data(), .beta = beta.data(),
        .y = y.data(), .mean = mean.data(), .rstd = rstd.data(),
    };
    Runtime::instance().launch(x.device(), params, name);
    ctx.save({x, gamma, mean, rstd});
    return {y};
  }
  static Tensors backward(Backward& ctx, const Attrs&, Inputs grad) {
    const Tensor x = ctx.saved(0), gamma = ctx.saved(1), mean = ctx.saved(2), rstd = ctx.saved(3);
    const Tensor dy = grad[0].contiguous();
    const bool affine = ctx.needs(1) || ctx.needs(2);
    ctx.enter(affine ? 0 : 1);
    const Tensor dx = Tensor::empty(x.shape(), x.options());
    const Tensor dgamma = affine ? Tensor::empty(gamma.shape(), gamma.options()) : Tensor();
    const Tensor dbeta = affine ? Tensor::empty(gamma.shape(), gamma.options()) : Tensor();
    kernels::LayerNormBackward params{
        .dtype = x.dtype(), .rows = rows_of(x), .cols = x.size(-1),
        .dy = dy.data(), .x = x.data(), .mean = mean.data(), .rstd = rstd.data(),
        .gamma = gamma.data(), .dx = dx.data(),
        .dgamma = affine ? dgamma.data() : nullptr, .dbeta = affine ? dbeta.data() : nullptr,
    };
    const Tensor workspace = workspace_for(x, Runtime::instance().workspace(x.device(), params));
    params.workspace = workspace.data();
    Runtime::instance().launch(x.device(), params, name);
    return {dx, dgamma, dbeta};
  }
  static Tensors twin(const Attrs& attrs, Inputs in) { return {composed_layer_norm(in[0], in[1], in[2], attrs.eps)}; }
  static kernels::Cost cost(const Attrs&, Inputs in) {
    return kernels::cost(kernels::LayerNorm{.dtype = in[0].dtype(), .rows = rows_of(in[0]), .cols = in[0].size(-1)});
  }
};

struct BiasDropoutResidualLayerNorm {
  static constexpr const char* name = "bias_dropout_residual_layer_norm";
  static constexpr OpFlags flags{.recompute_cheap = true};
  static constexpr const char* branches[] = {"dropout", "no dropout"};
  struct Attrs {
    double eps;
    DropoutCall call;
    std::shared_ptr<const Packing> packing;
  };
  static Tensors forward(Forward& ctx, const Attrs& attrs, Inputs in) {
    const Tensor x = in[0].contiguous(), bias = in[1].contiguous(), residual = in[2].contiguous();
    const Tensor gamma = in[3].contiguous(), beta = in[4].contiguous();
    ctx.enter(attrs.call.threshold != 0 ? 0 : 1);
    Tensor y = Tensor::empty(x.shape(), x.options());
    const Tensor z = Tensor::empty(x.shape(), x.options());
    const Tensor mean = Tensor::empty({rows_of(x)}, computed_options(x));
    const Tensor rstd = Tensor::empty(mean.shape(), mean.options());
    const kernels::BiasDropoutResidualLayerNorm params{
        .dtype = x.dtype(), .rows = rows_of(x), .cols = x.size(-1), .eps = attrs.eps,
        .dropout = attrs.call.kernel(x.device()), .map = row_map(attrs.packing, x.device()),
        .x = x.data(), .bias = bias.data(), .residual = residual.data(), .gamma = gamma.data(), .beta = beta.data(),
        .z = z.data(), .y = y.data(), .mean = mean.data(), .rstd = rstd.data(),
    };
    Runtime::instance().launch(x.device(), params, name);
    ctx.save({z, gamma, mean, rstd});
    return {y};
  }
  static Tensors backward(Backward& ctx, const Attrs& attrs, Inputs grad) {
    const Tensor z = ctx.saved(0), gamma = ctx.saved(1), mean = ctx.saved(2), rstd = ctx.saved(3);
    const Tensor dy = grad[0].contiguous();
    const bool dropped = attrs.call.threshold != 0;
    const Tensor dresidual = Tensor::empty(z.shape(), z.options());
    const Tensor dx = dropped ? Tensor::empty(z.shape(), z.options()) : dresidual;
    const auto column_sums = [&] { return Tensor::empty(gamma.shape(), gamma.options()); };
    const Tensor dbias = column_sums(), dgamma = column_sums(), dbeta = column_sums();
    kernels::BiasDropoutResidualLayerNormBackward params{
        .dtype = z.dtype(), .rows = rows_of(z), .cols = z.size(-1),
        .dropout = attrs.call.kernel(z.device()), .map = row_map(attrs.packing, z.device()),
        .dy = dy.data(), .z = z.data(), .mean = mean.data(), .rstd = rstd.data(), .gamma = gamma.data(),
        .dx = dropped ? dx.data() : nullptr, .dresidual = dresidual.data(), .dbias = dbias.data(),
        .dgamma = dgamma.data(), .dbeta = dbeta.data(),
    };
    const Tensor workspace = workspace_for(z, Runtime::instance().workspace(z.device(), params));
    params.workspace = workspace.data();
    Runtime::instance().launch(z.device(), params, name);
    return {dx, dbias, dresidual, dgamma, dbeta};
  }
  static Tensors twin(const Attrs& attrs, Inputs in) {
    const Tensor u = in[0] + in[1];
    const Tensor dropped = attrs.call.threshold == 0 ? u : u * dropout_mask(u.detach(), attrs.call, attrs.packing);
    return {composed_layer_norm(dropped + in[2], in[3], in[4], attrs.eps)};
  }
  static kernels::Cost cost(const Attrs&, Inputs in) {
    return kernels::cost(kernels::BiasDropoutResidualLayerNorm{
        .dtype = in[0].dtype(), .rows = rows_of(in[0]), .cols = in[0].size(-1)});
  }
};

void check_affine(const char* op, const Tensor& x,
                  std::initializer_list<std::pair<const char*, const Tensor*>> vectors) {
  if (x.rank() == 0) fail(ErrorCode::usage, op, " of a scalar; it needs at least one dimension");
  for (const auto& [what, vector] : vectors) check_vector(op, what, x, *vector, x.size(-1));
}

}  // namespace

const OpRow layer_norm_op = make_row<LayerNorm>();
const OpRow bias_dropout_residual_layer_norm_op = make_row<BiasDropoutResidualLayerNorm>();

Tensor layer_norm(const Tensor& x, const Tensor& gamma, const Tensor& beta, double eps) {
  check_affine("layer_norm", x, {{"gamma", &gamma}, {"beta", &beta}});
  return run_op1(layer_norm_op, LayerNorm::Attrs{eps}, {x, gamma, beta});
}

Tensor bias_dropout_residual_layer_norm(const Tensor& x, const Tensor& bias, const Tensor& residual,
                                        const Tensor& gamma, const Tensor& beta, double eps, double p,
                                        std::uint32_t site, const std::shared_ptr<const Packing>& packing) {
  const char* op = bias_dropout_residual_layer_norm_op.name;
  check_affine(op, x, {{"bias", &bias}, {"gamma", &gamma}, {"beta", &beta}});
  check_same_kind(op, {&x, &residual});
  check_shape(op, "residual", residual, x.shape());
  const DropoutCall call = DropoutCall::make(p, site, op);
  return run_op1(bias_dropout_residual_layer_norm_op, BiasDropoutResidualLayerNorm::Attrs{eps, call, packing},
                 {x, bias, residual, gamma, beta});
}

}  // namespace sinter
