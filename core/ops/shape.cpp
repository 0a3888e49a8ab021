#include "core/ops/shape.h"

#include <numeric>
#include <optional>

#include "core/error.h"
#include "core/op.h"
#include "core/ops/broadcast.h"
#include "core/ops/elementwise.h"
#include "core/ops/registry.h"

namespace sinter {
namespace {

constexpr OpFlags kView{.second_order = true, .recompute_cheap = true, .view = true};

Tensor view(const Tensor& x, std::int64_t offset, const Shape& shape, const Shape& strides) {
  return Tensor::view_of(x.storage(), x.storage_offset() + offset, shape, strides, x.dtype());
}

/// Strides that show the elements of x as `shape` without a copy, where that is possible: every run of dimensions of x
/// that is dense in memory can be cut anew.
std::optional<Shape> reshaped_strides(const Tensor& x, const Shape& shape) {
  if (x.numel() == 0) return contiguous_strides(shape);
  Shape strides = shape;
  int to = shape.rank() - 1;
  std::int64_t run_size = 1, cut_size = 1;
  std::int64_t step = x.rank() == 0 ? 1 : x.strides()[x.rank() - 1];
  for (int from = x.rank() - 1; from >= 0; --from) {
    run_size *= x.shape()[from];
    const bool run_ends = from == 0 || (x.shape()[from - 1] != 1 && x.strides()[from - 1] != run_size * step);
    if (!run_ends) continue;
    while (to >= 0 && (cut_size < run_size || shape[to] == 1)) {
      strides[to] = cut_size * step;
      cut_size *= shape[to];
      --to;
    }
    if (cut_size != run_size) return std::nullopt;
    if (from > 0) {
      step = x.strides()[from - 1];
      run_size = cut_size = 1;
    }
  }
  for (; to >= 0; --to) strides[to] = cut_size * step;  // leading sizes of 1
  return strides;
}

struct Reshape {
  static constexpr const char* name = "reshape";
  static constexpr OpFlags flags = kView;
  static constexpr const char* branches[] = {"view", "copy"};
  struct Attrs {
    Shape from, to;
  };
  static Tensors forward(Forward& ctx, const Attrs& attrs, Inputs in) {
    if (const std::optional<Shape> strides = reshaped_strides(in[0], attrs.to)) {
      ctx.enter(0);
      return {view(in[0], 0, attrs.to, *strides)};
    }
    ctx.enter(1);
    return {view(in[0].contiguous(), 0, attrs.to, contiguous_strides(attrs.to))};
  }
  static Tensors backward(Backward&, const Attrs& attrs, Inputs dy) { return {dy[0].reshape(attrs.from)}; }
};

struct Expand {
  static constexpr const char* name = "expand";
  static constexpr OpFlags flags = kView;
  struct Attrs {
    Shape from, to;
  };
  static Tensors forward(Forward&, const Attrs& attrs, Inputs in) {
    const kernels::Strides steps = broadcast_steps(in[0], attrs.to, name);
    return {view(in[0], 0, attrs.to, Shape(std::span(steps.step, static_cast<std::size_t>(attrs.to.rank()))))};
  }
  static Tensors backward(Backward&, const Attrs& attrs, Inputs dy) { return {sum_to(dy[0], attrs.from)}; }
};

struct Permute {
  static constexpr const char* name = "permute";
  static constexpr OpFlags flags = kView;
  struct Attrs {
    Shape dims;
  };
  static Tensors forward(Forward&, const Attrs& attrs, Inputs in) {
    Shape shape = in[0].shape(), strides = shape;
    for (int d = 0; d < shape.rank(); ++d) {
      shape[d] = in[0].shape()[static_cast<int>(attrs.dims[d])];
      strides[d] = in[0].strides()[static_cast<int>(attrs.dims[d])];
    }
    return {view(in[0], 0, shape, strides)};
  }
  static Tensors backward(Backward&, const Attrs& attrs, Inputs dy) {
    Shape inverse = attrs.dims;
    for (int d = 0; d < inverse.rank(); ++d) inverse[static_cast<int>(attrs.dims[d])] = d;
    return {dy[0].permute(inverse)};
  }
};

struct Narrow {
  static constexpr const char* name = "narrow";
  static constexpr OpFlags flags = kView;
  struct Attrs {
    Shape from;
    int d;
    std::int64_t start, length;
  };
  static Tensors forward(Forward&, const Attrs& attrs, Inputs in) {
    Shape shape = in[0].shape();
    shape[attrs.d] = attrs.length;
    return {view(in[0], attrs.start * in[0].strides()[attrs.d], shape, in[0].strides())};
  }
  static Tensors backward(Backward&, const Attrs& attrs, Inputs dy) {
    Shape before = attrs.from, after = attrs.from;
    before[attrs.d] = attrs.start;
    after[attrs.d] = attrs.from[attrs.d] - attrs.start - attrs.length;
    return {cat({Tensor::zeros(before, dy[0].options()), dy[0], Tensor::zeros(after, dy[0].options())}, attrs.d)};
  }
};

struct Cat {
  static constexpr const char* name = "cat";
  static constexpr OpFlags flags{.second_order = true, .recompute_cheap = true};
  struct Attrs {
    int d;
    std::vector<std::int64_t> sizes;
  };
  static Tensors forward(Forward&, const Attrs& attrs, Inputs in) {
    Shape shape = in[0].shape();
    shape[attrs.d] = 0;
    for (const std::int64_t size : attrs.sizes) shape[attrs.d] += size;
    const Tensor out = Tensor::empty(shape, in[0].options());
    std::int64_t start = 0;
    for (const Tensor& piece : in) {
      out.narrow(attrs.d, start, piece.size(attrs.d)).copy_(piece);
      start += piece.size(attrs.d);
    }
    return {out};
  }
  static Tensors backward(Backward& ctx, const Attrs& attrs, Inputs dy) {
    Tensors grads;
    std::int64_t start = 0;
    for (std::size_t i = 0; i < attrs.sizes.size(); ++i) {
      grads.push_back(ctx.needs(i) ? dy[0].narrow(attrs.d, start, attrs.sizes[i]) : Tensor());
      start += attrs.sizes[i];
    }
    return grads;
  }
};

}  // namespace

const OpRow reshape_op = make_row<Reshape>();
const OpRow expand_op = make_row<Expand>();
const OpRow permute_op = make_row<Permute>();
const OpRow narrow_op = make_row<Narrow>();
const OpRow cat_op = make_row<Cat>();

Tensor Tensor::reshape(const Shape& wanted) const {
  Shape target = wanted;
  int free = -1;
  std::int64_t known = 1;
  for (int d = 0; d < target.rank(); ++d) {
    if (target[d] == -1 && free == -1) {
      free = d;
    } else if (target[d] < 0) {
      fail(ErrorCode::usage, "reshape to ", wanted, ": sizes must not be negative, except one -1");
    } else if (__builtin_mul_overflow(known, target[d], &known)) {
      fail(ErrorCode::usage, "reshape to ", wanted, ": more than 2^63 elements");
    }
  }
  if (free >= 0 && known > 0) target[free] = numel() / known;
  if ((free >= 0 && known == 0) || target.numel() != numel())
    fail(ErrorCode::usage, "reshape of ", shape(), " to ", wanted, ": ", numel(), " elements do not fit");
  return run_op1(reshape_op, Reshape::Attrs{shape(), target}, {*this});
}

Tensor Tensor::expand(const Shape& wanted) const {
  Shape target = wanted;
  const int shift = target.rank() - rank();
  for (int d = 0; d < target.rank(); ++d) {
    if (target[d] != -1) continue;
    if (d < shift) fail(ErrorCode::usage, "expand of ", shape(), " to ", wanted, ": -1 stands for a new dimension");
    target[d] = shape()[d - shift];
  }
  return run_op1(expand_op, Expand::Attrs{shape(), target}, {*this});
}

Tensor Tensor::permute(const Shape& wanted) const {
  Shape dims = wanted;
  std::uint32_t seen = 0;
  for (int d = 0; d < dims.rank(); ++d) {
    dims[d] = shape().dimension(static_cast<int>(dims[d]));
    seen |= 1u << dims[d];
  }
  if (dims.rank() != rank() || seen != (1u << rank()) - 1u)
    fail(ErrorCode::usage, "permute of ", shape(), " by ", wanted, ": every dimension must stand once");
  return run_op1(permute_op, Permute::Attrs{dims}, {*this});
}

Tensor Tensor::transpose(int d0, int d1) const {
  Shape dims;
  for (int d = 0; d < rank(); ++d) dims.push_back(d);
  std::swap(dims[shape().dimension(d0)], dims[shape().dimension(d1)]);
  return permute(dims);
}

Tensor Tensor::narrow(int d, std::int64_t start, std::int64_t length) const {
  d = shape().dimension(d);
  if (start < 0 || length < 0 || start > size(d) - length)
    fail(ErrorCode::usage, "narrow of ", shape(), ": ", length, " elements from ", start, " leave dimension ", d);
  return run_op1(narrow_op, Narrow::Attrs{shape(), d, start, length}, {*this});
}

Tensor Tensor::select(int d, std::int64_t index) const {
  d = shape().dimension(d);
  if (index < -size(d) || index >= size(d))
    fail(ErrorCode::usage, "select of ", shape(), ": index ", index, " in dimension ", d, ", it must lie between ",
         -size(d), " and ", size(d) - 1);
  return narrow(d, index < 0 ? index + size(d) : index, 1).squeeze(d);
}

Tensor Tensor::squeeze(int d) const {
  Shape target = shape();
  d = target.dimension(d);
  if (target[d] != 1) return *this;
  target.erase(d);
  return reshape(target);
}

Tensor Tensor::unsqueeze(int d) const {
  Shape target = shape();
  const int place = d < 0 ? d + rank() + 1 : d;
  if (place < 0 || place > rank())
    fail(ErrorCode::usage, "unsqueeze of ", shape(), " at ", d, ", which is out of range");
  target.insert(place, 1);
  return reshape(target);
}

Tensor Tensor::flatten(int from, int to) const {
  from = shape().dimension(from);
  to = shape().dimension(to);
  if (from > to)
    fail(ErrorCode::usage, "flatten of ", shape(), " from dimension ", from, " to ", to, ", which is before it");
  Shape target;
  for (int d = 0; d < rank(); ++d) {
    if (d > from && d <= to) {
      target[target.rank() - 1] *= size(d);
    } else {
      target.push_back(size(d));
    }
  }
  return reshape(target);
}

Tensor cat(const Tensors& tensors, int d) {
  if (tensors.empty()) fail(ErrorCode::usage, "cat of no tensors");
  const Tensor& first = tensors[0];
  d = first.shape().dimension(d);
  Cat::Attrs attrs{d, {}};
  for (const Tensor& tensor : tensors) {
    check_same_kind("cat", {&first, &tensor});
    Shape expected = first.shape();
    if (tensor.rank() == expected.rank()) expected[d] = tensor.size(d);
    check_shape("cat", "a tensor", tensor, expected);
    attrs.sizes.push_back(tensor.size(d));
  }
  return run_op(cat_op, &attrs, tensors).front();
}

Tensor stack(const Tensors& tensors, int d) {
  Tensors rows;
  for (const Tensor& tensor : tensors) rows.push_back(tensor.unsqueeze(d));
  return cat(rows, d);
}

Tensors split(const Tensor& x, std::int64_t size, int d) {
  if (size < 1) fail(ErrorCode::usage, "split into pieces of ", size, "; a piece has at least 1 element");
  Tensors pieces;
  for (std::int64_t start = 0; start < x.size(d); start += size)
    pieces.push_back(x.narrow(d, start, std::min(size, x.size(d) - start)));
  return pieces;
}

Tensors split(const Tensor& x, const std::vector<std::int64_t>& sizes, int d) {
  const std::int64_t total = std::accumulate(sizes.begin(), sizes.end(), std::int64_t{0});
  if (total != x.size(d))
    fail(ErrorCode::usage, "split: the sizes sum to ", total, ", dimension ", d, " has ", x.size(d));
  Tensors pieces;
  std::int64_t start = 0;
  for (const std::int64_t size : sizes) {
    pieces.push_back(x.narrow(d, start, size));
    start += size;
  }
  return pieces;
}

}  // namespace sinter
