#include <optional>

#include "core/autograd/mode.h"
#include "core/autograd/node.h"
#include "core/low_copy.h"
#include "core/op.h"
#include "core/ops/registry.h"
#include "core/runtime/runtime.h"

namespace sinter {
namespace {

struct Contiguous {
  static constexpr const char* name = "contiguous";
  static constexpr OpFlags flags{.second_order = true, .recompute_cheap = true};
  struct Attrs {};
  static Tensors forward(Forward&, const Attrs&, Inputs in) {
    Tensor out = Tensor::empty(in[0].shape(), in[0].options());
    out.copy_(in[0]);
    return {out};
  }
  static Tensors backward(Backward&, const Attrs&, Inputs dy) { return {dy[0]}; }
};

struct Cast {
  static constexpr const char* name = "cast";
  static constexpr OpFlags flags{.second_order = true, .recompute_cheap = true};
  struct Attrs {
    Dtype from, to;
  };
  static Tensors forward(Forward&, const Attrs& attrs, Inputs in) {
    Tensor out = Tensor::empty(in[0].shape(), {attrs.to, in[0].device()});
    out.copy_(in[0]);
    return {out};
  }
  static Tensors backward(Backward& ctx, const Attrs& attrs, Inputs dy) {
    const std::optional<GradTarget> target = ctx.target(0);
    if (!target) return {dy[0].to(attrs.from)};
    Tensor grad = target->grad;
    if (!target->accumulate)
      grad.copy_(dy[0]);
    else if (kernels::computed_dtype(attrs.from) != attrs.from)   // sums are not taken in 16 bits
      grad.copy_(grad.to(kernels::computed_dtype(attrs.from)).add_(dy[0].to(kernels::computed_dtype(attrs.from))));
    else
      grad.add_(dy[0].to(attrs.from));
    return {Tensor()};
  }
};

struct ToDevice {
  static constexpr const char* name = "to_device";
  static constexpr OpFlags flags{.second_order = true, .capturable = false};
  struct Attrs {
    Device from, to;
  };
  static Tensors forward(Forward&, const Attrs& attrs, Inputs in) {
    Tensor out = Tensor::empty(in[0].shape(), {in[0].dtype(), attrs.to});
    out.copy_(in[0]);
    return {out};
  }
  static Tensors backward(Backward&, const Attrs& attrs, Inputs dy) { return {dy[0].to(attrs.from)}; }
};

}  // namespace

const OpRow contiguous_op = make_row<Contiguous>();
const OpRow cast_op = make_row<Cast>();
const OpRow to_device_op = make_row<ToDevice>();

Tensor Tensor::contiguous() const { return is_contiguous() ? *this : clone(); }
Tensor Tensor::clone() const { return run_op1(contiguous_op, Contiguous::Attrs{}, {*this}); }

Tensor Tensor::to(Dtype target) const {
  return target == dtype() ? *this : run_op1(cast_op, Cast::Attrs{dtype(), target}, {*this});
}

Tensor rounded(const Tensor& x, Dtype dtype) {
  LowCopy* const low = x.meta() == nullptr ? nullptr : x.meta()->low.get();
  if (low == nullptr || low->values.dtype() != dtype) return x.to(dtype);
  low->refresh(x);
  Tensors copy = {low->values.detach()};
  if (autograd::should_record({&x, 1}))
    autograd::record(cast_op, std::make_shared<const Cast::Attrs>(x.dtype(), dtype), {&x, 1}, {}, copy);
  return copy[0];
}

void LowCopy::refresh(const Tensor& leaf) {
  if (version == leaf.storage()->version()) return;
  const NoGradGuard guard;
  values.copy_(leaf.detach());
  version = leaf.storage()->version();
}

Tensor Tensor::to(Device target) const {
  return target == device() ? *this : run_op1(to_device_op, ToDevice::Attrs{device(), target}, {*this});
}

Tensors upload(Inputs tensors, Device device) {
  Tensors moved;
  std::vector<HostBytes> pieces;   // of those that stand on the host in `moved`
  for (const Tensor& tensor : tensors) {
    const Tensor x = tensor.detach().contiguous();
    const bool goes_up = x.device().is_cpu() && !device.is_cpu();
    moved.push_back(goes_up ? x : x.to(device));
    if (!goes_up) continue;
    pieces.emplace_back(static_cast<const std::byte*>(x.data()),
                        static_cast<std::size_t>(x.numel()) * size_of(x.dtype()));
  }
  if (pieces.empty()) return moved;
  std::vector<std::shared_ptr<Storage>> storages = Runtime::instance().upload(device, pieces);
  for (auto next = storages.begin(); Tensor& tensor : moved) {
    if (!tensor.device().is_cpu()) continue;
    tensor = Tensor::view_of(std::move(*next++), 0, tensor.shape(), contiguous_strides(tensor.shape()), tensor.dtype());
  }
  return moved;
}

}  // namespace sinter
