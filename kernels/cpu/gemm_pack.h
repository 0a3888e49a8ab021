// Copies a piece of an operand into panels: for each k, `width` neighbouring rows of op(A) (or columns of op(B)) side
// by side, so that the micro-kernel reads both operands in order. Lanes behind the edge of the matrix hold values that
// belong to no element of C; the micro-kernel drops their results.
#pragma once

#include <immintrin.h>

#include <algorithm>
#include <cstdint>
#include <cstring>

namespace sinter::kernels::cpu::gemm {

/// Elements of k after which packing turns to the next lanes: few enough rows of memory for the TLB (rows), and of the
/// panel for L1 (columns).
inline constexpr std::int64_t kPackRowsStep = 16, kPackColumnsStep = 64;

/// Lane i of panel q is lane l = q * width + i < count; its element k is src[k * ld + l] (lanes are neighbours in
/// memory) and goes to dst[q * panel_size + k * stride + i].
template <int width, int stride, class T>
void pack_rows(const T* src, std::int64_t ld, std::int64_t count, std::int64_t depth, T* dst, std::int64_t panel_size) {
  for (std::int64_t begin = 0; begin < depth; begin += kPackRowsStep) {
    const std::int64_t end = std::min(depth, begin + kPackRowsStep);
    T* panel = dst;
    std::int64_t lane = 0;
    for (; lane + width <= count; lane += width, panel += panel_size)
      for (std::int64_t k = begin; k < end; ++k)
        std::memcpy(panel + k * stride, src + k * ld + lane, width * sizeof(T));
    if (lane < count)
      for (std::int64_t k = begin; k < end; ++k)
        std::memcpy(panel + k * stride, src + k * ld + lane, static_cast<std::size_t>(count - lane) * sizeof(T));
  }
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

/// dst[k * width + i] = src[i * ld + k] for i < lanes, begin <= k < end. Lanes from `count` on repeat the last one.
/// Meanwhile the cache fetches as many elements of each row at `next`: the hardware sees too few lines of a row in
/// sequence to do so.
template <int width, int lanes, class T>
inline void transpose_lanes(const T* src, std::int64_t ld, std::int64_t count, std::int64_t begin, std::int64_t end,
                            const T* next, T* dst) {
  constexpr std::int64_t line = 64 / sizeof(T);
  for (std::int64_t i = 0; i < std::min<std::int64_t>(lanes, count); ++i)
    for (std::int64_t k = 0; k < end - begin; k += line) __builtin_prefetch(next + i * ld + k);
  const T* row[lanes];
  for (int i = 0; i < lanes; ++i) row[i] = src + std::min<std::int64_t>(i, count - 1) * ld;
  std::int64_t k = begin;
  if constexpr (lanes == 8)
    for (; k + 8 <= end; k += 8) transpose_8x8<width>(row, k, dst + k * width);
  else
    for (; k + 4 <= end; k += 4) transpose_4x4<width>(row, k, dst + k * width);
  for (; k < end; ++k)
    for (int i = 0; i < lanes; ++i) dst[k * width + i] = row[i][k];
}

/// As pack_rows, but element k of lane l is src[l * ld + k]: lanes are rows in memory, so this transposes.
template <int width, int stride, class T>
void pack_columns(const T* src, std::int64_t ld, std::int64_t count, std::int64_t depth, T* dst,
                  std::int64_t panel_size) {
  static_assert(stride % 4 == 0 && width <= stride);
  constexpr int lanes = sizeof(T) == 4 ? 8 : 4;
  for (std::int64_t lane = 0; lane < count; lane += width, dst += panel_size)
    for (std::int64_t begin = 0; begin < depth; begin += kPackColumnsStep) {
      const std::int64_t end = std::min(depth, begin + kPackColumnsStep);
      const std::int64_t left = std::min<std::int64_t>(width, count - lane);
      const T* rows = src + lane * ld;
      int i = 0;
      for (; i + lanes <= stride && i < left; i += lanes) {
        const T* next = i + lanes < left ? rows + (i + lanes) * ld + begin : rows + end;
        transpose_lanes<stride, lanes>(rows + i * ld, ld, left - i, begin, end, next, dst + i);
      }
      if (i < stride && i < left)
        transpose_lanes<stride, 4>(rows + i * ld, ld, left - i, begin, end, rows + end, dst + i);
    }
}

}  // namespace sinter::kernels::cpu::gemm
