// Philox4x32-10 for 32 counters at a time, and the dropout decisions of a stretch of one sample.
// Idea: the four words of a counter stand in the low halves of 64-bit lanes, where one vpmuludq gives a whole product
// and ignores what stands in the upper halves; so a round is two multiplications, two shifts and two or four xors, and
// no shuffle.
#pragma once

#include <immintrin.h>

#include <cstdint>

#include "kernels/base/philox.h"

namespace sinter::kernels::cpu {

/// Decisions come in groups of this many blocks (8 elements each).
inline constexpr int kPhiloxBlocks = 32;

/// One dropout site of one step, for one sample of the batch. What is the same for all blocks is computed once: the
/// first of the ten rounds multiplies nothing that depends on the block.
class SampleDropout {
 public:
  SampleDropout(const Dropout16& dropout, std::uint32_t sample) : threshold_(dropout.threshold) {
    const auto product = [](std::uint32_t a, std::uint32_t b) { return std::uint64_t{a} * b; };
    std::uint32_t k0 = static_cast<std::uint32_t>(dropout.seed);
    std::uint32_t k1 = static_cast<std::uint32_t>(dropout.seed >> 32);
    const std::uint64_t p0 = product(kMultiplier0, *dropout.step), p1 = product(kMultiplier1, sample);
    c0_ = static_cast<std::uint32_t>(p1 >> 32) ^ dropout.site ^ k0;
    c1_ = static_cast<std::uint32_t>(p1);
    c2_ = static_cast<std::uint32_t>(p0 >> 32) ^ k1;  // still to be combined with the block
    c3_ = static_cast<std::uint32_t>(p0);
    for (int round = 0; round < kRounds; ++round) {
      key0_[round] = k0 += 0x9E3779B9u;
      key1_[round] = k1 += 0xBB67AE85u;
    }
  }

  /// keep[i] = the eight decisions of block blocks[i] (bit e set: element 8 * blocks[i] + e is kept), for kPhiloxBlocks
  /// blocks.
  void keep(const std::uint32_t* blocks, std::uint8_t* keep) const {
    for (int i = 0; i < kPhiloxBlocks; i += kGroups * kLanes) {
      Words lanes[kGroups];
      for (int g = 0; g < kGroups; ++g) lanes[g] = load_blocks(blocks + i + g * kLanes);
      keep_groups(lanes, keep + i);
    }
  }

  /// The same for consecutive blocks.
  void keep_from(std::uint32_t first_block, std::uint8_t* decisions) const {
    for (int i = 0; i < kPhiloxBlocks; i += kGroups * kLanes) {
      Words lanes[kGroups];
      for (int g = 0; g < kGroups; ++g)
        lanes[g] = consecutive_blocks(first_block + static_cast<std::uint32_t>(i + g * kLanes));
      keep_groups(lanes, decisions + i);
    }
  }

 private:
  static constexpr std::uint32_t kMultiplier0 = 0xD2511F53u, kMultiplier1 = 0xCD9E8D57u;
  static constexpr int kRounds = 9;   // after the first
  static constexpr int kGroups = 4;   // vectors of counters in flight: hides the latency of the multiplications
#ifdef __AVX512F__
  using Words = __m512i;
  static constexpr int kLanes = 8;
  static Words all(std::uint64_t x) { return _mm512_set1_epi64(static_cast<long long>(x)); }
  static Words multiply(Words a, Words b) { return _mm512_mul_epu32(a, b); }
  static Words high(Words a) { return _mm512_srli_epi64(a, 32); }
  static Words exclusive_or(Words a, Words b, Words c) { return _mm512_ternarylogic_epi64(a, b, c, 0x96); }

  /// Lane i holds block order[i], so that unpacking the words yields ascending elements.
  static Words load_blocks(const std::uint32_t* blocks) {
    const __m256i order = _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7);
    const __m256i ascending = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(blocks));
    return _mm512_cvtepu32_epi64(_mm256_permutevar8x32_epi32(ascending, order));
  }
  static Words consecutive_blocks(std::uint32_t first) {
    return _mm512_add_epi64(all(first), _mm512_setr_epi64(0, 4, 1, 5, 2, 6, 3, 7));
  }
  void decide(Words w0, Words w1, Words w2, Words w3, std::uint8_t* keep) const {
    const Words a = _mm512_mask_mov_epi32(w0, 0xAAAA, _mm512_slli_epi64(w1, 32));
    const Words b = _mm512_mask_mov_epi32(w2, 0xAAAA, _mm512_slli_epi64(w3, 32));
    const Words threshold = _mm512_set1_epi16(static_cast<short>(threshold_));
    const std::uint32_t lower = _mm512_cmpge_epu16_mask(_mm512_unpacklo_epi64(a, b), threshold);
    const std::uint32_t upper = _mm512_cmpge_epu16_mask(_mm512_unpackhi_epi64(a, b), threshold);
    __builtin_memcpy(keep, &lower, 4);
    __builtin_memcpy(keep + 4, &upper, 4);
  }
#else
  using Words = __m256i;
  static constexpr int kLanes = 4;
  static Words all(std::uint64_t x) { return _mm256_set1_epi64x(static_cast<long long>(x)); }
  static Words multiply(Words a, Words b) { return _mm256_mul_epu32(a, b); }
  static Words high(Words a) { return _mm256_srli_epi64(a, 32); }
  static Words exclusive_or(Words a, Words b, Words c) { return _mm256_xor_si256(_mm256_xor_si256(a, b), c); }

  static Words load_blocks(const std::uint32_t* blocks) {
    return _mm256_cvtepu32_epi64(_mm_loadu_si128(reinterpret_cast<const __m128i*>(blocks)));
  }
  static Words consecutive_blocks(std::uint32_t first) {
    return _mm256_add_epi64(all(first), _mm256_setr_epi64x(0, 1, 2, 3));
  }
  void decide(Words w0, Words w1, Words w2, Words w3, std::uint8_t* keep) const {
    const Words a = _mm256_blend_epi32(w0, _mm256_slli_epi64(w1, 32), 0xAA);
    const Words b = _mm256_blend_epi32(w2, _mm256_slli_epi64(w3, 32), 0xAA);
    const Words threshold = _mm256_set1_epi16(static_cast<short>(threshold_));
    const auto kept = [&](Words x) { return _mm256_cmpeq_epi16(_mm256_max_epu16(x, threshold), x); };
    const Words both = _mm256_packs_epi16(kept(_mm256_unpacklo_epi64(a, b)), kept(_mm256_unpackhi_epi64(a, b)));
    const int mask = _mm256_movemask_epi8(both);
    __builtin_memcpy(keep, &mask, 4);
  }
#endif

  void keep_groups(const Words (&blocks)[kGroups], std::uint8_t* keep) const {
    Words c0[kGroups], c1[kGroups], c2[kGroups], c3[kGroups];
    for (int g = 0; g < kGroups; ++g) {
      c0[g] = all(c0_);
      c1[g] = all(c1_);
      c2[g] = all(c2_) ^ blocks[g];
      c3[g] = all(c3_);
    }
    const Words m0 = all(kMultiplier0), m1 = all(kMultiplier1);
    for (int round = 0; round < kRounds; ++round) {
      const Words k0 = all(key0_[round]), k1 = all(key1_[round]);
      for (int g = 0; g < kGroups; ++g) {
        const Words p0 = multiply(m0, c0[g]), p1 = multiply(m1, c2[g]);
        c0[g] = exclusive_or(high(p1), c1[g], k0);
        c1[g] = p1;
        c2[g] = exclusive_or(high(p0), c3[g], k1);
        c3[g] = p0;
      }
    }
    for (int g = 0; g < kGroups; ++g) decide(c0[g], c1[g], c2[g], c3[g], keep + g * kLanes);
  }

  std::uint32_t threshold_;
  std::uint32_t c0_, c1_, c2_, c3_;   // the counter after the first round
  std::uint64_t key0_[kRounds], key1_[kRounds];
};

}  // namespace sinter::kernels::cpu
