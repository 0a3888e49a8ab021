// The value that everything is computed from and with.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "core/device.h"
#include "core/shape.h"
#include "core/storage.h"
#include "kernels/base/dtype.h"

namespace sinter {

using kernels::Dtype;

namespace autograd {
struct Meta;
struct Node;
}  // namespace autograd

struct TensorOptions {
  Dtype dtype = Dtype::f32;
  Device device = Device::cpu();
};

/// A handle to a strided view of a Storage; copying the handle shares the tensor, as in torch. A default-constructed
/// one is undefined. Elements are addressed row-major; strides count elements and may be 0 (broadcast).
///
/// The CPU computes in f32 and f64; f16 and bf16 tensors can be stored, cast, copied and compared. Binary operations
/// need equal dtypes and broadcast shapes; nothing is promoted silently, `to(dtype)` casts.
class Tensor {
 public:
  Tensor() = default;

  // Making tensors. `empty` leaves the elements undefined.
  static Tensor empty(const Shape& shape, TensorOptions options = {});
  static Tensor zeros(const Shape& shape, TensorOptions options = {});
  static Tensor ones(const Shape& shape, TensorOptions options = {});
  static Tensor full(const Shape& shape, double value, TensorOptions options = {});
  /// [0, 1, ..., n - 1].
  static Tensor arange(std::int64_t n, TensorOptions options = {.dtype = Dtype::i64});
  /// Copies host values, whose number must equal shape.numel(); the dtype is that of T. On the CPU: to(device) moves.
  template <class T>
  static Tensor from(std::span<const T> values, const Shape& shape);
  template <class T>
  static Tensor from(const std::vector<T>& values, const Shape& shape) {
    return from(std::span<const T>(values), shape);
  }
  template <class T>
  static Tensor from(std::initializer_list<T> values) {
    return from(std::span<const T>(values.begin(), values.size()), Shape{static_cast<std::int64_t>(values.size())});
  }
  /// A view of elements of `storage`, without a gradient.
  static Tensor view_of(std::shared_ptr<Storage> storage, std::int64_t offset, const Shape& shape, const Shape& strides,
                        Dtype dtype);

  bool defined() const { return impl_ != nullptr; }
  const Shape& shape() const;
  const Shape& strides() const;
  int rank() const { return shape().rank(); }
  std::int64_t size(int d) const { return shape().at(d); }
  std::int64_t numel() const { return shape().numel(); }
  Dtype dtype() const;
  Device device() const;
  TensorOptions options() const { return {dtype(), device()}; }
  bool is_contiguous() const;
  const std::shared_ptr<Storage>& storage() const;
  std::int64_t storage_offset() const;

  /// Address of the first element, in memory of device(). `data<T>()` checks the dtype.
  void* data() const;
  template <class T>
  T* data() const;
  /// Elements in row-major order, on the host. A copy, which waits for the device; the dtype must be that of T.
  template <class T>
  std::vector<T> to_vector() const;
  /// The only element, as a double (exact for every floating dtype). More than one element is a usage error.
  double item() const;

  // Autograd.
  bool requires_grad() const;
  /// Makes a leaf collect gradients (or not). Only floating tensors; a usage error on a non-leaf when turned off.
  Tensor& set_requires_grad(bool on = true);
  bool is_leaf() const;
  /// The sum of gradients since the last zero_grad; undefined before the first. Shape and dtype are the tensor's. Of a
  /// parameter whose gradient is kept in 16 bits (FlatParameters::keep_low_copy), a copy.
  Tensor grad() const;
  void set_grad(const Tensor& grad);
  void zero_grad();
  /// Also keep the gradient of a non-leaf in grad().
  void retain_grad();
  /// Adds the gradients of this scalar (or of sum(this * gradient)) to every leaf it was computed from.
  void backward(const Tensor& gradient = {}, bool retain_graph = false, bool create_graph = false) const;
  /// Calls `hook` with the gradient of this tensor as soon as it is complete, in the order of registration; a defined
  /// result replaces the gradient. A throwing hook ends backward; what was not yet run stays as it is. Returns an id.
  std::size_t register_hook(std::function<Tensor(const Tensor&)> hook) const;
  void remove_hook(std::size_t id) const;
  /// The same elements outside the graph.
  Tensor detach() const;

  // Views and copies (core/ops/shape.cpp, copy.cpp).
  Tensor reshape(const Shape& shape) const;       ///< one size may be -1
  Tensor expand(const Shape& shape) const;        ///< -1 keeps a size
  Tensor permute(const Shape& dims) const;
  Tensor transpose(int d0, int d1) const;
  Tensor narrow(int d, std::int64_t start, std::int64_t length) const;
  Tensor select(int d, std::int64_t index) const;
  Tensor squeeze(int d) const;
  Tensor unsqueeze(int d) const;
  Tensor flatten(int from = 0, int to = -1) const;
  Tensor contiguous() const;
  Tensor clone() const;
  Tensor to(Dtype dtype) const;
  Tensor to(Device device) const;                 ///< the tensor itself where it is there already

  // In-place writes. Refused on tensors of the graph (a leaf that requires grad: only inside NoGradGuard); they raise
  // the storage's version. A source that lies in this tensor's memory, in other places, is copied first.
  Tensor& copy_(const Tensor& source);   ///< casts and broadcasts; the source may be on another device
  Tensor& fill_(double value);
  Tensor& zero_() { return fill_(0); }
  Tensor& add_(const Tensor& other);     ///< same dtype, broadcasts to this shape
  Tensor& mul_(double factor);

  /// "Tensor[2, 3] f32 cpu", and up to `elements` values.
  std::string str(int elements = 16) const;

  // For the autograd machinery.
  autograd::Meta* meta() const;
  autograd::Meta& ensure_meta() const;
  /// True when both handles are the same tensor.
  bool same(const Tensor& other) const { return impl_ == other.impl_; }
  /// Continues this tensor, for all its handles, on dense memory at the start of `storage`; the values there count from
  /// now on. For FlatParameters.
  void rebind_storage(std::shared_ptr<Storage> storage);
  /// Nobody else holds this tensor or its memory, so it may be overwritten.
  bool uniquely_owned() const;

 private:
  struct Impl;
  explicit Tensor(std::shared_ptr<Impl> impl) : impl_(std::move(impl)) {}
  const Impl& impl(const char* what) const;
  /// `source`, or a copy of it where writing this tensor could change what is still to be read.
  Tensor apart(const Tensor& source) const;
  Tensor& copy_from_another_device(const Tensor& source);
  std::shared_ptr<Impl> impl_;
};

using Tensors = std::vector<Tensor>;
using Inputs = std::span<const Tensor>;

/// The same tensors on `device`, outside the graph. Small ones from the host go there together, while the device
/// computes (Runtime::upload): what a batch is made of.
Tensors upload(Inputs tensors, Device device);

}  // namespace sinter
