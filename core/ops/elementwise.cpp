#include "core/ops/elementwise.h"

#include <cmath>
#include <numbers>

#include "core/error.h"
#include "core/op.h"
#include "core/ops/broadcast.h"
#include "core/ops/reduce.h"
#include "core/ops/registry.h"
#include "core/runtime/runtime.h"
#include "kernels/elementwise.h"

namespace sinter {

using kernels::BinaryOp;
using kernels::UnaryOp;

namespace {

constexpr OpFlags kElementwise{.second_order = true, .recompute_cheap = true};

Tensor launch_unary(UnaryOp op, const char* op_name, const Tensor& x, double alpha = 0) {
  Tensor out = Tensor::empty(x.shape(), x.options());
  const kernels::Unary params{
      .op = op,
      .dtype = x.dtype(),
      .extents = x.shape().extents(),
      .in_strides = x.strides().steps(),
      .alpha = alpha,
      .in = x.data(),
      .out = out.data(),
  };
  Runtime::instance().launch(x.device(), params, op_name);
  return out;
}

Tensor launch_binary(BinaryOp op, const char* op_name, const Tensor& a, const Tensor& b) {
  check_same_kind(op_name, {&a, &b});
  const Shape shape = broadcast(a.shape(), b.shape(), op_name);
  const Dtype result = kernels::is_comparison(op) ? Dtype::boolean : a.dtype();
  Tensor out = Tensor::empty(shape, {result, a.device()});
  const kernels::Binary params{
      .op = op,
      .dtype = a.dtype(),
      .extents = shape.extents(),
      .a_strides = broadcast_steps(a, shape, op_name),
      .b_strides = broadcast_steps(b, shape, op_name),
      .a = a.data(),
      .b = b.data(),
      .out = out.data(),
  };
  Runtime::instance().launch(a.device(), params, op_name);
  return out;
}

Tensor scalar_like(const Tensor& x, double value) { return Tensor::full({}, value, x.options()); }

// --- Unary: each op is a formula for dx from dy and what it kept, x or y --------------------------------------------

struct NoAttrs {};

enum class Keep { nothing, input, output };

template <UnaryOp op, Keep keep>
Tensors unary_forward(const char* op_name, Forward& ctx, Inputs in) {
  Tensor y = launch_unary(op, op_name, in[0]);
  if constexpr (keep == Keep::input) ctx.save({in[0]});
  if constexpr (keep == Keep::output) ctx.save({y});
  return {y};
}

#define SINTER_UNARY(Struct, op, text, kept, variable, gradient)                        \
  struct Struct {                                                                       \
    static constexpr const char* name = text;                                           \
    static constexpr OpFlags flags = kElementwise;                                      \
    using Attrs = NoAttrs;                                                              \
    static Tensors forward(Forward& ctx, const Attrs&, Inputs in) {                     \
      return unary_forward<UnaryOp::op, Keep::kept>(name, ctx, in);                     \
    }                                                                                   \
    static Tensors backward(Backward& ctx, const Attrs&, Inputs grad) {                 \
      const Tensor &dy = grad[0], variable = ctx.saved(0);                              \
      return {gradient};                                                                \
    }                                                                                   \
  }

SINTER_UNARY(Exp, exp, "exp", output, y, dy * y);
SINTER_UNARY(Log, log, "log", input, x, dy / x);
SINTER_UNARY(Sqrt, sqrt, "sqrt", output, y, dy * reciprocal(y) * 0.5);
SINTER_UNARY(Rsqrt, rsqrt, "rsqrt", output, y, dy * pow(y, 3) * -0.5);
SINTER_UNARY(Reciprocal, reciprocal, "reciprocal", output, y, neg(dy * y * y));
SINTER_UNARY(Sin, sin, "sin", input, x, dy * cos(x));
SINTER_UNARY(Cos, cos, "cos", input, x, neg(dy * sin(x)));
SINTER_UNARY(Tanh, tanh, "tanh", output, y, dy * (1.0 - y * y));
SINTER_UNARY(Erf, erf, "erf", input, x, dy * exp(neg(x * x)) * (2 * std::numbers::inv_sqrtpi));
SINTER_UNARY(Sigmoid, sigmoid, "sigmoid", output, y, dy * y * (1.0 - y));
SINTER_UNARY(Relu, relu, "relu", output, y, where(gt(y, scalar_like(y, 0)), dy, scalar_like(dy, 0)));
SINTER_UNARY(Abs, abs, "abs", input, x,
             dy * (gt(x, scalar_like(x, 0)).to(x.dtype()) - lt(x, scalar_like(x, 0)).to(x.dtype())));
#undef SINTER_UNARY

struct Neg {
  static constexpr const char* name = "neg";
  static constexpr OpFlags flags = kElementwise;
  using Attrs = NoAttrs;
  static Tensors forward(Forward&, const Attrs&, Inputs in) { return {launch_unary(UnaryOp::neg, name, in[0])}; }
  static Tensors backward(Backward&, const Attrs&, Inputs dy) { return {neg(dy[0])}; }
};

struct ScalarAttrs {
  double value = 0;
};

struct AddScalar {
  static constexpr const char* name = "add_scalar";
  static constexpr OpFlags flags = kElementwise;
  using Attrs = ScalarAttrs;
  static Tensors forward(Forward&, const Attrs& attrs, Inputs in) {
    return {launch_unary(UnaryOp::add_scalar, name, in[0], attrs.value)};
  }
  static Tensors backward(Backward&, const Attrs&, Inputs dy) { return {dy[0]}; }
};

struct MulScalar {
  static constexpr const char* name = "mul_scalar";
  static constexpr OpFlags flags = kElementwise;
  using Attrs = ScalarAttrs;
  static Tensors forward(Forward&, const Attrs& attrs, Inputs in) {
    return {launch_unary(UnaryOp::mul_scalar, name, in[0], attrs.value)};
  }
  static Tensors backward(Backward&, const Attrs& attrs, Inputs dy) { return {dy[0] * attrs.value}; }
};

struct PowScalar {
  static constexpr const char* name = "pow_scalar";
  static constexpr OpFlags flags = kElementwise;
  using Attrs = ScalarAttrs;
  static Tensors forward(Forward& ctx, const Attrs& attrs, Inputs in) {
    ctx.save({in[0]});
    return {launch_unary(UnaryOp::pow_scalar, name, in[0], attrs.value)};
  }
  static Tensors backward(Backward& ctx, const Attrs& attrs, Inputs dy) {
    if (attrs.value == 0) return {Tensor::zeros(dy[0].shape(), dy[0].options())};  // 0 * pow(x, -1) is NaN at 0
    return {dy[0] * (pow(ctx.saved(0), attrs.value - 1) * attrs.value)};
  }
};

struct LogicalNot {
  static constexpr const char* name = "logical_not";
  static constexpr OpFlags flags{};
  using Attrs = NoAttrs;
  static Tensors forward(Forward&, const Attrs&, Inputs in) {
    return {launch_unary(UnaryOp::logical_not, name, in[0])};
  }
};

// --- Binary: gradients are summed over what was broadcast -----------------------------------------------------------

struct ShapesAttrs {
  Shape a, b;
};

struct Add {
  static constexpr const char* name = "add";
  static constexpr OpFlags flags = kElementwise;
  using Attrs = ShapesAttrs;
  static Tensors forward(Forward&, const Attrs&, Inputs in) {
    return {launch_binary(BinaryOp::add, name, in[0], in[1])};
  }
  static Tensors backward(Backward& ctx, const Attrs& attrs, Inputs dy) {
    return {ctx.needs(0) ? sum_to(dy[0], attrs.a) : Tensor(), ctx.needs(1) ? sum_to(dy[0], attrs.b) : Tensor()};
  }
};

struct Sub {
  static constexpr const char* name = "sub";
  static constexpr OpFlags flags = kElementwise;
  using Attrs = ShapesAttrs;
  static Tensors forward(Forward&, const Attrs&, Inputs in) {
    return {launch_binary(BinaryOp::sub, name, in[0], in[1])};
  }
  static Tensors backward(Backward& ctx, const Attrs& attrs, Inputs dy) {
    return {ctx.needs(0) ? sum_to(dy[0], attrs.a) : Tensor(), ctx.needs(1) ? sum_to(neg(dy[0]), attrs.b) : Tensor()};
  }
};

struct Mul {
  static constexpr const char* name = "mul";
  static constexpr OpFlags flags = kElementwise;
  using Attrs = NoAttrs;
  static Tensors forward(Forward& ctx, const Attrs&, Inputs in) {
    ctx.save({in[0], in[1]});
    return {launch_binary(BinaryOp::mul, name, in[0], in[1])};
  }
  static Tensors backward(Backward& ctx, const Attrs&, Inputs dy) {
    const Tensor a = ctx.saved(0), b = ctx.saved(1);
    return {ctx.needs(0) ? sum_to(dy[0] * b, a.shape()) : Tensor(),
            ctx.needs(1) ? sum_to(dy[0] * a, b.shape()) : Tensor()};
  }
};

struct Div {
  static constexpr const char* name = "div";
  static constexpr OpFlags flags = kElementwise;
  using Attrs = NoAttrs;
  static Tensors forward(Forward& ctx, const Attrs&, Inputs in) {
    ctx.save({in[0], in[1]});
    return {launch_binary(BinaryOp::div, name, in[0], in[1])};
  }
  static Tensors backward(Backward& ctx, const Attrs&, Inputs dy) {
    const Tensor a = ctx.saved(0), b = ctx.saved(1);
    const Tensor da = dy[0] / b;
    return {ctx.needs(0) ? sum_to(da, a.shape()) : Tensor(),
            ctx.needs(1) ? sum_to(neg(da * (a / b)), b.shape()) : Tensor()};
  }
};

/// Gradient of max or min: to the side that won, half to each where both are equal.
template <BinaryOp wins>
Tensors extremum_backward(Backward& ctx, Inputs dy) {
  const Tensor a = ctx.saved(0), b = ctx.saved(1);
  const Tensor tie = launch_binary(BinaryOp::eq, "eq", a, b).to(a.dtype()) * 0.5;
  const Tensor to_a = launch_binary(wins, "compare", a, b).to(a.dtype()) + tie;
  return {ctx.needs(0) ? sum_to(dy[0] * to_a, a.shape()) : Tensor(),
          ctx.needs(1) ? sum_to(dy[0] * (1.0 - to_a), b.shape()) : Tensor()};
}

struct Maximum {
  static constexpr const char* name = "maximum";
  static constexpr OpFlags flags = kElementwise;
  using Attrs = NoAttrs;
  static Tensors forward(Forward& ctx, const Attrs&, Inputs in) {
    ctx.save({in[0], in[1]});
    return {launch_binary(BinaryOp::maximum, name, in[0], in[1])};
  }
  static Tensors backward(Backward& ctx, const Attrs&, Inputs dy) { return extremum_backward<BinaryOp::gt>(ctx, dy); }
};

struct Minimum {
  static constexpr const char* name = "minimum";
  static constexpr OpFlags flags = kElementwise;
  using Attrs = NoAttrs;
  static Tensors forward(Forward& ctx, const Attrs&, Inputs in) {
    ctx.save({in[0], in[1]});
    return {launch_binary(BinaryOp::minimum, name, in[0], in[1])};
  }
  static Tensors backward(Backward& ctx, const Attrs&, Inputs dy) { return extremum_backward<BinaryOp::lt>(ctx, dy); }
};

struct BinaryOpAttrs {
  BinaryOp op;
};

struct Compare {
  static constexpr const char* name = "compare";
  static constexpr OpFlags flags{};
  using Attrs = BinaryOpAttrs;
  static Tensors forward(Forward&, const Attrs& attrs, Inputs in) {
    return {launch_binary(attrs.op, name, in[0], in[1])};
  }
};

struct Logical {
  static constexpr const char* name = "logical";
  static constexpr OpFlags flags{};
  using Attrs = BinaryOpAttrs;
  static Tensors forward(Forward&, const Attrs& attrs, Inputs in) {
    return {launch_binary(attrs.op, name, in[0], in[1])};
  }
};

struct Where {
  static constexpr const char* name = "where";
  static constexpr OpFlags flags = kElementwise;
  using Attrs = ShapesAttrs;
  static Tensors forward(Forward& ctx, const Attrs&, Inputs in) {
    const Tensor &condition = in[0], &a = in[1], &b = in[2];
    check_same_kind(name, {&a, &b});
    check_dtype(name, "the condition", condition, Dtype::boolean);
    const Shape shape = broadcast(broadcast(a.shape(), b.shape(), name), condition.shape(), name);
    Tensor out = Tensor::empty(shape, a.options());
    const kernels::Where params{
        .dtype = a.dtype(),
        .extents = shape.extents(),
        .condition_strides = broadcast_steps(condition, shape, name),
        .a_strides = broadcast_steps(a, shape, name),
        .b_strides = broadcast_steps(b, shape, name),
        .condition = condition.data(),
        .a = a.data(),
        .b = b.data(),
        .out = out.data(),
    };
    Runtime::instance().launch(a.device(), params, name);
    ctx.save({condition});
    return {out};
  }
  static Tensors backward(Backward& ctx, const Attrs& attrs, Inputs dy) {
    const Tensor condition = ctx.saved(0);
    const Tensor zero = scalar_like(dy[0], 0);
    return {Tensor(), ctx.needs(1) ? sum_to(where(condition, dy[0], zero), attrs.a) : Tensor(),
            ctx.needs(2) ? sum_to(where(condition, zero, dy[0]), attrs.b) : Tensor()};
  }
};

Tensor compare(BinaryOp op, const Tensor& a, const Tensor& b) { return run_op1(compare_op, BinaryOpAttrs{op}, {a, b}); }
Tensor logical(BinaryOp op, const Tensor& a, const Tensor& b) { return run_op1(logical_op, BinaryOpAttrs{op}, {a, b}); }

}  // namespace

const OpRow neg_op = make_row<Neg>();
const OpRow abs_op = make_row<Abs>();
const OpRow exp_op = make_row<Exp>();
const OpRow log_op = make_row<Log>();
const OpRow sqrt_op = make_row<Sqrt>();
const OpRow rsqrt_op = make_row<Rsqrt>();
const OpRow reciprocal_op = make_row<Reciprocal>();
const OpRow sin_op = make_row<Sin>();
const OpRow cos_op = make_row<Cos>();
const OpRow tanh_op = make_row<Tanh>();
const OpRow erf_op = make_row<Erf>();
const OpRow sigmoid_op = make_row<Sigmoid>();
const OpRow relu_op = make_row<Relu>();
const OpRow add_scalar_op = make_row<AddScalar>();
const OpRow mul_scalar_op = make_row<MulScalar>();
const OpRow pow_scalar_op = make_row<PowScalar>();
const OpRow logical_not_op = make_row<LogicalNot>();
const OpRow add_op = make_row<Add>();
const OpRow sub_op = make_row<Sub>();
const OpRow mul_op = make_row<Mul>();
const OpRow div_op = make_row<Div>();
const OpRow maximum_op = make_row<Maximum>();
const OpRow minimum_op = make_row<Minimum>();
const OpRow compare_op = make_row<Compare>();
const OpRow logical_op = make_row<Logical>();
const OpRow where_op = make_row<Where>();

Tensor neg(const Tensor& x) { return run_op1(neg_op, NoAttrs{}, {x}); }
Tensor abs(const Tensor& x) { return run_op1(abs_op, NoAttrs{}, {x}); }
Tensor exp(const Tensor& x) { return run_op1(exp_op, NoAttrs{}, {x}); }
Tensor log(const Tensor& x) { return run_op1(log_op, NoAttrs{}, {x}); }
Tensor sqrt(const Tensor& x) { return run_op1(sqrt_op, NoAttrs{}, {x}); }
Tensor rsqrt(const Tensor& x) { return run_op1(rsqrt_op, NoAttrs{}, {x}); }
Tensor reciprocal(const Tensor& x) { return run_op1(reciprocal_op, NoAttrs{}, {x}); }
Tensor sin(const Tensor& x) { return run_op1(sin_op, NoAttrs{}, {x}); }
Tensor cos(const Tensor& x) { return run_op1(cos_op, NoAttrs{}, {x}); }
Tensor tanh(const Tensor& x) { return run_op1(tanh_op, NoAttrs{}, {x}); }
Tensor erf(const Tensor& x) { return run_op1(erf_op, NoAttrs{}, {x}); }
Tensor sigmoid(const Tensor& x) { return run_op1(sigmoid_op, NoAttrs{}, {x}); }
Tensor relu(const Tensor& x) { return run_op1(relu_op, NoAttrs{}, {x}); }
Tensor pow(const Tensor& x, double exponent) { return run_op1(pow_scalar_op, ScalarAttrs{exponent}, {x}); }

Tensor add(const Tensor& a, const Tensor& b) { return run_op1(add_op, ShapesAttrs{a.shape(), b.shape()}, {a, b}); }
Tensor sub(const Tensor& a, const Tensor& b) { return run_op1(sub_op, ShapesAttrs{a.shape(), b.shape()}, {a, b}); }
Tensor mul(const Tensor& a, const Tensor& b) { return run_op1(mul_op, NoAttrs{}, {a, b}); }
Tensor div(const Tensor& a, const Tensor& b) { return run_op1(div_op, NoAttrs{}, {a, b}); }
Tensor add(const Tensor& a, double b) { return run_op1(add_scalar_op, ScalarAttrs{b}, {a}); }
Tensor mul(const Tensor& a, double b) { return run_op1(mul_scalar_op, ScalarAttrs{b}, {a}); }
Tensor maximum(const Tensor& a, const Tensor& b) { return run_op1(maximum_op, NoAttrs{}, {a, b}); }
Tensor minimum(const Tensor& a, const Tensor& b) { return run_op1(minimum_op, NoAttrs{}, {a, b}); }

Tensor eq(const Tensor& a, const Tensor& b) { return compare(BinaryOp::eq, a, b); }
Tensor ne(const Tensor& a, const Tensor& b) { return compare(BinaryOp::ne, a, b); }
Tensor lt(const Tensor& a, const Tensor& b) { return compare(BinaryOp::lt, a, b); }
Tensor le(const Tensor& a, const Tensor& b) { return compare(BinaryOp::le, a, b); }
Tensor gt(const Tensor& a, const Tensor& b) { return compare(BinaryOp::gt, a, b); }
Tensor ge(const Tensor& a, const Tensor& b) { return compare(BinaryOp::ge, a, b); }
Tensor logical_and(const Tensor& a, const Tensor& b) { return logical(BinaryOp::logical_and, a, b); }
Tensor logical_or(const Tensor& a, const Tensor& b) { return logical(BinaryOp::logical_or, a, b); }
Tensor logical_not(const Tensor& x) { return run_op1(logical_not_op, NoAttrs{}, {x}); }

Tensor where(const Tensor& condition, const Tensor& a, const Tensor& b) {
  return run_op1(where_op, ShapesAttrs{a.shape(), b.shape()}, {condition, a, b});
}

Tensor masked_fill(const Tensor& x, const Tensor& mask, double value) {
  return where(mask, Tensor::full({}, value, x.options()), x);
}

Tensor sum_to(const Tensor& gradient, const Shape& shape) {
  if (gradient.shape() == shape) return gradient;
  const int extra = gradient.rank() - shape.rank();
  std::vector<int> dims;
  for (int d = 0; d < gradient.rank(); ++d)
    if (d < extra || (shape[d - extra] == 1 && gradient.shape()[d] != 1)) dims.push_back(d);
  return sum(gradient, dims, true).reshape(shape);
}

}  // namespace sinter
