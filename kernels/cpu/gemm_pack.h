// Copies a piece of an operand into a panel: for each k, `width` neighbouring rows of op(A) (or columns of op(B)) side
// by side, so that the micro-kernel reads both operands in order. Lanes behind the edge of the matrix hold values that
// belong to no element of C; the micro-kernel drops their results.
#pragma once

#include <immintrin.h>

#include <algorithm>
#include <cstdint>
#include <cstring>

namespace sinter::kernels::cpu {

/// dst[k * width + i] = src[k * ld + i] for i < count: the panel's lanes are neighbours in memory.
template <int width, class T>
void pack_rows(const T* src, std::int64_t ld, std::int64_t count, std::int64_t depth, T* dst) {
  if (count >= width)
    for (std::int64_t k = 0; k < depth; ++k) std::memcpy(dst + k * width, src + k * ld, width * sizeof(T));
  else
    for (std::int64_t k = 0; k < depth; ++k)
      std::memcpy(dst + k * width, src + k * ld, static_cast<std::size_t>(count) * sizeof(T));
}

/// Transposes 8 rows of 8 f32: dst[k * width + i] = row[i][k]. 24 shuffles for 64 elements.
template <int width>
inline void transpose_8x8(const float* const (&row)[8], std::int64_t k, float* dst) {
  // Rows i and i + 4 share a register, so that the exchange of 128-bit halves is done by the loads.
  __m256 low[4], high[4];
  for (int i = 0; i < 4; ++i) {
    low[i] = _mm256_insertf128_ps(_mm256_castps128_ps256(_mm_loadu_ps(row[i] + k)), _mm_loadu_ps(row[i + 4] + k), 1);
    high[i] = _mm256_insertf128_ps(_mm256_castps128_ps256(_mm_loadu_ps(row[i] + k + 4)),
                                   _mm_loadu_ps(row[i + 4] + k + 4), 1);
  }
  const auto columns = [](const __m256 (&r)[4], float* out) {
    const __m256d t0 = _mm256_castps_pd(_mm256_unpacklo_ps(r[0], r[1]));
    const __m256d t1 = _mm256_castps_pd(_mm256_unpackhi_ps(r[0], r[1]));
    const __m256d t2 = _mm256_castps_pd(_mm256_unpacklo_ps(r[2], r[3]));
    const __m256d t3 = _mm256_castps_pd(_mm256_unpackhi_ps(r[2], r[3]));
    _mm256_storeu_ps(out, _mm256_castpd_ps(_mm256_unpacklo_pd(t0, t2)));
    _mm256_storeu_ps(out + width, _mm256_castpd_ps(_mm256_unpackhi_pd(t0, t2)));
    _mm256_storeu_ps(out + 2 * width, _mm256_castpd_ps(_mm256_unpacklo_pd(t1, t3)));
    _mm256_storeu_ps(out + 3 * width, _mm256_castpd_ps(_mm256_unpackhi_pd(t1, t3)));
  };
  columns(low, dst);
  columns(high, dst + 4 * width);
}

template <int width>
inline void transpose_4x4(const float* const (&row)[4], std::int64_t k, float* dst) {
  __m128 r0 = _mm_loadu_ps(row[0] + k), r1 = _mm_loadu_ps(row[1] + k);
  __m128 r2 = _mm_loadu_ps(row[2] + k), r3 = _mm_loadu_ps(row[3] + k);
  _MM_TRANSPOSE4_PS(r0, r1, r2, r3);
  _mm_storeu_ps(dst, r0);
  _mm_storeu_ps(dst + width, r1);
  _mm_storeu_ps(dst + 2 * width, r2);
  _mm_storeu_ps(dst + 3 * width, r3);
}

template <int width>
inline void transpose_4x4(const double* const (&row)[4], std::int64_t k, double* dst) {
  const __m256d r0 = _mm256_loadu_pd(row[0] + k), r1 = _mm256_loadu_pd(row[1] + k);
  const __m256d r2 = _mm256_loadu_pd(row[2] + k), r3 = _mm256_loadu_pd(row[3] + k);
  const __m256d t0 = _mm256_unpacklo_pd(r0, r1), t1 = _mm256_unpackhi_pd(r0, r1);
  const __m256d t2 = _mm256_unpacklo_pd(r2, r3), t3 = _mm256_unpackhi_pd(r2, r3);
  _mm256_storeu_pd(dst, _mm256_permute2f128_pd(t0, t2, 0x20));
  _mm256_storeu_pd(dst + width, _mm256_permute2f128_pd(t1, t3, 0x20));
  _mm256_storeu_pd(dst + 2 * width, _mm256_permute2f128_pd(t0, t2, 0x31));
  _mm256_storeu_pd(dst + 3 * width, _mm256_permute2f128_pd(t1, t3, 0x31));
}

/// `lanes` lanes of pack_columns, starting at lane `first`.
template <int width, int lanes, class T>
inline void pack_lanes(const T* src, std::int64_t ld, std::int64_t count, int first, std::int64_t depth, T* dst) {
  const T* row[lanes];
  for (int i = 0; i < lanes; ++i) row[i] = src + std::min<std::int64_t>(first + i, count - 1) * ld;
  dst += first;
  std::int64_t k = 0;
  if constexpr (lanes == 8)
    for (; k + 8 <= depth; k += 8) transpose_8x8<width>(row, k, dst + k * width);
  else
    for (; k + 4 <= depth; k += 4) transpose_4x4<width>(row, k, dst + k * width);
  for (; k < depth; ++k)
    for (int i = 0; i < lanes; ++i) dst[k * width + i] = row[i][k];
}

/// dst[k * width + i] = src[i * ld + k] for i < count: the panel's lanes are rows in memory, so this transposes.
template <int width, class T>
void pack_columns(const T* src, std::int64_t ld, std::int64_t count, std::int64_t depth, T* dst) {
  static_assert(width % 4 == 0);
  int first = 0;
  if constexpr (sizeof(T) == 4)
    for (; first + 8 <= width && first < count; first += 8) pack_lanes<width, 8>(src, ld, count, first, depth, dst);
  for (; first < width && first < count; first += 4) pack_lanes<width, 4>(src, ld, count, first, depth, dst);
}

}  // namespace sinter::kernels::cpu
