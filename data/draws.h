// Unbiased integers from the stateless generator, for samplers and for generated data.
#pragma once

#include <cstdint>
#include <span>
#include <utility>

#include "kernels/base/philox.h"

namespace sinter::data {

/// What a sequence of draws is for. It is a word of Philox's counter, far above every dropout site, so that one seed
/// can serve the whole run without two users of it drawing the same bits.
enum class DrawPurpose : std::uint32_t {
  permutation = 0xFFFF0001u,
  review = 0xFFFF0002u,
  review_split = 0xFFFF0003u,
  dataset_order = 0xFFFF0004u,
  train_test_split = 0xFFFF0005u,
  batch_order = 0xFFFF0006u,
};

/// The sequence of draws number `sequence` of `seed` and `purpose`; a pure function of the three.
/// Counter: (block number, purpose, sequence low, sequence high).
class Draws {
 public:
  Draws(std::uint64_t seed, DrawPurpose purpose, std::uint64_t sequence)
      : seed_(seed), sequence_(sequence), purpose_(purpose) {}

  /// The next 32 bits. A sequence has 2^34 of them.
  std::uint32_t next() {
    if (left_ == 0) {
      block_ = kernels::philox4x32_10(seed_, block_number_++, static_cast<std::uint32_t>(purpose_),
                                      static_cast<std::uint32_t>(sequence_),
                                      static_cast<std::uint32_t>(sequence_ >> 32));
      left_ = 4;
    }
    return block_.word[4 - left_--];
  }

  /// A number in [0, bound), each equally likely; bound >= 1. Source: Lemire, "Fast random integer generation in an
  /// interval", 2019: the high half of a product, rejecting the (2^32 mod bound) low halves that would bias it.
  std::uint32_t below(std::uint32_t bound) {
    std::uint64_t product = std::uint64_t{next()} * bound;
    if (static_cast<std::uint32_t>(product) < bound) {
      const std::uint32_t rejected = (0u - bound) % bound;
      while (static_cast<std::uint32_t>(product) < rejected) product = std::uint64_t{next()} * bound;
    }
    return static_cast<std::uint32_t>(product >> 32);
  }

 private:
  std::uint64_t seed_;
  std::uint64_t sequence_;
  DrawPurpose purpose_;
  std::uint32_t block_number_ = 0;
  int left_ = 0;
  kernels::Philox4x32 block_{};
};

/// Fisher and Yates' shuffle: each order of the values, of which there are fewer than 2^32, is equally likely.
template <class T>
void shuffle(std::span<T> values, Draws& draws) {
  for (std::size_t i = values.size(); i > 1; --i)
    std::swap(values[i - 1], values[draws.below(static_cast<std::uint32_t>(i))]);
}

}  // namespace sinter::data
