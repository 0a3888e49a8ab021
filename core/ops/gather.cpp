#include "core/ops/gather.h"

#include "core/error.h"
#include "core/op.h"
#include "core/ops/broadcast.h"
#include "core/ops/registry.h"
#include "core/runtime/runtime.h"
#include "kernels/gather.h"

namespace sinter {

void check_indices(const char* op, const char* what, const Tensor& index, std::int64_t n) {
  check_dtype(op, what, index, Dtype::i64);
  if (!index.device().is_cpu()) return;
  const Tensor dense = index.contiguous();
  const std::int64_t* values = dense.data<std::int64_t>();
  for (std::int64_t i = 0; i < dense.numel(); ++i)
    if (values[i] < 0 || values[i] >= n)
      fail(ErrorCode::usage, op, ": ", what, " ", i, " is ", values[i], ", it must lie between 0 and ", n - 1);
}

Tensor checked_indices(const char* op, const char* what, const Tensor& index, std::int64_t n, Device device) {
  check_indices(op, what, index, n);
  return upload({&index, 1}, device)[0];
}

namespace {

/// Runs a kernel of kernels/gather.h along dimension d: `big`, which is src or dst, has n places there, and `index`
/// names m of them.
template <class Params>
void launch(const char* op, const Tensor& big, int d, const Tensor& index, std::int64_t m, const Tensor& src,
            const Tensor& dst) {
  Params params{.dtype = big.dtype(), .outer = 1, .n = big.size(d), .inner = 1, .m = m};
  for (int i = 0; i < big.rank(); ++i)
    if (i != d) (i < d ? params.outer : params.inner) *= big.size(i);
  params.src = src.data();
  params.index = index.data<std::int64_t>();
  params.dst = dst.data();
  Runtime::instance().launch(big.device(), params, op);
}

struct DimAttrs {
  Shape from;
  int d = 0;
};

struct IndexSelect {
  static constexpr const char* name = "index_select";
  static constexpr OpFlags flags{.second_order = true};
  using Attrs = DimAttrs;
  static Tensors forward(Forward& ctx, const Attrs& attrs, Inputs in) {
    const Tensor x = in[0].contiguous();
    const Tensor index = checked_indices(name, "index", in[1], x.size(attrs.d), x.device());
    Shape shape = x.shape();
    shape[attrs.d] = index.numel();
    Tensor out = Tensor::empty(shape, x.options());
    launch<kernels::IndexSelect>(name, x, attrs.d, index, index.numel(), x, out);
    ctx.save({index});
    return {out};
  }
  static Tensors backward(Backward& ctx, const Attrs& attrs, Inputs dy) {
    return {index_add(Tensor::zeros(attrs.from, dy[0].options()), attrs.d, ctx.saved(0), dy[0]), Tensor()};
  }
};

struct IndexAdd {
  static constexpr const char* name = "index_add";
  static constexpr OpFlags flags{.second_order = true};
  using Attrs = DimAttrs;
  static Tensors forward(Forward& ctx, const Attrs& attrs, Inputs in) {
    const Tensor source = in[2].contiguous();
    check_same_kind(name, {&in[0], &source});
    const Tensor index = checked_indices(name, "index", in[1], in[0].size(attrs.d), source.device());
    Shape expected = in[0].shape();
    expected[attrs.d] = index.numel();
    check_shape(name, "source", source, expected);
    Tensor out = in[0].clone();
    launch<kernels::IndexAdd>(name, out, attrs.d, index, index.numel(), source, out);
    ctx.save({index});
    return {out};
  }
  static Tensors backward(Backward& ctx, const Attrs& attrs, Inputs dy) {
    return {dy[0], Tensor(), ctx.needs(2) ? index_select(dy[0], attrs.d, ctx.saved(0)) : Tensor()};
  }
};

/// checked_indices of an `index` that has the sizes of `x` but along d.
Tensor checked_gather_index(const char* op, const Tensor& x, int d, const Tensor& index) {
  Shape expected = x.shape();
  if (index.rank() == x.rank()) expected[d] = index.size(d);
  check_shape(op, "index", index, expected);
  return checked_indices(op, "index", index, x.size(d), x.device());
}

struct Gather {
  static constexpr const char* name = "gather";
  static constexpr OpFlags flags{.second_order = true};
  using Attrs = DimAttrs;
  static Tensors forward(Forward& ctx, const Attrs& attrs, Inputs in) {
    const Tensor x = in[0].contiguous(), index = checked_gather_index(name, x, attrs.d, in[1]);
    Tensor out = Tensor::empty(index.shape(), x.options());
    launch<kernels::Gather>(name, x, attrs.d, index, index.size(attrs.d), x, out);
    ctx.save({index});
    return {out};
  }
  static Tensors backward(Backward& ctx, const Attrs& attrs, Inputs dy) {
    return {scatter_add(Tensor::zeros(attrs.from, dy[0].options()), attrs.d, ctx.saved(0), dy[0]), Tensor()};
  }
};

struct ScatterAdd {
  static constexpr const char* name = "scatter_add";
  static constexpr OpFlags flags{.second_order = true};
  using Attrs = DimAttrs;
  static Tensors forward(Forward& ctx, const Attrs& attrs, Inputs in) {
    const Tensor source = in[2].contiguous();
    check_same_kind(name, {&in[0], &source});
    const Tensor index = checked_gather_index(name, in[0], attrs.d, in[1]);
    check_shape(name, "source", source, index.shape());
    Tensor out = in[0].clone();
    launch<kernels::ScatterAdd>(name, out, attrs.d, index, index.size(attrs.d), source, out);
    ctx.save({index});
    return {out};
  }
  static Tensors backward(Backward& ctx, const Attrs& attrs, Inputs dy) {
    return {dy[0], Tensor(), ctx.needs(2) ? gather(dy[0], attrs.d, ctx.saved(0)) : Tensor()};
  }
};

DimAttrs dim_attrs(const Tensor& x, int d) { return {x.shape(), x.shape().dimension(d)}; }

}  // namespace

const OpRow index_select_op = make_row<IndexSelect>();
const OpRow index_add_op = make_row<IndexAdd>();
const OpRow gather_op = make_row<Gather>();
const OpRow scatter_add_op = make_row<ScatterAdd>();

Tensor index_select(const Tensor& x, int d, const Tensor& index) {
  check_shape("index_select", "index", index, {index.numel()});
  return run_op1(index_select_op, dim_attrs(x, d), {x, index});
}
Tensor index_add(const Tensor& x, int d, const Tensor& index, const Tensor& source) {
  check_shape("index_add", "index", index, {index.numel()});
  return run_op1(index_add_op, dim_attrs(x, d), {x, index, source});
}
Tensor gather(const Tensor& x, int d, const Tensor& index) {
  return run_op1(gather_op, dim_attrs(x, d), {x, index});
}
Tensor scatter_add(const Tensor& x, int d, const Tensor& index, const Tensor& source) {
  return run_op1(scatter_add_op, dim_attrs(x, d), {x, index, source});
}

}  // namespace sinter
