// Phi and the derivative of GELU in f32, as polynomials: on AVX-512 one of fifteen for |u|, whose coefficients a
// permutation of a register looks up; else one odd polynomial. Beside them what keeps several vectors in flight.
#pragma once

#include "kernels/cpu/simd.h"

namespace sinter::kernels::cpu {

/// Several vectors at once: their chains of multiply-adds hide each other's latency.
template <class T, int M>
struct Vectors {
  Vec<T> v[M];
};

#ifdef __AVX512F__

/// An odd function f(u) that is 1/2 from u = 14.5 / scale on. Where |u| * scale rounds to k, it is a polynomial of
/// |u| * scale - k with the coefficients c[.][k], our own minimax fits (Lawson's iteration in the Chebyshev basis, then
/// rounded to f32); k = 15 holds the constant. Against one polynomial for all u this halves the multiply-adds, which
/// bound the kernel in cache.
template <int N>
struct Pieces {
  float scale;
  alignas(64) float c[N][16];
};

/// Phi(u) - 1/2. Largest error of the f32 evaluation 1.7e-7 of max(|u|, 1) after the product with u.
constexpr Pieces<5> kNormalCdf = {
    2.734375f,
    {{3.891363676e-09f, 1.427108496e-01f, 2.677412927e-01f, 3.637105227e-01f, 4.282467663e-01f, 4.662680924e-01f,
      4.858925641e-01f, 4.947663844e-01f, 4.982816577e-01f, 4.995015860e-01f, 4.998724759e-01f, 4.999712408e-01f,
      4.999943078e-01f, 4.999990165e-01f, 4.999998510e-01f, 0.5f},
     {1.458985060e-01f, 1.364603341e-01f, 1.116556749e-01f, 7.992275804e-02f, 5.004655197e-02f, 2.741510794e-02f,
      1.313758083e-02f, 5.507412367e-03f, 2.019681036e-03f, 6.479133735e-04f, 1.818214805e-04f, 4.463362347e-05f,
      9.584328836e-06f, 1.800267569e-06f, 2.957880838e-07f, 0},
     {6.259776455e-06f, -9.125322104e-03f, -1.493329555e-02f, -1.603383012e-02f, -1.338700205e-02f, -9.166726843e-03f,
      -5.271423608e-03f, -2.578196814e-03f, -1.080575748e-03f, -3.899932781e-04f, -1.216079982e-04f,
      -3.283944534e-05f, -7.693315638e-06f, -1.565623279e-06f, -2.770508445e-07f, 0},
     {-3.287426895e-03f, -2.621007152e-03f, -1.157013234e-03f, 3.526808287e-04f, 1.259486657e-03f, 1.424723887e-03f,
      1.115518971e-03f, 6.834907690e-04f, 3.427103511e-04f, 1.437163155e-04f, 5.103279182e-05f, 1.546472777e-05f,
      4.020389042e-06f, 9.000087857e-07f, 1.739696671e-07f, 0},
     {8.079548570e-05f, 2.888290619e-04f, 4.072804004e-04f, 3.194746969e-04f, 1.288459171e-04f, -3.367372483e-05f,
      -1.054894747e-04f, -1.016861643e-04f, -6.702135579e-05f, -3.425460454e-05f, -1.422276546e-05f,
      -4.909071322e-06f, -1.427402481e-06f, -3.526309627e-07f, -7.444752015e-08f, 0}}};

/// Phi(u) + u * phi(u) - 1/2, the derivative of GELU less 1/2. Largest error of the f32 evaluation 2e-7.
constexpr Pieces<6> kGeluDerivative = {
    2.5390625f,
    {{1.840226305e-10f, 2.985491455e-01f, 5.149898529e-01f, 6.158435345e-01f, 6.241235733e-01f, 5.885521770e-01f,
      5.487222075e-01f, 5.216794610e-01f, 5.079685450e-01f, 5.024468899e-01f, 5.006319284e-01f, 5.001378655e-01f,
      5.000254512e-01f, 5.000039935e-01f, 5.000005364e-01f, 0.5f},
     {3.142437339e-01f, 2.682398260e-01f, 1.589425951e-01f, 4.721774161e-02f, -2.188832127e-02f, -4.244568571e-02f,
      -3.451770172e-02f, -1.967969909e-02f, -8.702989668e-03f, -3.102947259e-03f, -9.092104156e-04f,
      -2.213749540e-04f, -4.510232247e-05f, -7.725549040e-06f, -1.116303224e-06f, 0},
     {5.560326031e-07f, -4.335443676e-02f, -6.039480120e-02f, -4.736656696e-02f, -2.139658481e-02f, -1.071589766e-03f,
      7.099322975e-03f, 6.869147997e-03f, 4.037784413e-03f, 1.755946549e-03f, 6.007689517e-04f, 1.663128933e-04f,
      3.783523425e-05f, 7.141426067e-06f, 1.125582571e-06f, 0},
     {-1.625235379e-02f, -1.104406826e-02f, -1.249259803e-04f, 7.726897486e-03f, 8.471188135e-03f, 4.737704992e-03f,
      9.728427394e-04f, -7.780309534e-04f, -9.383890429e-04f, -5.612843088e-04f, -2.366502158e-04f, -7.675069355e-05f,
      -1.986706593e-05f, -4.185885700e-06f, -7.264770261e-07f, 0},
     {1.497415178e-05f, 2.349719172e-03f, 2.645113505e-03f, 1.079950482e-03f, -5.562864244e-04f, -1.078100642e-03f,
      -7.080525393e-04f, -1.969476289e-04f, 6.186307292e-05f, 9.893770039e-05f, 5.948180478e-05f, 2.410154229e-05f,
      7.371915672e-06f, 1.780207299e-06f, 3.473629135e-07f, 0},
     {5.472030607e-04f, 3.023921163e-04f, -1.746544876e-04f, -3.835324023e-04f, -2.296091116e-04f, 9.468216376e-06f,
      1.103693576e-04f, 8.119345148e-05f, 2.464817044e-05f, -4.431477464e-06f, -8.762241123e-06f, -5.082193638e-06f,
      -1.927069206e-06f, -5.443381497e-07f, -1.204033282e-07f, 0}}};

template <int N, int M>
inline Vectors<float, M> evaluate(const Pieces<N>& fit, const Vectors<float, M>& u) {
  // Adding 2^23 rounds to an integer and leaves it in the low bits; the permutation reads four of them.
  const Vec<float> shift = Vec<float>::all(8388608), scale = Vec<float>::all(fit.scale);
  const Vec<float> last = Vec<float>::all(15 / fit.scale);
  Vectors<float, M> r, sum;
  __m512i piece[M];
  for (int m = 0; m < M; ++m) {
    const Vec<float> magnitude = min(last, Vec<float>{_mm512_abs_ps(u.v[m].v)});
    const Vec<float> shifted = fma(magnitude, scale, shift);
    piece[m] = _mm512_castps_si512(shifted.v);
    r.v[m] = fma(magnitude, scale, shift - shifted);
  }
#pragma GCC unroll 16
  for (int k = N - 1; k >= 0; --k) {
    const __m512 coefficients = _mm512_load_ps(fit.c[k]);
    for (int m = 0; m < M; ++m) {
      const Vec<float> c = {_mm512_permutexvar_ps(piece[m], coefficients)};
      sum.v[m] = k == N - 1 ? c : fma(sum.v[m], r.v[m], c);
    }
  }
  constexpr int kSignOfFirst = 0xCA;  // bitwise a ? b : c
  const __m512i sign = _mm512_set1_epi32(INT32_MIN);
  for (int m = 0; m < M; ++m)
    sum.v[m].v = _mm512_castsi512_ps(_mm512_ternarylogic_epi32(sign, _mm512_castps_si512(u.v[m].v),
                                                               _mm512_castps_si512(sum.v[m].v), kSignOfFirst));
  return sum;
}

#else

/// An odd function u * P(2 u^2 / limit^2 - 1), constant beyond |u| = limit. P is our own minimax fit (Lawson's
/// iteration in the Chebyshev basis over u^2, then rounded to f32); the shifted argument lies in [-1, 1], which keeps
/// its rounding harmless.
template <int N>
struct OddFit {
  float limit, scale;
  float c[N];
};

/// Phi(u) - 1/2. Largest error of the f32 evaluation 3.7e-7 of max(|u|, 1) after the product with u; it exceeds 1/2 at
/// the limit, so that with a clamp Phi is exactly 0 and 1 beyond it.
constexpr OddFit<13> kNormalCdf = {
    5.2f,
    7.396449894e-02f,
    {1.359499395e-01f, -6.774284691e-02f, 5.002869293e-02f, -3.995570540e-02f, 3.193262964e-02f, -2.449263446e-02f,
     1.823847368e-02f, -1.338409912e-02f, 7.933137007e-03f, -3.170233220e-03f, 2.432252280e-03f, -2.647119807e-03f,
     1.031382708e-03f}};

/// Phi(u) + u * phi(u) - 1/2, the derivative of GELU less 1/2. Largest error of the f32 evaluation 4.3e-7; exactly 1/2
/// at the limit.
constexpr OddFit<16> kGeluDerivative = {
    5.6f,
    6.377550960e-02f,
    {1.264165789e-01f, -6.428290159e-02f, 5.181610957e-02f, -5.094723403e-02f, 5.650106817e-02f, -6.518480182e-02f,
     7.320133597e-02f, -7.216584682e-02f, 6.003801897e-02f, -5.588266999e-02f, 5.753126368e-02f, -3.216147423e-02f,
     1.844666316e-03f, -6.904593203e-03f, 1.623526774e-02f, -6.769071333e-03f}};

template <int N, int M>
inline Vectors<float, M> evaluate(const OddFit<N>& fit, const Vectors<float, M>& u) {
  Vectors<float, M> inside, argument, sum;
  for (int m = 0; m < M; ++m) {
    inside.v[m] = max(Vec<float>::all(-fit.limit), min(Vec<float>::all(fit.limit), u.v[m]));
    argument.v[m] = fma(inside.v[m] * inside.v[m], Vec<float>::all(fit.scale), Vec<float>::all(-1));
    sum.v[m] = Vec<float>::all(fit.c[N - 1]);
  }
#pragma GCC unroll 16
  for (int k = N - 2; k >= 0; --k)
    for (int m = 0; m < M; ++m) sum.v[m] = fma(sum.v[m], argument.v[m], Vec<float>::all(fit.c[k]));
  for (int m = 0; m < M; ++m) sum.v[m] = inside.v[m] * sum.v[m];
  return sum;
}

#endif

template <int M>
inline Vectors<float, M> gelu(const Vectors<float, M>& u) {
  const Vec<float> half = Vec<float>::all(0.5f);
  Vectors<float, M> y = evaluate(kNormalCdf, u);
#ifndef __AVX512F__
  for (Vec<float>& v : y.v) v = max(Vec<float>::all(-0.5f), min(half, v));
#endif
  for (int m = 0; m < M; ++m) y.v[m] = u.v[m] * (half + y.v[m]);
  return y;
}
template <int M>
inline Vectors<float, M> gelu_derivative(const Vectors<float, M>& u) {
  Vectors<float, M> derivative = evaluate(kGeluDerivative, u);
  for (Vec<float>& v : derivative.v) v = Vec<float>::all(0.5f) + v;
  return derivative;
}

}  // namespace sinter::kernels::cpu
