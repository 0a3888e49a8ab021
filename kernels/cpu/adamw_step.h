// One step of AdamW in registers, for the kernels that must agree to the bit.
#pragma once

#include <cstring>

#include "kernels/adamw.h"
#include "kernels/cpu/cast.h"
#include "kernels/cpu/simd.h"
#include "kernels/cpu/vector_loop.h"

namespace sinter::kernels::cpu {

/// What does not change from step to step.
template <class T>
struct AdamWConstants {
  Vec<T> one_minus_beta1, beta2, one_minus_beta2, eps;

  template <class P>
  explicit AdamWConstants(const P& p)
      : one_minus_beta1(Vec<T>::all(static_cast<T>(1 - p.beta1))),
        beta2(Vec<T>::all(static_cast<T>(p.beta2))),
        one_minus_beta2(Vec<T>::all(static_cast<T>(1 - p.beta2))),
        eps(Vec<T>::all(static_cast<T>(p.eps))) {}
};

/// What does.
template <class T>
struct AdamWNow {
  Vec<T> decay, step_size, inverse_root;

  explicit AdamWNow(const AdamWCoefficients& k)
      : decay(Vec<T>::all(static_cast<T>(k.decay))),
        step_size(Vec<T>::all(static_cast<T>(k.step_size))),
        inverse_root(Vec<T>::all(static_cast<T>(k.inverse_root))) {}
};

/// g is the gradient, clipped.
template <class T>
inline void take_adamw_step(const AdamWConstants<T>& k, const AdamWNow<T>& now, Vec<T> g, Vec<T>& p, Vec<T>& m,
                            Vec<T>& v) {
  m = fma(k.one_minus_beta1, g - m, m);
  v = fma(k.beta2, v, k.one_minus_beta2 * g * g);
  const Vec<T> denominator = fma(sqrt(v), now.inverse_root, k.eps);
  p = p * now.decay - now.step_size * m / denominator;
}

/// Rounds parameters to 16 bits, as to_bf16() and to_f16() do. The vectors hold f32 values, eight at a time.
inline __m128i round_to_bf16(__m256 x) {
  const __m256i bits = _mm256_castps_si256(x), one = _mm256_set1_epi32(1);
  const __m256i upper = _mm256_srli_epi32(bits, 16);
  const __m256i half = _mm256_add_epi32(_mm256_set1_epi32(0x7fff), _mm256_and_si256(upper, one));
  const __m256i rounded = _mm256_srli_epi32(_mm256_add_epi32(bits, half), 16);
  const __m256i quiet = _mm256_or_si256(upper, _mm256_set1_epi32(0x40));
  const __m256i nan = _mm256_castps_si256(_mm256_cmp_ps(x, x, _CMP_UNORD_Q));
  const __m256i result = _mm256_blendv_epi8(rounded, quiet, nan);
  return _mm_packus_epi32(_mm256_castsi256_si128(result), _mm256_extracti128_si256(result, 1));
}
inline __m128i round_to_16_bits(__m256 x, Dtype dtype) {
  if (dtype == Dtype::bf16) return round_to_bf16(x);
  return _mm256_cvtps_ph(x, _MM_FROUND_TO_NEAREST_INT);
}

inline void round_low(std::uint16_t* low, Vec<float> x, Dtype dtype) {
  alignas(64) float value[Vec<float>::size];
  x.store(value);
  for (int i = 0; i < Vec<float>::size; i += 8)
    _mm_storeu_si128(reinterpret_cast<__m128i*>(low + i), round_to_16_bits(_mm256_load_ps(value + i), dtype));
}
inline void round_low(std::uint16_t* low, Vec<double> x, Dtype dtype) {
  alignas(32) float value[8] = {};
  for (int i = 0; i < Vec<double>::size; ++i) value[i] = static_cast<float>(x.v[i]);
  const __m128i rounded = round_to_16_bits(_mm256_load_ps(value), dtype);
  std::memcpy(low, &rounded, sizeof(std::uint16_t) * Vec<double>::size);
}

/// 16-bit elements as they are computed: f16 and bf16 values are exact in both types.
template <class T>
inline Vec<T> load_low(const std::uint16_t* low, Dtype dtype, FirstLanes lanes) {
  alignas(64) T value[Vec<T>::size] = {};
  for (std::int64_t i = 0; i < lanes.count; ++i)
    value[i] = static_cast<T>(dtype == Dtype::f16 ? widen(f16{low[i]}) : to_float(bf16{low[i]}));
  return Vec<T>::load(value);
}
template <class T>
inline Vec<T> load_low(const std::uint16_t* low, Dtype dtype, AllLanes) {
  return load_low<T>(low, dtype, FirstLanes{Vec<T>::size});
}

template <class T>
inline void store_low(std::uint16_t* low, Dtype dtype, Vec<T> x, AllLanes) {
  round_low(low, x, dtype);
}
template <class T>
inline void store_low(std::uint16_t* low, Dtype dtype, Vec<T> x, FirstLanes lanes) {
  std::uint16_t all[Vec<T>::size];
  round_low(all, x, dtype);
  std::memcpy(low, all, static_cast<std::size_t>(lanes.count) * sizeof(std::uint16_t));
}

}  // namespace sinter::kernels::cpu
