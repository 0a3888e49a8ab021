// Which sample and which place each row of a batch of sequences is.
#pragma once

#include <memory>
#include <mutex>
#include <vector>

#include "core/tensor.h"

namespace sinter {

/// B sequences laid end to end in T rows. Built from lengths (packed: no padding) or as a padded grid with a mask.
/// Immutable and shared by the ops of one forward. Its tensors are on the CPU, where ops that only look at them want
/// them. The last `fillers` sequences belong to no sample: they fill a batch up to a size that comes again and are
/// computed like the others, and whoever takes something from each sequence leaves them out.
struct Packing {
  std::int64_t sequences = 0;     ///< B
  std::int64_t fillers = 0;       ///< of them
  std::int64_t tokens = 0;        ///< T
  std::int64_t max_length = 0;
  std::int64_t pairs = 0;         ///< sum of squared lengths: what attention computes
  Tensor offsets;                 ///< i32 [B + 1]
  Tensor sample;                  ///< i32 [T]: sequence of each row
  Tensor position;                ///< i32 [T]: place in the sequence
  Tensor first;                   ///< i64 [B - fillers]: first row of each sequence of a sample
  Tensor key_mask;                ///< u8 [T], undefined when every key counts

  /// B sequences of these lengths, without padding; the last `fillers` of them are of no sample. A negative length and
  /// more fillers than sequences are usage errors.
  static std::shared_ptr<const Packing> packed(const std::vector<std::int64_t>& lengths, std::int64_t fillers = 0);
  /// B sequences of S rows each; `mask` i64 [B, S] (1 keep, 0 ignore) becomes the key mask.
  static std::shared_ptr<const Packing> padded(const Tensor& mask);

  /// The same with its tensors on `device`: this one for the CPU, else a copy that is made at the first call and lives
  /// as long as this one.
  const Packing& on(Device device) const;
  /// One whose tensors on the device of `offsets` are the given ones, whose content may change from use to use while
  /// its sizes stay (but for `pairs`, which stay those of `like`): what is computed with it there can be captured. No sequence of any content is longer than
  /// `max_length`.
  static std::shared_ptr<const Packing> placed(const Packing& like, const Tensor& offsets, const Tensor& sample,
                                               const Tensor& position, const Tensor& first, std::int64_t max_length);

 private:
  struct Moved {
    std::mutex lock;
    std::vector<std::unique_ptr<const Packing>> packings;   // one for each device that asked
  };
  std::shared_ptr<Moved> moved_ = std::make_shared<Moved>();
};

}  // namespace sinter
