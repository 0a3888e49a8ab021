// Which sample and which place each row of a batch of sequences is.
#pragma once

#include <memory>
#include <mutex>
#include <vector>

#include "core/tensor.h"

namespace sinter {

/// B sequences laid end to end in T rows. Built from lengths (packed: no padding) or as a padded grid with a mask.
/// Immutable and shared by the ops of one forward. Its tensors are on the CPU, where ops that only look at them want
/// them.
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

  /// The same with its tensors on `device`: this one for the CPU, else a copy that is made at the first call and lives
  /// as long as this one.
  const Packing& on(Device device) const;

 private:
  struct Moved {
    std::mutex lock;
    std::vector<std::unique_ptr<const Packing>> packings;   // one for each device that asked
  };
  std::shared_ptr<Moved> moved_ = std::make_shared<Moved>();
};

}  // namespace sinter
