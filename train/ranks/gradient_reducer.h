// Adds up the gradients of several ranks while backward still computes the others.
#pragma once

#include <cstdint>
#include <memory>
#include <unordered_map>
#include <vector>

#include "core/flat_parameters.h"
#include "core/parameter.h"
#include "core/process_group.h"

namespace sinter::train {

/// The flat gradient buffer in buckets: ranges of whole segments, each reduced over all ranks by one operation. A
/// bucket is sent as soon as backward has completed the gradients of all its segments and the buckets before it are
/// under way; so every rank sends them in the same order, which follows the model from its end to its beginning.
///
///   GradientReducer reducer(optimizer.parameters(), model.named_parameters(), group);
///   for each update:
///     for each micro-batch but the last: loss.backward();
///     { const GradientReducer::Overlap overlap(reducer); loss.backward(); }   // left out where a rank has no batch
///     reducer.finish();                                                       // now gradients() is the sum
///
/// Sums are those of ProcessGroup: of every element over the ranks, whatever bucket it is in.
class GradientReducer {
 public:
  /// torch's and HF's ddp_bucket_cap_mb.
  static constexpr std::int64_t kBucketBytes = std::int64_t{25} << 20;
  /// Of the bucket that is sent last; the one before it has twice as many at most, and so on.
  static constexpr std::int64_t kLastBucketBytes = std::int64_t{1} << 20;

  /// `forward_order`: the model's parameters in about the order in which forward reads them; those that are not in
  /// `parameters` do not matter. A bucket has at most `bucket_bytes`, or one segment; 0: nothing is sent before
  /// finish(), and then all of it at once. Parameters and ranks must outlive this, and parameters must not be adopted
  /// anew meanwhile. Error(unsupported) for gradients in 16 bits (FlatParameters::keep_low_copy).
  GradientReducer(FlatParameters& parameters, const ParameterList& forward_order, ProcessGroup& ranks,
                  std::int64_t bucket_bytes = kBucketBytes);
  GradientReducer(const GradientReducer&) = delete;
  GradientReducer& operator=(const GradientReducer&) = delete;

  /// While it lives, the one backward pass of the calling thread is the last of this update, and gradients that it
  /// completes are final. Those of checkpoints (core/autograd/checkpoint.h) are sent by finish(). Error(usage) out of
  /// backward where a checkpoint adds to a parameter that is used outside too, and was sent; its gradient is lost.
  class Overlap {
   public:
    explicit Overlap(GradientReducer& reducer);
    ~Overlap();
    Overlap(const Overlap&) = delete;
    Overlap& operator=(const Overlap&) = delete;
  };

  /// Sends what was not sent, zeros where no gradient came, and waits for all of it. Every rank calls it, once in an
  /// update.
  void finish();

  ProcessGroup& ranks() const { return ranks_; }
  std::int64_t bucket_count() const { return static_cast<std::int64_t>(buckets_.size()); }

 private:
  struct Bucket {
    std::int64_t begin = 0, end = 0;       // elements of the flat buffer
    std::int64_t first = 0;                // place in forward of the segment that backward completes last
    std::vector<std::size_t> segments{};
    std::size_t missing = 0;               // segments that backward has not completed
  };

  void cut_buckets(const ParameterList& forward_order, std::int64_t bucket_bytes);
  void completed(const Tensor& leaf);
  void send(Bucket& bucket);

  FlatParameters& parameters_;
  ProcessGroup& ranks_;
  bool overlaps_;
  std::vector<Bucket> buckets_;                                      // in the order in which they are sent
  std::unordered_map<const void*, std::size_t> segment_of_;          // of a leaf, by its Meta
  std::vector<std::size_t> bucket_of_;                               // of a segment
  std::vector<bool> complete_;                                       // of segments, in this update
  std::vector<std::unique_ptr<Work>> under_way_;                     // of the first buckets
};

}  // namespace sinter::train
