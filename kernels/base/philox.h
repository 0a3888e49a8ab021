// Stateless random numbers: Philox4x32-10 and the dropout decisions drawn from it.
// Source: Salmon, Moraes, Dror, Shaw, "Parallel random numbers: as easy as 1, 2, 3", SC'11.
#pragma once

#include <cstdint>

#include "kernels/base/on_device.h"

namespace sinter::kernels {

struct Philox4x32 {
  std::uint32_t word[4];
};

/// One block of Philox4x32-10: 128 random bits, a pure function of key and counter.
SINTER_HOST_DEVICE constexpr Philox4x32 philox4x32_10(std::uint64_t key, std::uint32_t c0, std::uint32_t c1,
                                                      std::uint32_t c2, std::uint32_t c3) {
  std::uint32_t k0 = static_cast<std::uint32_t>(key);
  std::uint32_t k1 = static_cast<std::uint32_t>(key >> 32);
  for (int round = 0; round < 10; ++round) {
    const std::uint64_t p0 = std::uint64_t{0xD2511F53u} * c0;
    const std::uint64_t p1 = std::uint64_t{0xCD9E8D57u} * c2;
    c0 = static_cast<std::uint32_t>(p1 >> 32) ^ c1 ^ k0;
    c1 = static_cast<std::uint32_t>(p1);
    c2 = static_cast<std::uint32_t>(p0 >> 32) ^ c3 ^ k1;
    c3 = static_cast<std::uint32_t>(p0);
    k0 += 0x9E3779B9u;
    k1 += 0xBB67AE85u;
  }
  return {{c0, c1, c2, c3}};
}

/// One dropout site of one step. Counter = (global step, site, sample's ordinal in the global batch, element / 8);
/// the block's eight 16-bit halves, low half of word 0 first, decide elements 8k .. 8k+7 of that sample.
/// A mask therefore depends on nothing but these numbers: recomputing, resuming, packing, accumulating or sharding
/// cannot change it, and every backend draws the same bits.
struct Dropout16 {
  std::uint64_t seed = 0;
  const std::uint32_t* step = nullptr;           ///< global step, in the memory of the device that runs the kernel
  const std::uint32_t* first_sample = nullptr;   ///< ordinal of this batch's sample 0; null means 0
  std::uint32_t site = 0;                        ///< number of the dropout layer in the model
  std::uint32_t threshold = 0;                   ///< an element whose 16 bits are less is dropped; 0 = no dropout

  SINTER_HOST_DEVICE constexpr bool active() const { return threshold != 0; }
  /// Kept elements are multiplied by this: 1 / (1 - threshold / 65536).
  SINTER_HOST_DEVICE constexpr double scale() const {
    return 65536.0 / (65536.0 - static_cast<double>(threshold));
  }
};

/// p rounded to the nearest k / 65536, k <= 65535. `p` must lie in [0, 1).
constexpr std::uint32_t dropout_threshold(double p) {
  const auto k = static_cast<std::uint32_t>(p * 65536.0 + 0.5);
  return k > 65535u ? 65535u : k;
}

/// The eight decisions of elements 8 * block .. 8 * block + 7: bit i is set when element i is kept.
SINTER_HOST_DEVICE constexpr std::uint32_t dropout_keep8(const Dropout16& d, std::uint32_t step, std::uint32_t sample,
                                                         std::uint32_t block) {
  const Philox4x32 r = philox4x32_10(d.seed, step, d.site, sample, block);
  std::uint32_t keep = 0;
  for (int i = 0; i < 4; ++i) {
    keep |= static_cast<std::uint32_t>((r.word[i] & 0xffffu) >= d.threshold) << (2 * i);
    keep |= static_cast<std::uint32_t>((r.word[i] >> 16) >= d.threshold) << (2 * i + 1);
  }
  return keep;
}

/// Which sample, and which place in it, each row of a [rows, cols] buffer belongs to: element (r, c) of the buffer is
/// element position[r] * cols + c of sample first_sample + sample[r]. Null `sample`: row r is sample r; null
/// `position`: 0.
struct RowMap {
  const std::int32_t* sample = nullptr;
  const std::int32_t* position = nullptr;
};

/// Attention probabilities: element (head, query, key) of a sample is (head * stride + query) * stride + key.
inline constexpr std::uint64_t kAttentionDropoutStride = 4096;

}  // namespace sinter::kernels
