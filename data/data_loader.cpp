#include "data/data_loader.h"

#include <utility>

#include "core/error.h"

namespace sinter::data {

namespace {

void check(const char* name, std::int64_t value, std::int64_t low) {
  constexpr std::int64_t kMost = 1024;
  if (value < low || value > kMost)
    fail(ErrorCode::usage, name, " is ", value, ", it must lie between ", low, " and ", kMost);
}

}  // namespace

DataLoader::DataLoader(Dataset dataset, std::unique_ptr<Sampler> sampler, DataCollator collator,
                       const DataLoaderOptions& options)
    : dataset_(std::move(dataset)),
      sampler_(std::move(sampler)),
      batches_(*sampler_, options.batch_size, options.drop_last),
      collator_(std::move(collator)),
      options_(options) {
  check("num_workers", options.num_workers, 0);
  check("prefetch_factor", options.prefetch_factor, 1);
  if (options.batches_per_update < 1)
    fail(ErrorCode::usage, "batches_per_update is ", options.batches_per_update, ", it must be at least 1");
  if (sampler_->size() != dataset_.size())
    fail(ErrorCode::usage, "the sampler orders ", sampler_->size(), " samples, the data set has ", dataset_.size());
  slots_.resize(static_cast<std::size_t>(options.num_workers * options.prefetch_factor));
  for (std::int64_t i = 0; i < options.num_workers; ++i)
    workers_.emplace_back([this](const std::stop_token& stop) { work(stop); });
}

void DataLoader::seek(std::int64_t epoch, std::int64_t batch) {
  if (batch < 0 || batch > size())
    fail(ErrorCode::usage, "batch ", batch, " was asked for in an epoch of ", size(), " batches");
  std::unique_lock lock(mutex_);
  // Workers read the sampler's order, so none may be at it when it changes, nor begin a batch.
  next_ = begun_ = size();
  ready_.wait(lock, [&] { return under_way_ == 0; });
  for (Slot& slot : slots_) slot = {};
  batches_.set_epoch(epoch);
  next_ = begun_ = batch;
  room_.notify_all();
}

std::optional<CollatedBatch> DataLoader::next() {
  std::unique_lock lock(mutex_);
  if (next_ == size()) return std::nullopt;
  if (workers_.empty()) {
    CollatedBatch batch = collate(next_);
    ++next_;
    return batch;
  }
  Slot& done = slot(next_);
  ready_.wait(lock, [&] { return done.batch || done.failure; });
  if (done.failure) std::rethrow_exception(done.failure);
  std::optional<CollatedBatch> batch = std::exchange(done.batch, std::nullopt);
  ++next_;
  room_.notify_one();
  return batch;
}

CollatedBatch DataLoader::collate(std::int64_t batch) const {
  const std::int64_t first_sample = batch % options_.batches_per_update * options_.batch_size;
  return collator_(dataset_, batches_.batch_indices(batch), first_sample);
}

void DataLoader::work(const std::stop_token& stop) {
  std::unique_lock lock(mutex_);
  const auto room = [&] { return begun_ < size() && begun_ < next_ + static_cast<std::int64_t>(slots_.size()); };
  while (room_.wait(lock, stop, room), !stop.stop_requested()) {
    const std::int64_t batch = begun_++;
    ++under_way_;
    lock.unlock();
    Slot made;
    try {
      made.batch = collate(batch);
    } catch (...) {
      made.failure = std::current_exception();
    }
    lock.lock();
    --under_way_;
    slot(batch) = std::move(made);
    ready_.notify_all();
  }
}

}  // namespace sinter::data
