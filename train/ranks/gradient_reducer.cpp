#include "train/ranks/gradient_reducer.h"

#include <algorithm>
#include <limits>

#include "core/autograd/engine.h"
#include "core/autograd/node.h"
#include "core/error.h"

namespace sinter::train {

GradientReducer::GradientReducer(FlatParameters& parameters, const ParameterList& forward_order, ProcessGroup& ranks,
                                 std::int64_t bucket_bytes)
    : parameters_(parameters), ranks_(ranks), overlaps_(bucket_bytes > 0),
      complete_(parameters.segments().size(), false) {
  if (parameters.has_low_gradients())
    fail(ErrorCode::unsupported, "ranks add up gradients in f32, and these are kept in 16 bits; call keep_low_copy "
         "without low_gradients");
  const std::vector<Segment>& segments = parameters.segments();
  for (std::size_t i = 0; i < segments.size(); ++i) segment_of_[&segments[i].tensor.ensure_meta()] = i;
  bucket_of_.resize(segments.size());
  cut_buckets(forward_order, overlaps_ ? bucket_bytes : std::numeric_limits<std::int64_t>::max());
}

/// Cuts at segments' borders, so that the buckets cover the flat buffer with its gaps, and orders them. What backward
/// completes last, at the end of a group, cannot be hidden behind it: there the buckets are small, and double.
void GradientReducer::cut_buckets(const ParameterList& forward_order, std::int64_t bucket_bytes) {
  const std::vector<Segment>& segments = parameters_.segments();
  std::vector<std::int64_t> place(segments.size(), 0);
  for (std::size_t i = forward_order.size(); i-- > 0;)   // of a tied weight the first, which backward comes to last
    if (const auto found = segment_of_.find(&forward_order[i].tensor.ensure_meta()); found != segment_of_.end())
      place[found->second] = static_cast<std::int64_t>(i);
  const auto size = static_cast<std::int64_t>(size_of(parameters_.gradients().dtype()));
  std::int64_t end = parameters_.numel(), cap = 0;   // the end of a group has a gap, which counts for nothing
  for (std::size_t i = segments.size(); i-- > 0; end = segments[i].offset) {
    const Segment* const last = buckets_.empty() ? nullptr : &segments[buckets_.back().segments.front()];
    const bool same_group = last != nullptr && last->group == segments[i].group;
    const bool fits = same_group && (last->offset + last->numel - segments[i].offset) * size <= cap;
    if (overlaps_ ? !fits : last == nullptr) {
      cap = same_group ? std::min(2 * cap, bucket_bytes) : std::min(kLastBucketBytes, bucket_bytes);
      buckets_.push_back({.end = end, .first = std::numeric_limits<std::int64_t>::max()});
    }
    Bucket& bucket = buckets_.back();
    bucket.begin = segments[i].offset;
    bucket.segments.push_back(i);
    bucket.first = std::min(bucket.first, place[i]);
    ++bucket.missing;
  }
  std::stable_sort(buckets_.begin(), buckets_.end(),
                   [](const Bucket& a, const Bucket& b) { return a.first > b.first; });
  for (std::size_t b = 0; b < buckets_.size(); ++b)
    for (const std::size_t segment : buckets_[b].segments) bucket_of_[segment] = b;
}

GradientReducer::Overlap::Overlap(GradientReducer& reducer) {
  if (reducer.overlaps_) autograd::set_leaf_ready_hook([&reducer](const Tensor& leaf) { reducer.completed(leaf); });
}

GradientReducer::Overlap::~Overlap() { autograd::set_leaf_ready_hook({}); }

void GradientReducer::completed(const Tensor& leaf) {
  const auto found = segment_of_.find(&leaf.ensure_meta());
  if (found == segment_of_.end()) return;
  const std::size_t segment = found->second;
  if (bucket_of_[segment] < under_way_.size())
    fail(ErrorCode::usage, "the gradient of ", parameters_.segments()[segment].name, " was sent to the other ranks, "
         "and backward adds to it: it is used in a checkpoint and outside; set ddp_bucket_cap_mb to 0, which sends "
         "gradients after backward");
  // What a checkpoint completes, another may add to: that waits for finish().
  if (complete_[segment] || autograd::backward_depth() > 1) return;
  complete_[segment] = true;
  --buckets_[bucket_of_[segment]].missing;
  while (under_way_.size() < buckets_.size() && buckets_[under_way_.size()].missing == 0)
    send(buckets_[under_way_.size()]);
}

void GradientReducer::send(Bucket& bucket) {
  for (const std::size_t segment : bucket.segments) parameters_.settle_gradient(parameters_.segments()[segment]);
  under_way_.push_back(
      ranks_.all_reduce_async(parameters_.gradients().narrow(0, bucket.begin, bucket.end - bucket.begin)));
}

void GradientReducer::finish() {
  while (under_way_.size() < buckets_.size()) send(buckets_[under_way_.size()]);
  for (const std::unique_ptr<Work>& work : under_way_) work->wait();
  under_way_.clear();
  std::fill(complete_.begin(), complete_.end(), false);
  for (Bucket& bucket : buckets_) bucket.missing = bucket.segments.size();
}

}  // namespace sinter::train
