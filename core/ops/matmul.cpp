#include "core/ops/matmul.h"

#include <optional>

#include "core/error.h"
#include "core/op.h"
#include "core/ops/broadcast.h"
#include "core/ops/elementwise.h"
#include "core/ops/reduce.h"
#include "core/ops/registry.h"
#include "core/runtime/runtime.h"
#include "kernels/gemm.h"

namespace sinter {
namespace {

/// The last two dimensions of a tensor as a GEMM operand.
struct Matrix {
  Tensor tensor;      ///< holds the memory
  bool transposed = false;
  std::int64_t ld = 0;
  std::int64_t batch_stride = 0;
};

/// Stride between the matrices of a batch when all leading dimensions can be walked with one; nothing otherwise.
std::optional<std::int64_t> single_batch_stride(const Tensor& x) {
  std::int64_t stride = 0, count = 1;
  for (int d = x.rank() - 3; d >= 0; --d) {
    if (x.size(d) == 1) continue;
    if (count == 1) {
      stride = x.strides()[d];
    } else if (x.strides()[d] != stride * count) {
      return std::nullopt;
    }
    count *= x.size(d);
  }
  return stride;
}

Matrix as_matrix(const Tensor& x) {
  const int r = x.rank();
  const std::int64_t rows = x.size(-2), cols = x.size(-1);
  const std::int64_t row_step = x.strides()[r - 2], col_step = x.strides()[r - 1];
  const std::optional<std::int64_t> batch_stride = single_batch_stride(x);
  if (batch_stride && (col_step == 1 || cols == 1) && row_step >= cols) return {x, false, row_step, *batch_stride};
  if (batch_stride && (row_step == 1 || rows == 1) && col_step >= rows) return {x, true, col_step, *batch_stride};
  const Tensor dense = x.clone();
  return {dense, false, std::max<std::int64_t>(cols, 1), rows * cols};
}

/// c (+)= op(a) op(b) + bias over `batch` matrices of c [M, N].
void launch_gemm(const char* op, const Matrix& a, const Matrix& b, const Tensor& c, std::int64_t batch, std::int64_t m,
                 std::int64_t n, std::int64_t k, const Tensor& bias = {}, bool accumulate = false) {
  kernels::Gemm params{
      .dtype = c.dtype(),
      .transpose_a = a.transposed,
      .transpose_b = b.transposed,
      .accumulate = accumulate,
      .m = m,
      .n = n,
      .k = k,
      .batch = batch,
      .a = a.tensor.data(),
      .b = b.tensor.data(),
      .c = c.data(),
      .bias = bias.defined() ? bias.data() : nullptr,
      .lda = a.ld,
      .ldb = b.ld,
      .ldc = std::max<std::int64_t>(n, 1),
      .batch_stride_a = a.batch_stride,
      .batch_stride_b = b.batch_stride,
      .batch_stride_c = m * n,
  };
  Runtime& runtime = Runtime::instance();
  const auto bytes = static_cast<std::int64_t>(runtime.workspace(c.device(), params));
  const Tensor workspace = Tensor::empty({bytes}, {Dtype::u8, c.device()});
  params.workspace = workspace.data();
  runtime.launch(c.device(), params, op);
}

kernels::Cost product_cost(std::int64_t batch, std::int64_t m, std::int64_t n, std::int64_t k, Dtype dtype) {
  return kernels::cost(kernels::Gemm{.dtype = dtype, .m = m, .n = n, .k = k, .batch = batch});
}

/// The shape of the batch that x is: all dimensions but the last two.
Shape leading(const Tensor& x) { return Shape(std::span(x.shape().begin(), static_cast<std::size_t>(x.rank() - 2))); }

struct Matmul {
  static constexpr const char* name = "matmul";
  static constexpr OpFlags flags{.second_order = true};
  static constexpr const char* branches[] = {"folded", "batched"};
  struct Attrs {};

  static Tensors forward(Forward& ctx, const Attrs&, Inputs in) {
    const Tensor &a = in[0], &b = in[1];
    const std::int64_t m = a.size(-2), k = a.size(-1), n = b.size(-1);
    ctx.save({a, b});
    Shape shape = batch_shape(a, b);
    const std::int64_t batch = shape.numel();
    shape.push_back(m);
    shape.push_back(n);
    Tensor c = Tensor::empty(shape, a.options());
    if (b.rank() == 2 && a.is_contiguous()) {  // the whole batch of a is one tall matrix
      ctx.enter(0);
      launch_gemm(name, as_matrix(a.reshape({batch * m, k})), as_matrix(b), c, 1, batch * m, n, k);
      return {c};
    }
    ctx.enter(1);
    launch_gemm(name, as_matrix(over_batch(a, shape)), as_matrix(over_batch(b, shape)), c, batch, m, n, k);
    return {c};
  }

  static Tensors backward(Backward& ctx, const Attrs&, Inputs dy) {
    const Tensor a = ctx.saved(0), b = ctx.saved(1);
    Tensor da, db;
    if (ctx.needs(0)) da = sum_to(matmul(dy[0], b.transpose(-2, -1)), a.shape());
    if (ctx.needs(1)) {
      db = b.rank() == 2 && a.rank() > 2
               ? matmul(a.flatten(0, -2).transpose(0, 1), dy[0].flatten(0, -2))
               : sum_to(matmul(a.transpose(-2, -1), dy[0]), b.shape());
    }
    return {da, db};
  }

  static kernels::Cost cost(const Attrs&, Inputs in) {
    const std::int64_t batch = batch_shape(in[0], in[1]).numel();
    return product_cost(batch, in[0].size(-2), in[1].size(-1), in[0].size(-1), in[0].dtype());
  }

 private:
  static Shape batch_shape(const Tensor& a, const Tensor& b) { return broadcast(leading(a), leading(b), name); }
  static Tensor over_batch(const Tensor& x, Shape shape) {
    shape[shape.rank() - 2] = x.size(-2);
    shape[shape.rank() - 1] = x.size(-1);
    return x.expand(shape);
  }
};

struct Linear {
  static constexpr const char* name = "linear";
  static constexpr OpFlags flags{};
  static constexpr const char* branches[] = {"bias", "no bias", "weight gradient in place", "weight gradient returned"};
  struct Attrs {
    bool has_bias;
  };

  static Tensors forward(Forward& ctx, const Attrs& attrs, Inputs in) {
    const Tensor x = in[0].contiguous();
    const Tensor weight = in[1].contiguous();
    const std::int64_t k = weight.size(1), n = weight.size(0);
    Shape shape = x.shape();
    shape[shape.rank() - 1] = n;
    Tensor y = Tensor::empty(shape, x.options());
    ctx.enter(attrs.has_bias ? 0 : 1);
    launch_gemm(name, rows_of(x, k), {weight, true, std::max<std::int64_t>(k, 1), 0}, y, 1, row_count(x), n, k,
                attrs.has_bias ? in[2].contiguous() : Tensor());
    ctx.save({x, weight});
    return {y};
  }

  static Tensors backward(Backward& ctx, const Attrs& attrs, Inputs grad) {
    const Tensor x = ctx.saved(0), weight = ctx.saved(1);
    const Tensor dy = grad[0].contiguous();
    const std::int64_t k = weight.size(1), n = weight.size(0), m = row_count(x);
    Tensor dx, dw, db;
    if (ctx.needs(0)) {
      dx = Tensor::empty(x.shape(), x.options());
      launch_gemm(name, rows_of(dy, n), {weight, false, std::max<std::int64_t>(k, 1), 0}, dx, 1, m, k, n);
    }
    if (ctx.needs(1)) {
      const std::optional<GradTarget> target = ctx.target(1);
      ctx.enter(target ? 2 : 3);
      if (!target) dw = Tensor::empty(weight.shape(), weight.options());
      launch_gemm(name, {dy, true, std::max<std::int64_t>(n, 1), 0}, rows_of(x, k), target ? target->grad : dw, 1, n, k,
                  m, {}, target && target->accumulate);
    }
    if (attrs.has_bias && ctx.needs(2)) db = sum(dy.reshape({m, n}).to(kernels::computed_dtype(dy.dtype())), {0});
    return attrs.has_bias ? Tensors{dx, dw, db} : Tensors{dx, dw};
  }

  static Tensors twin(const Attrs& attrs, Inputs in) {
    const Tensor y = matmul(in[0], in[1].transpose(0, 1));
    return {attrs.has_bias ? y + in[2] : y};
  }

  static kernels::Cost cost(const Attrs&, Inputs in) {
    return product_cost(1, row_count(in[0]), in[1].size(0), in[1].size(1), in[0].dtype());
  }

 private:
  static std::int64_t row_count(const Tensor& x) {
    std::int64_t rows = 1;
    for (int d = 0; d + 1 < x.rank(); ++d) rows *= x.size(d);
    return rows;
  }
  static Matrix rows_of(const Tensor& x, std::int64_t cols) { return {x, false, std::max<std::int64_t>(cols, 1), 0}; }
};

}  // namespace

const OpRow matmul_op = make_row<Matmul>();
const OpRow linear_op = make_row<Linear>();

Tensor matmul(const Tensor& a, const Tensor& b) {
  if (a.rank() == 0 || b.rank() == 0) fail(ErrorCode::usage, "matmul of ", a.shape(), " and ", b.shape(), ": rank 0");
  if (a.rank() == 1) return matmul(a.unsqueeze(0), b).squeeze(b.rank() == 1 ? 0 : -2);
  if (b.rank() == 1) return matmul(a, b.unsqueeze(1)).squeeze(-1);
  check_same_kind("matmul", {&a, &b});
  if (a.size(-1) != b.size(-2))
    fail(ErrorCode::usage, "matmul: shapes ", a.shape(), " and ", b.shape(), ": ", a.size(-1), " columns meet ",
         b.size(-2), " rows");
  if (!can_broadcast(leading(a), leading(b)))
    fail(ErrorCode::usage, "matmul: shapes ", a.shape(), " and ", b.shape(), ": the dimensions before the last two ",
         "cannot be broadcast");
  return run_op1(matmul_op, Matmul::Attrs{}, {a, b});
}

Tensor linear(const Tensor& x, const Tensor& weight, const Tensor& bias) {
  check_same_kind("linear", {&x, &weight});
  if (weight.rank() != 2 || x.rank() < 1 || x.size(-1) != weight.size(1))
    fail(ErrorCode::usage, "linear: input ", x.shape(), " does not fit weight ", weight.shape(), " [out, in]");
  if (!bias.defined()) return run_op1(linear_op, Linear::Attrs{false}, {x, weight});
  check_vector("linear", "bias", x, bias, weight.size(0));
  return run_op1(linear_op, Linear::Attrs{true}, {x, weight, bias});
}

}  // namespace sinter
