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

LengthGroupedSampler::LengthGroupedSampler(std::vector<std::int64_t> lengths, std::int64_t batch_size,
                                           std::uint64_t seed)
    : Sampler(static_cast<std::int64_t>(lengths.size())),
      lengths_(std::move(lengths)),
      batch_size_(batch_size),
      seed_(seed) {
  if (batch_size < 1) fail(ErrorCode::usage, "The batch size is ", batch_size, "; it must be at least 1.");
  arrange();
}

void LengthGroupedSampler::set_epoch(std::int64_t epoch) {
  check_epoch(epoch);
  if (epoch == epoch_) return;
  epoch_ = epoch;
  arrange();
}

void LengthGroupedSampler::arrange() {
  std::iota(order_.begin(), order_.end(), std::int64_t{0});
  Draws draws(seed_, DrawPurpose::permutation, static_cast<std::uint64_t>(epoch_));
  data::shuffle(std::span(order_), draws);
  const auto longer = [&](std::int64_t a, std::int64_t b) {
    return lengths_[static_cast<std::size_t>(a)] > lengths_[static_cast<std::size_t>(b)];
  };
  const std::int64_t batches = std::clamp<std::int64_t>(size() / batch_size_ / 4, 1, 50);
  const std::int64_t group = std::min(batches * std::min(batch_size_, size()), size());
  std::int64_t longest = 0;
  for (std::int64_t begin = 0; begin < size(); begin += group) {
    std::stable_sort(order_.begin() + begin, order_.begin() + std::min(begin + group, size()), longer);
    if (longer(order_[static_cast<std::size_t>(begin)], order_[static_cast<std::size_t>(longest)])) longest = begin;
  }
  if (longest > 0) std::swap(order_[0], order_[static_cast<std::size_t>(longest)]);
  shuffle_batches();
}

void LengthGroupedSampler::shuffle_batches() {
  const std::int64_t whole = size() / batch_size_;
  if (whole < 3) return;
  std::vector<std::int64_t> batches(static_cast<std::size_t>(whole));
  std::iota(batches.begin(), batches.end(), std::int64_t{0});
  Draws draws(seed_, DrawPurpose::batch_order, static_cast<std::uint64_t>(epoch_));
  data::shuffle(std::span(batches).subspan(1), draws);
  const std::vector<std::int64_t> grouped = order_;
  auto to = order_.begin();
  for (const std::int64_t batch : batches) to = std::copy_n(grouped.begin() + batch * batch_size_, batch_size_, to);
}

std::vector<std::int64_t> sample_lengths(const Dataset& dataset, const std::string& length_column) {
  if (dataset.has_column(length_column)) {
    const Column& column = dataset.column(length_column);
    if (!column.is_integer())
      fail(ErrorCode::usage, "The column \"", length_column, "\" holds values of the kind ", column.kind(),
           "; lengths are integers.");
    return column.integers();
  }
  const Lists& ids = dataset.column("input_ids").lists();
  std::vector<std::int64_t> lengths;
  for (std::int64_t row = 0; row < ids.size(); ++row) lengths.push_back(static_cast<std::int64_t>(ids[row].size()));
  return lengths;
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
