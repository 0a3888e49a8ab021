#include "core/ops/reduce.h"

#include <numeric>

#include "core/error.h"
#include "core/op.h"
#include "core/ops/elementwise.h"
#include "core/ops/registry.h"
#include "core/runtime/runtime.h"
#include "kernels/reduce.h"

namespace sinter {

using kernels::ReduceOp;

namespace {

struct ReduceAttrs {
  Shape from;
  std::uint32_t reduced = 0;   ///< bit d: dimension d is reduced
  bool keepdim = false;
};

/// Shape of the result with sizes of 1 where dimensions were reduced.
Shape kept_shape(const ReduceAttrs& attrs) {
  Shape shape = attrs.from;
  for (int d = 0; d < shape.rank(); ++d)
    if ((attrs.reduced >> d & 1u) != 0) shape[d] = 1;
  return shape;
}

Tensor launch_reduce(ReduceOp op, const char* op_name, const Tensor& x, const ReduceAttrs& attrs) {
  Shape shape;
  for (int d = 0; d < x.rank(); ++d)
    if ((attrs.reduced >> d & 1u) == 0) shape.push_back(x.size(d));
  const Dtype dtype = x.dtype() == Dtype::boolean && op == ReduceOp::sum ? Dtype::i64 : x.dtype();
  Tensor out = Tensor::empty(shape, {dtype, x.device()});
  kernels::Reduce params{
      .op = op,
      .dtype = x.dtype(),
      .extents = x.shape().extents(),
      .in_strides = x.strides().steps(),
      .reduced = attrs.reduced,
      .in = x.data(),
      .out = out.data(),
  };
  Runtime& runtime = Runtime::instance();
  const auto bytes = static_cast<std::int64_t>(runtime.workspace(x.device(), params));
  const Tensor workspace = Tensor::empty({bytes}, {Dtype::u8, x.device()});
  params.workspace = workspace.data();
  runtime.launch(x.device(), params, op_name);
  return attrs.keepdim ? out.reshape(kept_shape(attrs)) : out;
}

struct Sum {
  static constexpr const char* name = "sum";
  static constexpr OpFlags flags{.second_order = true};
  using Attrs = ReduceAttrs;
  static Tensors forward(Forward&, const Attrs& attrs, Inputs in) {
    return {launch_reduce(ReduceOp::sum, name, in[0], attrs)};
  }
  static Tensors backward(Backward&, const Attrs& attrs, Inputs dy) {
    return {dy[0].reshape(kept_shape(attrs)).expand(attrs.from)};
  }
};

/// The elements that equal the extremum share its gradient evenly.
Tensors extremum_backward(Backward& ctx, const ReduceAttrs& attrs, Inputs dy) {
  const Tensor x = ctx.saved(0);
  const Tensor y = ctx.saved(1).reshape(kept_shape(attrs));
  const Tensor hit = eq(x, y).to(x.dtype());
  std::vector<int> dims;
  for (int d = 0; d < attrs.from.rank(); ++d)
    if ((attrs.reduced >> d & 1u) != 0) dims.push_back(d);
  return {dy[0].reshape(kept_shape(attrs)) * (hit / sum(hit, dims, true))};
}

struct Amax {
  static constexpr const char* name = "amax";
  static constexpr OpFlags flags{.second_order = true};
  using Attrs = ReduceAttrs;
  static Tensors forward(Forward& ctx, const Attrs& attrs, Inputs in) {
    Tensor y = launch_reduce(ReduceOp::max, name, in[0], attrs);
    ctx.save({in[0], y});
    return {y};
  }
  static Tensors backward(Backward& ctx, const Attrs& attrs, Inputs dy) { return extremum_backward(ctx, attrs, dy); }
};

struct Amin {
  static constexpr const char* name = "amin";
  static constexpr OpFlags flags{.second_order = true};
  using Attrs = ReduceAttrs;
  static Tensors forward(Forward& ctx, const Attrs& attrs, Inputs in) {
    Tensor y = launch_reduce(ReduceOp::min, name, in[0], attrs);
    ctx.save({in[0], y});
    return {y};
  }
  static Tensors backward(Backward& ctx, const Attrs& attrs, Inputs dy) { return extremum_backward(ctx, attrs, dy); }
};

struct Argmax {
  static constexpr const char* name = "argmax";
  static constexpr OpFlags flags{};
  struct Attrs {
    int d;
  };
  static Tensors forward(Forward&, const Attrs& attrs, Inputs in) {
    const Tensor x = in[0].contiguous();
    kernels::ArgReduce params{.dtype = x.dtype(), .outer = 1, .n = x.size(attrs.d), .inner = 1, .in = x.data()};
    for (int d = 0; d < x.rank(); ++d) (d < attrs.d ? params.outer : params.inner) *= d == attrs.d ? 1 : x.size(d);
    Shape shape = x.shape();
    shape.erase(attrs.d);
    Tensor out = Tensor::empty(shape, {Dtype::i64, x.device()});
    params.out = out.data<std::int64_t>();
    Runtime::instance().launch(x.device(), params, name);
    return {out};
  }
};

ReduceAttrs reduce_attrs(const OpRow& op, const Tensor& x, const std::vector<int>& dims, bool keepdim) {
  ReduceAttrs attrs{x.shape(), 0, keepdim};
  for (const int dim : dims) {
    const int d = x.shape().dimension(dim);
    if ((attrs.reduced >> d & 1u) != 0)
      fail(ErrorCode::usage, op.name, " of ", x.shape(), ": dimension ", d, " stands twice");
    attrs.reduced |= 1u << d;
  }
  return attrs;
}

std::vector<int> all_dims(const Tensor& x) {
  std::vector<int> dims(static_cast<std::size_t>(x.rank()));
  std::iota(dims.begin(), dims.end(), 0);
  return dims;
}

}  // namespace

const OpRow sum_op = make_row<Sum>();
const OpRow amax_op = make_row<Amax>();
const OpRow amin_op = make_row<Amin>();
const OpRow argmax_op = make_row<Argmax>();

Tensor sum(const Tensor& x) { return sum(x, all_dims(x)); }
Tensor sum(const Tensor& x, const std::vector<int>& dims, bool keepdim) {
  return run_op1(sum_op, reduce_attrs(sum_op, x, dims, keepdim), {x});
}
Tensor mean(const Tensor& x) { return mean(x, all_dims(x)); }
Tensor mean(const Tensor& x, const std::vector<int>& dims, bool keepdim) {
  double n = 1;
  for (const int d : dims) n *= static_cast<double>(x.size(d));
  return sum(x, dims, keepdim) * (1 / n);
}
Tensor amax(const Tensor& x, const std::vector<int>& dims, bool keepdim) {
  return run_op1(amax_op, reduce_attrs(amax_op, x, dims, keepdim), {x});
}
Tensor amin(const Tensor& x, const std::vector<int>& dims, bool keepdim) {
  return run_op1(amin_op, reduce_attrs(amin_op, x, dims, keepdim), {x});
}
Tensor argmax(const Tensor& x, int d) { return run_op1(argmax_op, Argmax::Attrs{x.shape().dimension(d)}, {x}); }

}  // namespace sinter
