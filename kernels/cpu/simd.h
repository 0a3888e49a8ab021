// Vectors of f32 and f64 for the CPU kernels: 512 bits where the file is compiled for AVX-512, else 256 (AVX2 and FMA).
// Tails are loads and stores of the first n lanes, which touch no memory behind them.
#pragma once

#include <immintrin.h>

#include <cstdint>

namespace sinter::kernels::cpu {

template <class T>
struct Vec;

#ifdef __AVX512F__

template <>
struct Vec<float> {
  static constexpr int size = 16;
  __m512 v;

  static __mmask16 first(std::int64_t n) { return static_cast<__mmask16>((1u << n) - 1u); }
  static Vec all(float x) { return {_mm512_set1_ps(x)}; }
  static Vec load(const float* p) { return {_mm512_loadu_ps(p)}; }
  /// The first n lanes (0 <= n <= size) from p, the others zero.
  static Vec load(const float* p, std::int64_t n) { return {_mm512_maskz_loadu_ps(first(n), p)}; }
  /// The first n lanes of this, `other` behind them.
  Vec first_or(std::int64_t n, Vec other) const { return {_mm512_mask_mov_ps(other.v, first(n), v)}; }
  void store(float* p) const { _mm512_storeu_ps(p, v); }
  /// Around the caches, to an address that is a multiple of the vector.
  void stream(float* p) const { _mm512_stream_ps(p, v); }
  void store(float* p, std::int64_t n) const { _mm512_mask_storeu_ps(p, first(n), v); }
  /// Lanes whose bit in `bits` is set; the others zero.
  Vec keep(std::uint32_t bits) const { return {_mm512_maskz_mov_ps(static_cast<__mmask16>(bits), v)}; }
};

template <>
struct Vec<double> {
  static constexpr int size = 8;
  __m512d v;

  static __mmask8 first(std::int64_t n) { return static_cast<__mmask8>((1u << n) - 1u); }
  static Vec all(double x) { return {_mm512_set1_pd(x)}; }
  static Vec load(const double* p) { return {_mm512_loadu_pd(p)}; }
  static Vec load(const double* p, std::int64_t n) { return {_mm512_maskz_loadu_pd(first(n), p)}; }
  Vec first_or(std::int64_t n, Vec other) const { return {_mm512_mask_mov_pd(other.v, first(n), v)}; }
  void store(double* p) const { _mm512_storeu_pd(p, v); }
  void stream(double* p) const { _mm512_stream_pd(p, v); }
  void store(double* p, std::int64_t n) const { _mm512_mask_storeu_pd(p, first(n), v); }
  Vec keep(std::uint32_t bits) const { return {_mm512_maskz_mov_pd(static_cast<__mmask8>(bits), v)}; }
};

inline Vec<float> fma(Vec<float> a, Vec<float> b, Vec<float> c) { return {_mm512_fmadd_ps(a.v, b.v, c.v)}; }
inline Vec<double> fma(Vec<double> a, Vec<double> b, Vec<double> c) { return {_mm512_fmadd_pd(a.v, b.v, c.v)}; }
inline Vec<float> sqrt(Vec<float> a) { return {_mm512_sqrt_ps(a.v)}; }
inline Vec<double> sqrt(Vec<double> a) { return {_mm512_sqrt_pd(a.v)}; }
/// Whether a bit is set in any lane: false for +0 alone.
inline bool any_bit(Vec<float> a) {
  return _mm512_test_epi32_mask(_mm512_castps_si512(a.v), _mm512_castps_si512(a.v)) != 0;
}
inline bool any_bit(Vec<double> a) {
  return _mm512_test_epi64_mask(_mm512_castpd_si512(a.v), _mm512_castpd_si512(a.v)) != 0;
}
/// Where a lane of either is NaN, the lane of b (so has the instruction; exp relies on it).
inline Vec<float> max(Vec<float> a, Vec<float> b) { return {_mm512_max_ps(a.v, b.v)}; }
inline Vec<double> max(Vec<double> a, Vec<double> b) { return {_mm512_max_pd(a.v, b.v)}; }
inline Vec<float> min(Vec<float> a, Vec<float> b) { return {_mm512_min_ps(a.v, b.v)}; }
inline Vec<double> min(Vec<double> a, Vec<double> b) { return {_mm512_min_pd(a.v, b.v)}; }
/// Nearest integer, ties to even.
inline Vec<float> round(Vec<float> a) { return {_mm512_roundscale_ps(a.v, _MM_FROUND_TO_NEAREST_INT)}; }
inline Vec<double> round(Vec<double> a) { return {_mm512_roundscale_pd(a.v, _MM_FROUND_TO_NEAREST_INT)}; }
/// a * 2^n for integral n; overflows to infinity and underflows to zero or a denormal.
inline Vec<float> scale_by_power(Vec<float> a, Vec<float> n) { return {_mm512_scalef_ps(a.v, n.v)}; }
inline Vec<double> scale_by_power(Vec<double> a, Vec<double> n) { return {_mm512_scalef_pd(a.v, n.v)}; }

#else

/// -1 eight times, then 0 eight times: the mask of the first n lanes starts n places before the middle.
alignas(64) inline constexpr std::int32_t kLaneMask32[16] = {-1, -1, -1, -1, -1, -1, -1, -1, 0, 0, 0, 0, 0, 0, 0, 0};
alignas(64) inline constexpr std::int64_t kLaneMask64[8] = {-1, -1, -1, -1, 0, 0, 0, 0};

template <>
struct Vec<float> {
  static constexpr int size = 8;
  __m256 v;

  static __m256i first(std::int64_t n) {
    return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(kLaneMask32 + 8 - n));
  }
  static Vec all(float x) { return {_mm256_set1_ps(x)}; }
  static Vec load(const float* p) { return {_mm256_loadu_ps(p)}; }
  /// The first n lanes (0 <= n <= size) from p, the others zero.
  static Vec load(const float* p, std::int64_t n) { return {_mm256_maskload_ps(p, first(n))}; }
  /// The first n lanes of this, `other` behind them.
  Vec first_or(std::int64_t n, Vec other) const {
    return {_mm256_blendv_ps(other.v, v, _mm256_castsi256_ps(first(n)))};
  }
  void store(float* p) const { _mm256_storeu_ps(p, v); }
  /// Around the caches, to an address that is a multiple of the vector.
  void stream(float* p) const { _mm256_stream_ps(p, v); }
  void store(float* p, std::int64_t n) const { _mm256_maskstore_ps(p, first(n), v); }
  /// Lanes whose bit in `bits` is set; the others zero.
  Vec keep(std::uint32_t bits) const {
    const __m256i bit = _mm256_setr_epi32(1, 2, 4, 8, 16, 32, 64, 128);
    const __m256i set = _mm256_and_si256(_mm256_set1_epi32(static_cast<int>(bits)), bit);
    return {_mm256_and_ps(v, _mm256_castsi256_ps(_mm256_cmpeq_epi32(set, bit)))};
  }
};

template <>
struct Vec<double> {
  static constexpr int size = 4;
  __m256d v;

  static __m256i first(std::int64_t n) {
    return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(kLaneMask64 + 4 - n));
  }
  static Vec all(double x) { return {_mm256_set1_pd(x)}; }
  static Vec load(const double* p) { return {_mm256_loadu_pd(p)}; }
  static Vec load(const double* p, std::int64_t n) { return {_mm256_maskload_pd(p, first(n))}; }
  Vec first_or(std::int64_t n, Vec other) const {
    return {_mm256_blendv_pd(other.v, v, _mm256_castsi256_pd(first(n)))};
  }
  void store(double* p) const { _mm256_storeu_pd(p, v); }
  void stream(double* p) const { _mm256_stream_pd(p, v); }
  void store(double* p, std::int64_t n) const { _mm256_maskstore_pd(p, first(n), v); }
  Vec keep(std::uint32_t bits) const {
    const __m256i bit = _mm256_setr_epi64x(1, 2, 4, 8);
    const __m256i set = _mm256_and_si256(_mm256_set1_epi64x(static_cast<std::int64_t>(bits)), bit);
    return {_mm256_and_pd(v, _mm256_castsi256_pd(_mm256_cmpeq_epi64(set, bit)))};
  }
};

inline Vec<float> fma(Vec<float> a, Vec<float> b, Vec<float> c) { return {_mm256_fmadd_ps(a.v, b.v, c.v)}; }
inline Vec<double> fma(Vec<double> a, Vec<double> b, Vec<double> c) { return {_mm256_fmadd_pd(a.v, b.v, c.v)}; }
inline Vec<float> sqrt(Vec<float> a) { return {_mm256_sqrt_ps(a.v)}; }
inline Vec<double> sqrt(Vec<double> a) { return {_mm256_sqrt_pd(a.v)}; }
/// Whether a bit is set in any lane: false for +0 alone.
inline bool any_bit(Vec<float> a) {
  return _mm256_testz_si256(_mm256_castps_si256(a.v), _mm256_castps_si256(a.v)) == 0;
}
inline bool any_bit(Vec<double> a) {
  return _mm256_testz_si256(_mm256_castpd_si256(a.v), _mm256_castpd_si256(a.v)) == 0;
}
/// Where a lane of either is NaN, the lane of b (so has the instruction; exp relies on it).
inline Vec<float> max(Vec<float> a, Vec<float> b) { return {_mm256_max_ps(a.v, b.v)}; }
inline Vec<double> max(Vec<double> a, Vec<double> b) { return {_mm256_max_pd(a.v, b.v)}; }
inline Vec<float> min(Vec<float> a, Vec<float> b) { return {_mm256_min_ps(a.v, b.v)}; }
inline Vec<double> min(Vec<double> a, Vec<double> b) { return {_mm256_min_pd(a.v, b.v)}; }
/// Nearest integer, ties to even.
inline Vec<float> round(Vec<float> a) { return {_mm256_round_ps(a.v, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC)}; }
inline Vec<double> round(Vec<double> a) {
  return {_mm256_round_pd(a.v, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC)};
}

/// a * 2^n for integral n, |n| <= 252 (f32) or 2044 (f64), in two steps so that neither factor overflows.
inline Vec<float> scale_by_power(Vec<float> a, Vec<float> n) {
  const __m256i exponent = _mm256_cvtps_epi32(n.v);
  const __m256i half = _mm256_srai_epi32(exponent, 1), rest = _mm256_sub_epi32(exponent, half);
  const __m256i bias = _mm256_set1_epi32(127);
  const __m256 f = _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_add_epi32(half, bias), 23));
  const __m256 g = _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_add_epi32(rest, bias), 23));
  return {_mm256_mul_ps(_mm256_mul_ps(a.v, f), g)};
}
inline Vec<double> scale_by_power(Vec<double> a, Vec<double> n) {
  const __m128i exponent = _mm256_cvtpd_epi32(n.v);
  const __m128i half = _mm_srai_epi32(exponent, 1), rest = _mm_sub_epi32(exponent, half);
  const __m256i bias = _mm256_set1_epi64x(1023);
  const __m256i f = _mm256_slli_epi64(_mm256_add_epi64(_mm256_cvtepi32_epi64(half), bias), 52);
  const __m256i g = _mm256_slli_epi64(_mm256_add_epi64(_mm256_cvtepi32_epi64(rest), bias), 52);
  return {_mm256_mul_pd(_mm256_mul_pd(a.v, _mm256_castsi256_pd(f)), _mm256_castsi256_pd(g))};
}

#endif

template <class T>
inline Vec<T> operator+(Vec<T> a, Vec<T> b) {
  return {a.v + b.v};
}
template <class T>
inline Vec<T> operator-(Vec<T> a, Vec<T> b) {
  return {a.v - b.v};
}
template <class T>
inline Vec<T> operator*(Vec<T> a, Vec<T> b) {
  return {a.v * b.v};
}
template <class T>
inline Vec<T> operator/(Vec<T> a, Vec<T> b) {
  return {a.v / b.v};
}

/// Folds the upper half of the lanes onto the lower one until one lane is left: a fixed tree. `op` takes vectors and
/// scalars.
template <class Op>
inline float fold(__m128 a, Op op) {
  a = op(a, _mm_movehl_ps(a, a));
  return op(a[0], a[1]);
}
template <class Op>
inline double fold(__m128d a, Op op) {
  return op(a[0], a[1]);
}
template <class Op>
inline float fold(__m256 a, Op op) {
  return fold(op(_mm256_castps256_ps128(a), _mm256_extractf128_ps(a, 1)), op);
}
template <class Op>
inline double fold(__m256d a, Op op) {
  return fold(op(_mm256_castpd256_pd128(a), _mm256_extractf128_pd(a, 1)), op);
}
#ifdef __AVX512F__
template <class Op>
inline float fold(__m512 a, Op op) {
  return fold(op(_mm512_castps512_ps256(a), _mm512_extractf32x8_ps(a, 1)), op);
}
template <class Op>
inline double fold(__m512d a, Op op) {
  return fold(op(_mm512_castpd512_pd256(a), _mm512_extractf64x4_pd(a, 1)), op);
}
#endif

template <class T>
inline T reduce_add(Vec<T> a) {
  return fold(a.v, [](auto x, auto y) { return x + y; });
}
template <class T>
inline T reduce_max(Vec<T> a) {
  return fold(a.v, [](auto x, auto y) { return x > y ? x : y; });
}

namespace detail {
template <class T>
struct ExpConstants;
/// The Taylor polynomial of |r| <= ln(2) / 2: the first term left out is below 0.1 ulp of T.
template <>
struct ExpConstants<float> {
  static constexpr int degree = 7;
  static constexpr float log2e = 1.44269504088896340736f, ln2_high = 0.693147182464599609375f,
                         ln2_low = -1.904654299957767e-9f, lowest = -110, highest = 90;
};
template <>
struct ExpConstants<double> {
  static constexpr int degree = 13;
  static constexpr double log2e = 1.44269504088896340736, ln2_high = 0.693147180559945286227,
                          ln2_low = 2.319046813846299558e-17, lowest = -750, highest = 711;
};
constexpr double factorial(int n) { return n < 2 ? 1 : n * factorial(n - 1); }
}  // namespace detail

/// e^x within 2 ulp; 0 for -inf and far below, inf from where e^x overflows, NaN for NaN.
/// x = n ln 2 + r with integral n, e^x = 2^n e^r.
template <class T>
inline Vec<T> exp(Vec<T> x) {
  using C = detail::ExpConstants<T>;
  x = min(Vec<T>::all(C::highest), max(Vec<T>::all(C::lowest), x));
  const Vec<T> n = round(x * Vec<T>::all(C::log2e));
  Vec<T> r = fma(n, Vec<T>::all(-C::ln2_high), x);
  r = fma(n, Vec<T>::all(-C::ln2_low), r);
  Vec<T> power = Vec<T>::all(static_cast<T>(1 / detail::factorial(C::degree)));
#pragma GCC unroll 16
  for (int k = C::degree - 1; k >= 0; --k) power = fma(power, r, Vec<T>::all(static_cast<T>(1 / detail::factorial(k))));
  return scale_by_power(power, n);
}

}  // namespace sinter::kernels::cpu
