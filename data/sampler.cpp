#include "data/sampler.h"

#include <algorithm>
#include <numeric>
#include <utility>

#include "core/error.h"
#include "data/draws.h"

namespace sinter::data {

namespace {

void check_epoch(std::int64_t epoch) {
  if (epoch < 0) fail(ErrorCode::usage, "Epoch ", epoch, " does not exist; epochs are counted from 0.");
}

}  // namespace

Sampler::Sampler(std::int64_t size) {
  if (size < 0 || size > std::int64_t{0xFFFFFFFF}) {
    fail(ErrorCode::usage, "A sampler of ", size, " samples was asked for; it takes 0 to 4294967295.");
  }
  order_.resize(static_cast<std::size_t>(size));
  std::iota(order_.begin(), order_.end(), std::int64_t{0});
}

void SequentialSampler::set_epoch(std::int64_t epoch) { check_epoch(epoch); }

RandomSampler::RandomSampler(std::int64_t size, std::uint64_t seed) : Sampler(size), seed_(seed) { shuffle(); }

void RandomSampler::set_epoch(std::int64_t epoch) {
  check_epoch(epoch);
  if (epoch == epoch_) return;
  epoch_ = epoch;
  std::iota(order_.begin(), order_.end(), std::int64_t{0});
  shuffle();
}

void RandomSampler::shuffle() {
  Draws draws(seed_, DrawPurpose::permutation, static_cast<std::uint64_t>(epoch_));
  data::shuffle(std::span(order_), draws);
}

BatchSampler::BatchSampler(Sampler& sampler, std::int64_t batch_size, bool drop_last)
    : sampler_(sampler), batch_size_(batch_size), drop_last_(drop_last) {
  if (batch_size < 1) fail(ErrorCode::usage, "The batch size is ", batch_size, "; it must be at least 1.");
}

std::int64_t BatchSampler::size() const {
  const std::int64_t whole = sampler_.size() / batch_size_;
  return whole + (!drop_last_ && sampler_.size() % batch_size_ != 0 ? 1 : 0);
}

std::span<const std::int64_t> BatchSampler::batch_indices(std::int64_t batch) const {
  if (batch < 0 || batch >= size()) {
    fail(ErrorCode::usage, "Batch ", batch, " was asked for in an epoch of ", size(), " batches.");
  }
  const std::int64_t first = batch * batch_size_;
  const std::int64_t count = std::min(batch_size_, sampler_.size() - first);
  return sampler_.order().subspan(static_cast<std::size_t>(first), static_cast<std::size_t>(count));
}

}  // namespace sinter::data
