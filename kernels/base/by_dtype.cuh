// From a Dtype at run time to a type at compile time, in the launchers of kernels/cuda.
#pragma once

#include <utility>

#include "kernels/base/dtype.h"
#include "kernels/base/status.h"

namespace sinter::kernels {

template <class T>
struct Type {
  using type = T;
};

/// fn(Type<T>{}) for the floating type that stores `dtype`; unsupported for any other.
template <class Fn>
Status by_floating(Dtype dtype, Fn&& fn) {
  switch (dtype) {
    case Dtype::f32: return fn(Type<float>{});
    case Dtype::f64: return fn(Type<double>{});
    case Dtype::f16: return fn(Type<f16>{});
    case Dtype::bf16: return fn(Type<bf16>{});
    default: return unsupported("the dtype must be f32, f64, f16 or bf16");
  }
}

/// `check(params)` behind the rule that the dtype is floating: what `supports` answers for most kernels.
template <class P>
Status check_floating(const P& params) {
  if (!is_floating(params.dtype)) return unsupported("the dtype must be f32, f64, f16 or bf16");
  return check(params);
}

}  // namespace sinter::kernels
