#include "core/tensor.h"

#include <atomic>
#include <cstring>
#include <numeric>
#include <sstream>
#include <utility>

#include "core/autograd/engine.h"
#include "core/autograd/mode.h"
#include "core/autograd/node.h"
#include "core/error.h"
#include "core/low_copy.h"
#include "core/ops/broadcast.h"
#include "core/row_tracker.h"
#include "core/runtime/runtime.h"
#include "kernels/copy.h"
#include "kernels/elementwise.h"

namespace sinter {

struct Tensor::Impl {
  std::shared_ptr<Storage> storage;
  std::int64_t offset = 0;
  Shape shape;
  Shape strides;
  Dtype dtype = Dtype::f32;
  std::unique_ptr<autograd::Meta> meta;
};

// --- Making tensors -----------------------------------------------------------------------------------------------

Tensor Tensor::view_of(std::shared_ptr<Storage> storage, std::int64_t offset, const Shape& shape, const Shape& strides,
                       Dtype dtype) {
  auto impl = std::make_shared<Impl>();
  impl->storage = std::move(storage);
  impl->offset = offset;
  impl->shape = shape;
  impl->strides = strides;
  impl->dtype = dtype;
  return Tensor(std::move(impl));
}

Tensor Tensor::empty(const Shape& shape, TensorOptions options) {
  for (const std::int64_t size : shape)
    if (size < 0) fail(ErrorCode::usage, "shape ", shape, " has a negative size");
  std::int64_t bytes = 0;
  if (__builtin_mul_overflow(shape.numel(), static_cast<std::int64_t>(size_of(options.dtype)), &bytes))
    fail(ErrorCode::usage, "a tensor ", shape, " of ", name(options.dtype), " does not fit in 2^63 bytes");
  return view_of(std::make_shared<Storage>(options.device, static_cast<std::size_t>(bytes)), 0, shape,
                 contiguous_strides(shape), options.dtype);
}

Tensor Tensor::full(const Shape& shape, double value, TensorOptions options) {
  Tensor tensor = empty(shape, options);
  tensor.fill_(value);
  return tensor;
}

Tensor Tensor::zeros(const Shape& shape, TensorOptions options) { return full(shape, 0, options); }
Tensor Tensor::ones(const Shape& shape, TensorOptions options) { return full(shape, 1, options); }

Tensor Tensor::arange(std::int64_t n, TensorOptions options) {
  std::vector<std::int64_t> values(static_cast<std::size_t>(std::max<std::int64_t>(n, 0)));
  std::iota(values.begin(), values.end(), 0);
  return from(values, Shape{n}).to(options.dtype).to(options.device);
}

template <class T>
Tensor Tensor::from(std::span<const T> values, const Shape& shape) {
  if (static_cast<std::int64_t>(values.size()) != shape.numel())
    fail(ErrorCode::usage, values.size(), " values do not fill a tensor of shape ", shape);
  Tensor tensor = empty(shape, {.dtype = kernels::dtype_of<T>});
  if (!values.empty()) std::memcpy(tensor.data(), values.data(), values.size_bytes());
  return tensor;
}

// --- What a tensor is ---------------------------------------------------------------------------------------------

const Tensor::Impl& Tensor::impl(const char* what) const {
  if (impl_ == nullptr) fail(ErrorCode::usage, what, " of an undefined tensor");
  return *impl_;
}

const Shape& Tensor::shape() const { return impl("shape").shape; }
const Shape& Tensor::strides() const { return impl("strides").strides; }
Dtype Tensor::dtype() const { return impl("dtype").dtype; }
Device Tensor::device() const { return impl("device").storage->device(); }
const std::shared_ptr<Storage>& Tensor::storage() const { return impl("storage").storage; }
std::int64_t Tensor::storage_offset() const { return impl("storage_offset").offset; }

bool Tensor::is_contiguous() const {
  const Impl& self = impl("is_contiguous");
  std::int64_t step = 1;
  for (int d = self.shape.rank() - 1; d >= 0; --d) {
    if (self.shape[d] != 1 && self.strides[d] != step) return false;
    step *= self.shape[d];
  }
  return true;
}

void* Tensor::data() const {
  const Impl& self = impl("data");
  if (self.storage->data() == nullptr) return nullptr;
  return self.storage->data() + static_cast<std::size_t>(self.offset) * size_of(self.dtype);
}

template <class T>
T* Tensor::data() const {
  if (dtype() != kernels::dtype_of<T>)
    fail(ErrorCode::usage, "data<", name(kernels::dtype_of<T>), ">() of a ", name(dtype()), " tensor");
  return static_cast<T*>(data());
}

template <class T>
std::vector<T> Tensor::to_vector() const {
  if (dtype() != kernels::dtype_of<T>)
    fail(ErrorCode::usage, "to_vector<", name(kernels::dtype_of<T>), ">() of a ", name(dtype()), " tensor");
  const NoGradGuard guard;
  const Tensor host = to(Device::cpu()).contiguous();
  std::vector<T> values(static_cast<std::size_t>(numel()));
  // memcpy, not a range copy: bool vectors are packed and have their own specialisation below.
  if (!values.empty()) std::memcpy(values.data(), host.data(), values.size() * sizeof(T));
  return values;
}

template <>
std::vector<bool> Tensor::to_vector<bool>() const {
  const std::vector<std::uint8_t> bytes = to(Device::cpu()).to(Dtype::u8).to_vector<std::uint8_t>();
  return {bytes.begin(), bytes.end()};
}

double Tensor::item() const {
  if (numel() != 1) fail(ErrorCode::usage, "item() of a tensor of shape ", shape(), "; it needs exactly one element");
  const NoGradGuard guard;
  return to(Device::cpu()).to(Dtype::f64).contiguous().data<double>()[0];
}

bool Tensor::uniquely_owned() const {
  return impl_ != nullptr && impl_.use_count() == 1 && impl_->storage.use_count() == 1;
}

void Tensor::rebind_storage(std::shared_ptr<Storage> storage) {
  impl("rebind_storage");
  impl_->storage = std::move(storage);
  impl_->offset = 0;
  impl_->strides = contiguous_strides(impl_->shape);
}

std::string Tensor::str(int elements) const {
  if (!defined()) return "Tensor(undefined)";
  std::ostringstream text;
  text << "Tensor" << shape() << " " << name(dtype()) << " " << device().str();
  const std::vector<double> values = detach().to(Device::cpu()).to(Dtype::f64).to_vector<double>();
  for (std::size_t i = 0; i < values.size() && i < static_cast<std::size_t>(elements); ++i)
    text << (i == 0 ? ": " : ", ") << values[i];
  if (values.size() > static_cast<std::size_t>(elements)) text << ", ...";
  return text.str();
}

// --- Autograd -----------------------------------------------------------------------------------------------------

autograd::Meta* Tensor::meta() const { return impl_ == nullptr ? nullptr : impl_->meta.get(); }

autograd::Meta& Tensor::ensure_meta() const {
  impl("ensure_meta");
  if (impl_->meta == nullptr) impl_->meta = std::make_unique<autograd::Meta>();
  return *impl_->meta;
}

bool Tensor::requires_grad() const { return meta() != nullptr && meta()->requires_grad; }

Tensor& Tensor::set_requires_grad(bool on) {
  if (on && !kernels::is_floating(dtype()))
    fail(ErrorCode::usage, "a ", name(dtype()), " tensor cannot require grad; only floating dtypes can");
  if (!on && !is_leaf())
    fail(ErrorCode::usage, "requires_grad of a computed tensor cannot be turned off; use detach()");
  ensure_meta().requires_grad = on;
  return *this;
}

bool Tensor::is_leaf() const { return meta() == nullptr || meta()->grad_fn == nullptr; }

Tensor Tensor::grad() const {
  const autograd::Meta* m = meta();
  if (m == nullptr) return {};
  const Tensor own = m->grad_stale ? Tensor() : m->grad;
  if (m->low == nullptr || m->low->grad_stale) return own;
  const NoGradGuard guard;   // a parameter with a gradient in 16 bits: a copy of it, in its own dtype
  Tensor low = m->low->grad.to(dtype());
  return own.defined() ? low.add_(own) : low;
}

void Tensor::set_grad(const Tensor& grad) {
  if (grad.defined() && (grad.shape() != shape() || grad.dtype() != dtype()))
    fail(ErrorCode::usage, "a gradient ", name(grad.dtype()), " ", grad.shape(), " for a tensor ", name(dtype()), " ",
         shape());
  autograd::Meta& m = ensure_meta();
  if (m.low != nullptr) m.low->grad_stale = true;
  if (!m.grad_pinned) {
    m.grad = grad;
  } else if (grad.defined()) {
    const NoGradGuard guard;
    m.grad.copy_(grad);
    m.grad_stale = false;
    if (m.rows != nullptr) m.rows->mark_all();
  } else if (m.rows != nullptr) {
    m.rows->zero();
  } else {
    m.grad_stale = true;
  }
}

void Tensor::zero_grad() { set_grad({}); }

void Tensor::retain_grad() {
  if (!requires_grad()) fail(ErrorCode::usage, "retain_grad of a tensor that does not require grad");
  if (is_leaf() || std::exchange(ensure_meta().retains_grad, true)) return;
  register_hook([weak = std::weak_ptr<Impl>(impl_)](const Tensor& gradient) {
    if (const std::shared_ptr<Impl> alive = weak.lock()) {
      autograd::Meta& m = Tensor(alive).ensure_meta();
      m.grad = m.grad.defined() ? Tensor(m.grad.clone()).add_(gradient) : gradient;
    }
    return Tensor();
  });
}

void Tensor::backward(const Tensor& gradient, bool retain_graph, bool create_graph) const {
  const Tensor gradients[] = {gradient};
  autograd::backward(Inputs(this, 1), gradients, {.retain_graph = retain_graph, .create_graph = create_graph});
}

std::size_t Tensor::register_hook(std::function<Tensor(const Tensor&)> hook) const {
  if (!requires_grad()) fail(ErrorCode::usage, "register_hook on a tensor that does not require grad");
  static std::atomic<std::size_t> next_id{1};
  const std::size_t id = next_id.fetch_add(1);
  autograd::Meta& m = ensure_meta();
  auto& hooks = is_leaf() ? m.leaf_hooks : m.grad_fn->tensor_hooks;
  hooks.push_back({id, is_leaf() ? 0 : m.output_nr, std::move(hook)});
  return id;
}

void Tensor::remove_hook(std::size_t id) const {
  autograd::Meta& m = ensure_meta();
  auto& hooks = is_leaf() ? m.leaf_hooks : m.grad_fn->tensor_hooks;
  std::erase_if(hooks, [id](const autograd::TensorHook& hook) { return hook.id == id; });
}

Tensor Tensor::detach() const {
  const Impl& self = impl("detach");
  return view_of(self.storage, self.offset, self.shape, self.strides, self.dtype);
}

// --- In-place writes ----------------------------------------------------------------------------------------------

namespace {

void check_writable(const Tensor& tensor, const char* op) {
  if (grad_enabled() && tensor.requires_grad())
    fail(ErrorCode::usage, op, " on a tensor that requires grad; write inside NoGradGuard, or compute a new tensor");
}

}  // namespace

Tensor Tensor::apart(const Tensor& source) const {
  const Impl &mine = impl("write"), &theirs = source.impl("read");
  const bool same_places = mine.offset == theirs.offset && mine.shape == theirs.shape && mine.strides == theirs.strides;
  return mine.storage == theirs.storage && !same_places ? source.detach().clone() : source;
}

Tensor& Tensor::copy_(const Tensor& from) {
  check_writable(*this, "copy_");
  if (from.device() != device()) return copy_from_another_device(from.detach());
  const Tensor source = apart(from);
  const kernels::Copy params{
      .extents = shape().extents(),
      .src_strides = broadcast_steps(source, shape(), "copy_"),
      .dst_strides = strides().steps(),
      .src_dtype = source.dtype(),
      .dst_dtype = dtype(),
      .src = source.data(),
      .dst = data(),
  };
  Runtime::instance().launch(device(), params, "copy_");
  impl_->storage->mark_written("copy_");
  return *this;
}

/// Bytes move as they lie: the source is made dense where it is, and cast, spread and laid out where this tensor is.
Tensor& Tensor::copy_from_another_device(const Tensor& from) {
  const Tensor source = from.contiguous();
  const bool as_it_lies = is_contiguous() && source.shape() == shape() && source.dtype() == dtype();
  const Tensor target = as_it_lies ? *this : empty(source.shape(), {source.dtype(), device()});
  Runtime::instance().copy(device(), target.data(), source.device(), source.data(),
                           static_cast<std::size_t>(source.numel()) * size_of(source.dtype()));
  if (!as_it_lies) return copy_(target);
  impl_->storage->mark_written("copy_");
  return *this;
}

Tensor& Tensor::fill_(double value) {
  check_writable(*this, "fill_");
  const kernels::Fill params{
      .extents = shape().extents(),
      .dst_strides = strides().steps(),
      .dtype = dtype(),
      .value = value,
      .integer = static_cast<std::int64_t>(value),
      .dst = data(),
  };
  Runtime::instance().launch(device(), params, "fill_");
  impl_->storage->mark_written("fill_");
  return *this;
}

Tensor& Tensor::add_(const Tensor& addend) {
  check_writable(*this, "add_");
  if (addend.dtype() != dtype())
    fail(ErrorCode::usage, "add_: dtypes ", name(dtype()), " and ", name(addend.dtype()),
         " differ; cast with to(dtype)");
  const Tensor other = apart(addend);
  Tensor target = is_contiguous() ? *this : detach().contiguous();
  const kernels::Binary params{
      .op = kernels::BinaryOp::add,
      .dtype = dtype(),
      .extents = shape().extents(),
      .a_strides = target.strides().steps(),
      .b_strides = broadcast_steps(other, shape(), "add_"),
      .a = target.data(),
      .b = other.data(),
      .out = target.data(),
  };
  Runtime::instance().launch(device(), params, "add_");
  if (!target.same(*this)) return copy_(target);
  impl_->storage->mark_written("add_");
  return *this;
}

Tensor& Tensor::mul_(double factor) {
  check_writable(*this, "mul_");
  Tensor target = is_contiguous() ? *this : detach().contiguous();
  const kernels::Unary params{
      .op = kernels::UnaryOp::mul_scalar,
      .dtype = dtype(),
      .extents = shape().extents(),
      .in_strides = target.strides().steps(),
      .alpha = factor,
      .in = target.data(),
      .out = target.data(),
  };
  Runtime::instance().launch(device(), params, "mul_");
  if (!target.same(*this)) return copy_(target);
  impl_->storage->mark_written("mul_");
  return *this;
}

#define SINTER_TENSOR_TYPES(X) \
  X(float) X(double) X(kernels::f16) X(kernels::bf16) X(std::int64_t) X(std::int32_t) X(std::uint8_t) X(bool)
#define SINTER_INSTANTIATE(T)                                                 \
  template Tensor Tensor::from<T>(std::span<const T> values, const Shape& shape); \
  template T* Tensor::data<T>() const;
SINTER_TENSOR_TYPES(SINTER_INSTANTIATE)
#undef SINTER_INSTANTIATE
template std::vector<float> Tensor::to_vector<float>() const;
template std::vector<double> Tensor::to_vector<double>() const;
template std::vector<kernels::f16> Tensor::to_vector<kernels::f16>() const;
template std::vector<kernels::bf16> Tensor::to_vector<kernels::bf16>() const;
template std::vector<std::int64_t> Tensor::to_vector<std::int64_t>() const;
template std::vector<std::int32_t> Tensor::to_vector<std::int32_t>() const;
template std::vector<std::uint8_t> Tensor::to_vector<std::uint8_t>() const;

}  // namespace sinter
