// Which sample and which place each row of a batch of sequences is.
#pragma once

#include <memory>

#include "core/tensor.h"

namespace sinter {

/// B sequences laid end to end in T rows. Built from lengths (packed: no padding) or as a padded grid with a mask.
/// Immutable and shared by the ops of one forward.
struct Packing {
  std::int64_t sequences = 0;     ///< B
  std::int64_t tokens = 0;        ///< T
  std::int64_t max_length = 0;
  Tensor offsets;                 ///< i32 [B + 1]
  Tensor sample;                  ///< i32 [T]: sequence of each row
  Tensor position;                ///< i32 [T]: place in the sequence
  Tensor key_mask;                ///< u8 [T], undefined when every key counts

  /// B sequences of these lengths, without padding. A negative length is a usage error.
  static std::shared_ptr<const Packing> packed(const std::vector<std::int64_t>& lengths);
  /// B sequences of S rows each; `mask` i64 [B, S] (1 keep, 0 ignore) becomes the key mask.
  static std::shared_ptr<const Packing> padded(const Tensor& mask);
};

}  // namespace sinter
