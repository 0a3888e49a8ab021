#include "core/ops/cross_entropy.h"

#include "core/autograd/mode.h"
#include "core/error.h"
#include "core/op.h"
#include "core/ops/broadcast.h"
#include "core/ops/elementwise.h"
#include "core/ops/gather.h"
#include "core/ops/reduce.h"
#include "core/ops/registry.h"
#include "core/ops/softmax.h"
#include "core/runtime/runtime.h"
#include "kernels/cross_entropy.h"

namespace sinter {
namespace {

/// One loss a row; ignored rows give 0.
struct CrossEntropy {
  static constexpr const char* name = "cross_entropy";
  static constexpr OpFlags flags{};
  struct Attrs {
    Tensor labels;
    std::int64_t ignore_index;
    double label_smoothing;
  };
  static Tensors forward(Forward& ctx, const Attrs& attrs, Inputs in) {
    const Tensor x = in[0].contiguous();
    Tensor loss = Tensor::empty({x.size(0)}, computed_options(x));
    const Tensor lse = Tensor::empty({x.size(0)}, computed_options(x));
    const kernels::CrossEntropy params{
        .dtype = x.dtype(), .rows = x.size(0), .classes = x.size(1),
        .ignore_index = attrs.ignore_index, .label_smoothing = attrs.label_smoothing,
        .x = x.data(), .labels = attrs.labels.data<std::int64_t>(), .loss = loss.data(), .lse = lse.data(),
    };
    Runtime::instance().launch(x.device(), params, name);
    ctx.save({x, lse, attrs.labels});
    return {loss};
  }
  static Tensors backward(Backward& ctx, const Attrs& attrs, Inputs grad) {
    const Tensor x = ctx.saved(0), lse = ctx.saved(1), labels = ctx.saved(2), dloss = grad[0].contiguous();
    const Tensor dx = Tensor::empty(x.shape(), x.options());
    const kernels::CrossEntropyBackward params{
        .dtype = x.dtype(), .rows = x.size(0), .classes = x.size(1),
        .ignore_index = attrs.ignore_index, .label_smoothing = attrs.label_smoothing,
        .dloss = dloss.data(), .x = x.data(), .labels = labels.data<std::int64_t>(), .lse = lse.data(), .dx = dx.data(),
    };
    Runtime::instance().launch(x.device(), params, name);
    return {dx};
  }
  static Tensors twin(const Attrs& attrs, Inputs in) {
    const Tensor log_p = log_softmax(in[0]);
    const Tensor ignored = eq(attrs.labels, Tensor::full({}, static_cast<double>(attrs.ignore_index),
                                                            attrs.labels.options()));
    const Tensor safe = where(ignored, Tensor::zeros({}, attrs.labels.options()), attrs.labels);
    const Tensor nll = neg(gather(log_p, 1, safe.reshape({-1, 1})).reshape({-1}));
    const Tensor smooth = neg(mean(log_p, {1}));
    return {masked_fill(nll * (1 - attrs.label_smoothing) + smooth * attrs.label_smoothing, ignored, 0)};
  }
  static kernels::Cost cost(const Attrs&, Inputs in) {
    return kernels::cost(
        kernels::CrossEntropy{.dtype = in[0].dtype(), .rows = in[0].size(0), .classes = in[0].size(1)});
  }
};

/// The same count where the labels are, so that nobody waits for the device: a scalar of the losses' dtype.
Tensor counted_on_device(const Tensor& labels, std::int64_t ignore_index, Dtype dtype) {
  const NoGradGuard guard;
  const Tensor ignored = Tensor::full({}, static_cast<double>(ignore_index), labels.options());
  return sum(ne(labels, ignored)).to(dtype);
}

}  // namespace

const OpRow cross_entropy_op = make_row<CrossEntropy>();

std::int64_t check_labels(const Tensor& labels, std::int64_t classes, std::int64_t ignore_index) {
  const std::vector<std::int64_t> values = labels.to_vector<std::int64_t>();
  std::int64_t counted = 0;
  for (std::size_t i = 0; i < values.size(); ++i) {
    if (values[i] == ignore_index) continue;
    if (values[i] < 0 || values[i] >= classes)
      fail(ErrorCode::usage, "cross_entropy: label ", i, " is ", values[i], ", it must lie between 0 and ",
           classes - 1);
    ++counted;
  }
  return counted;
}

Tensor cross_entropy(const Tensor& logits, const Tensor& labels, CrossEntropyOptions options) {
  if (logits.rank() != 2) fail(ErrorCode::usage, "cross_entropy: logits are ", logits.shape(), ", they must be [N, C]");
  check_dtype("cross_entropy", "labels", labels, Dtype::i64);
  check_shape("cross_entropy", "labels", labels, {logits.size(0)});
  if (!(options.label_smoothing >= 0 && options.label_smoothing <= 1))
    fail(ErrorCode::usage, "cross_entropy: label_smoothing is ", options.label_smoothing, ", it must lie in [0, 1]");
  const bool on_host = labels.device().is_cpu();
  const std::int64_t counted = on_host ? check_labels(labels, logits.size(1), options.ignore_index) : 0;
  const CrossEntropy::Attrs attrs{upload({&labels, 1}, logits.device())[0], options.ignore_index,
                                  options.label_smoothing};
  const Tensor losses = run_op1(cross_entropy_op, attrs, {logits});
  if (options.reduction == Reduction::none) return losses;
  const Tensor total = sum(losses);
  if (options.reduction == Reduction::sum) return total;
  if (on_host) return total * (1.0 / static_cast<double>(counted));
  return total / counted_on_device(attrs.labels, options.ignore_index, total.dtype());
}

}  // namespace sinter
