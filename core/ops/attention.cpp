#include "core/ops/attention.h"

#include <cmath>
#include <limits>

#include "core/autograd/mode.h"
#include "core/error.h"
#include "core/op.h"
#include "core/ops/broadcast.h"
#include "core/ops/elementwise.h"
#include "core/ops/matmul.h"
#include "core/ops/registry.h"
#include "core/ops/shape.h"
#include "core/ops/softmax.h"
#include "core/runtime/runtime.h"
#include "kernels/attention.h"

namespace sinter {
namespace {

struct Attention {
  static constexpr const char* name = "attention";
  static constexpr OpFlags flags{};
  static constexpr const char* branches[] = {"dropout", "no dropout", "key mask", "no key mask"};
  struct Attrs {
    std::shared_ptr<const Packing> packing;
    std::int64_t heads;
    double scale;
    DropoutCall call;
  };

  /// The fields that forward and backward share.
  template <class Params>
  static Params common(const Attrs& attrs, const Tensor& q, const Tensor& k, const Tensor& v) {
    const Packing& packing = attrs.packing->on(q.device());
    Params params;
    params.dtype = q.dtype();
    params.tokens = packing.tokens;
    params.sequences = packing.sequences;
    params.heads = attrs.heads;
    params.head_size = q.size(1) / attrs.heads;
    params.max_length = packing.max_length;
    params.pairs = packing.pairs;
    params.scale = attrs.scale;
    params.dropout = attrs.call.kernel(q.device());
    params.offsets = packing.offsets.template data<std::int32_t>();
    params.key_mask = packing.key_mask.defined() ? packing.key_mask.template data<std::uint8_t>() : nullptr;
    params.position = packing.position.template data<std::int32_t>();
    params.q = q.data();
    params.k = k.data();
    params.v = v.data();
    params.stride_q = row_stride(q);
    params.stride_k = row_stride(k);
    params.stride_v = row_stride(v);
    return params;
  }

  static Tensors forward(Forward& ctx, const Attrs& attrs, Inputs in) {
    const Tensor q = dense_rows(in[0]), k = dense_rows(in[1]), v = dense_rows(in[2]);
    ctx.enter(attrs.call.threshold != 0 ? 0 : 1);
    ctx.enter(attrs.packing->key_mask.defined() ? 2 : 3);
    Tensor o = Tensor::empty(q.shape(), q.options());
    const Tensor lse = Tensor::empty({attrs.heads, attrs.packing->tokens}, computed_options(q));
    auto params = common<kernels::Attention>(attrs, q, k, v);
    params.stride_o = o.size(1);
    params.o = o.data();
    params.lse = lse.data();
    launch(params, q);
    ctx.save({q, k, v, o, lse});
    return {o};
  }

  static Tensors backward(Backward& ctx, const Attrs& attrs, Inputs grad) {
    const Tensor q = ctx.saved(0), k = ctx.saved(1), v = ctx.saved(2), o = ctx.saved(3), lse = ctx.saved(4);
    const Tensor d_o = grad[0].contiguous();
    const Tensor dq = Tensor::empty(q.shape(), q.options());
    const Tensor dk = Tensor::empty(q.shape(), q.options()), dv = Tensor::empty(q.shape(), q.options());
    auto params = common<kernels::AttentionBackward>(attrs, q, k, v);
    params.o = o.data();
    params.d_o = d_o.data();
    params.lse = lse.data();
    params.stride_o = params.stride_do = params.stride_dq = params.stride_dk = params.stride_dv = q.size(1);
    params.dq = dq.data();
    params.dk = dk.data();
    params.dv = dv.data();
    launch(params, q);
    return {dq, dk, dv};
  }

  /// One sequence after the other, from primitive ops.
  static Tensors twin(const Attrs& attrs, Inputs in) {
    const Packing& packing = *attrs.packing;
    const std::int64_t hidden = in[0].size(1), head_size = hidden / attrs.heads;
    const std::int32_t* offsets = packing.offsets.data<std::int32_t>();
    Tensors outputs;
    for (std::int64_t b = 0; b < packing.sequences; ++b) {
      const std::int64_t start = offsets[b], length = offsets[b + 1] - start;
      const auto heads_of = [&](const Tensor& x) {  // [A, S, D]
        return x.narrow(0, start, length).reshape({length, attrs.heads, head_size}).permute({1, 0, 2});
      };
      Tensor scores = matmul(heads_of(in[0]), heads_of(in[1]).transpose(1, 2)) * attrs.scale;
      Tensor keep;
      if (packing.key_mask.defined()) {
        keep = packing.key_mask.narrow(0, start, length).to(Dtype::boolean).reshape({1, 1, length}).to(in[0].device());
        scores = masked_fill(scores, logical_not(keep), std::numeric_limits<double>::lowest());
      }
      Tensor probabilities = softmax(scores);
      if (keep.defined()) probabilities = masked_fill(probabilities, logical_not(keep), 0);
      if (attrs.call.threshold != 0) probabilities = probabilities * dropout_factors(attrs, b, length, in[0].options());
      outputs.push_back(matmul(probabilities, heads_of(in[2])).permute({1, 0, 2}).reshape({length, hidden}));
    }
    return {outputs.empty() ? in[0] + in[1] + in[2] : cat(outputs, 0)};  // no sequence: every input is empty
  }

  static kernels::Cost cost(const Attrs& attrs, Inputs in) {
    return kernels::cost(common<kernels::Attention>(attrs, in[0], in[1], in[2]));
  }

 private:
  static std::int64_t row_stride(const Tensor& x) { return x.size(0) <= 1 ? x.size(1) : x.strides()[0]; }

  /// Rows may be a slice of a wider buffer; their elements must be dense.
  static Tensor dense_rows(const Tensor& x) {
    return x.strides()[1] == 1 && (x.size(0) <= 1 || x.strides()[0] >= x.size(1)) ? x : x.contiguous();
  }

  template <class Params>
  static void launch(Params& params, const Tensor& like) {
    Runtime& runtime = Runtime::instance();
    const auto bytes = static_cast<std::int64_t>(runtime.workspace(like.device(), params));
    const Tensor workspace = Tensor::empty({bytes}, {Dtype::u8, like.device()});
    params.workspace = workspace.data();
    runtime.launch(like.device(), params, name);
  }

  /// The factors [A, S, S] of the dropout on one sequence's probabilities.
  static Tensor dropout_factors(const Attrs& attrs, std::int64_t b, std::int64_t length, TensorOptions options) {
    const kernels::Dropout16 dropout = attrs.call.kernel(Device::cpu());
    const std::uint32_t sample = attrs.call.step.first_sample + static_cast<std::uint32_t>(b);
    std::vector<double> factors;
    for (std::int64_t a = 0; a < attrs.heads; ++a)
      for (std::int64_t i = 0; i < length; ++i)
        for (std::int64_t j = 0; j < length; ++j) {
          const std::uint64_t stride = kernels::kAttentionDropoutStride;
          const std::uint64_t row = static_cast<std::uint64_t>(a) * stride + static_cast<std::uint64_t>(i);
          const std::uint64_t element = row * stride + static_cast<std::uint64_t>(j);
          const std::uint32_t keep = kernels::dropout_keep8(dropout, attrs.call.step.global_step, sample,
                                                            static_cast<std::uint32_t>(element / 8));
          factors.push_back((keep >> (element % 8) & 1u) != 0 ? dropout.scale() : 0.0);
        }
    return Tensor::from(factors, {attrs.heads, length, length}).to(options.dtype).to(options.device);
  }
};

}  // namespace

const OpRow attention_op = make_row<Attention>();

Tensor attention(const Tensor& q, const Tensor& k, const Tensor& v, const std::shared_ptr<const Packing>& packing,
                 std::int64_t heads, double p, std::uint32_t site) {
  if (packing == nullptr) fail(ErrorCode::usage, "attention needs a Packing that says where the sequences lie");
  check_same_kind("attention", {&q, &k, &v});
  if (q.rank() != 2 || heads < 1 || q.size(1) % heads != 0)
    fail(ErrorCode::usage, "attention: q is ", q.shape(), ", it must be [T, H] with H divisible by ", heads, " heads");
  check_shape("attention", "k", k, q.shape());
  check_shape("attention", "v", v, q.shape());
  if (packing->tokens != q.size(0))
    fail(ErrorCode::usage, "attention: q has ", q.size(0), " rows, the sequences have ", packing->tokens, " tokens");
  const double scale = 1 / std::sqrt(static_cast<double>(q.size(1) / heads));
  return run_op1(attention_op, Attention::Attrs{packing, heads, scale, DropoutCall::make(p, site, "attention")},
                 {q, k, v});
}

}  // namespace sinter
