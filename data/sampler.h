// The order in which a data set is visited, and its cut into batches. Every order is a function of (seed, epoch,
// size): resuming at any batch of any epoch needs no replay and no saved random state.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "data/dataset.h"

namespace sinter::data {

/// A permutation of 0 .. size - 1 that may differ from epoch to epoch.
class Sampler {
 public:
  virtual ~Sampler() = default;
  /// Number of samples of an epoch.
  std::int64_t size() const { return static_cast<std::int64_t>(order_.size()); }
  /// Chooses the epoch, counted from 0; ErrorCode::usage below 0. O(size) when the epoch changes, else O(1).
  virtual void set_epoch(std::int64_t epoch) = 0;
  /// The whole order of the chosen epoch; valid until set_epoch.
  std::span<const std::int64_t> order() const { return order_; }

 protected:
  /// Starts with the order 0, 1, 2 ...; ErrorCode::usage unless 0 <= size < 2^32.
  explicit Sampler(std::int64_t size);
  std::vector<std::int64_t> order_;
};

/// 0, 1, 2 ... in every epoch.
class SequentialSampler final : public Sampler {
 public:
  explicit SequentialSampler(std::int64_t size) : Sampler(size) {}
  void set_epoch(std::int64_t epoch) override;
};

/// A uniformly drawn permutation: Fisher and Yates' shuffle on Philox with key `seed` and sequence `epoch`. Starts in
/// epoch 0. The order depends on nothing else, in particular not on the platform or on other uses of the seed.
class RandomSampler final : public Sampler {
 public:
  RandomSampler(std::int64_t size, std::uint64_t seed);
  void set_epoch(std::int64_t epoch) override;

 private:
  void shuffle();
  std::uint64_t seed_;
  std::int64_t epoch_ = 0;
};

/// Samples of like length side by side, so that padded batches hold few pads (HF's train_sampling_strategy
/// "group_by_length"): a drawn permutation is cut into groups of min(size / (4 * batch_size), 50), at least one,
/// batches; each group is sorted by descending length; the longest sample of all comes first, so that a lack of memory
/// shows in step 1. Unlike in HF, the batches are then shuffled, all but the first and an incomplete last one, so that
/// lengths do not rise and fall through the epoch. A function of (seed, epoch, lengths). Starts in epoch 0.
class LengthGroupedSampler final : public Sampler {
 public:
  /// `batch_size`: samples of one update, all of its micro-batches together. ErrorCode::usage below 1.
  LengthGroupedSampler(std::vector<std::int64_t> lengths, std::int64_t batch_size, std::uint64_t seed);
  void set_epoch(std::int64_t epoch) override;

 private:
  void arrange();
  void shuffle_batches();
  std::vector<std::int64_t> lengths_;
  std::int64_t batch_size_;
  std::uint64_t seed_;
  std::int64_t epoch_ = 0;
};

/// The values of the integer column `length_column` where it is there, else the numbers of input_ids.
std::vector<std::int64_t> sample_lengths(const Dataset& dataset, const std::string& length_column = "length");

/// Cuts a sampler's epoch into batches of `batch_size`; the last one is shorter, or absent with drop_last.
class BatchSampler {
 public:
  /// Keeps a reference to `sampler`. ErrorCode::usage unless batch_size >= 1.
  BatchSampler(Sampler& sampler, std::int64_t batch_size, bool drop_last = false);

  /// Batches in an epoch.
  std::int64_t size() const;
  /// The samples of batch `batch` of the chosen epoch, any batch in O(1); valid until set_epoch.
  /// ErrorCode::usage unless 0 <= batch < size().
  std::span<const std::int64_t> batch_indices(std::int64_t batch) const;
  void set_epoch(std::int64_t epoch) { sampler_.set_epoch(epoch); }

 private:
  Sampler& sampler_;
  std::int64_t batch_size_;
  bool drop_last_;
};

}  // namespace sinter::data
