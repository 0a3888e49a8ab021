// One step of AdamW in registers, for the kernels that must agree to the bit. Every addition that a compiler might fuse
// with a product says so itself.
#pragma once

#include <limits>

#include "kernels/adamw.h"
#include "kernels/base/vec.cuh"

namespace sinter::kernels {

/// What does not change from step to step, in computed_dtype.
template <class A>
struct AdamWConstants {
  A one_minus_beta1, beta2, one_minus_beta2, eps;

  template <class P>
  explicit AdamWConstants(const P& p)
      : one_minus_beta1(static_cast<A>(1 - p.beta1)),
        beta2(static_cast<A>(p.beta2)),
        one_minus_beta2(static_cast<A>(1 - p.beta2)),
        eps(static_cast<A>(p.eps)) {}
};

/// What does.
template <class A>
struct AdamWNow {
  A decay, step_size, inverse_root;

  __device__ __forceinline__ explicit AdamWNow(const AdamWCoefficients& k)
      : decay(static_cast<A>(k.decay)),
        step_size(static_cast<A>(k.step_size)),
        inverse_root(static_cast<A>(k.inverse_root)) {}
};

template <class A>
__device__ __forceinline__ A flush_denormal(A x) {
  return abs(x) < std::numeric_limits<A>::min() ? A{0} : x;
}

/// g is the gradient, clipped. Without momentum p becomes fma(p, decay, -0): the product.
template <class A>
__device__ __forceinline__ void take_adamw_step(const AdamWConstants<A>& k, const AdamWNow<A>& now, A g, A& p, A& m,
                                                A& v) {
  m = flush_denormal(fma(k.one_minus_beta1, g - m, m));
  v = flush_denormal(fma(k.beta2, v, k.one_minus_beta2 * g * g));
  p = fma(p, now.decay, -(now.step_size * m / fma(sqrt(v), now.inverse_root, k.eps)));
}

/// Rounds what was stored as T once more.
template <int width, class T, class Low>
__device__ __forceinline__ void store_low(Low* low, const Computed<T> (&x)[width]) {
  float stored[width];
#pragma unroll
  for (int k = 0; k < width; ++k) stored[k] = static_cast<float>(widen(narrow<T>(x[k])));
  store_vector(low, stored);
}
/// The same into f16 or bf16 memory; null: nowhere.
template <int width, class T>
__device__ __forceinline__ void store_low(std::uint16_t* low, Dtype dtype, const Computed<T> (&x)[width]) {
  if (low == nullptr) return;
  if (dtype == Dtype::f16)
    store_low<width, T>(reinterpret_cast<f16*>(low), x);
  else
    store_low<width, T>(reinterpret_cast<bf16*>(low), x);
}

}  // namespace sinter::kernels
