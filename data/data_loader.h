// Batches in the order of a sampler, collated ahead of their use.
#pragma once

#include <condition_variable>
#include <cstdint>
#include <exception>
#include <memory>
#include <mutex>
#include <optional>
#include <stop_token>
#include <thread>
#include <vector>

#include "data/collator.h"
#include "data/dataset.h"
#include "data/sampler.h"

namespace sinter::data {

struct DataLoaderOptions {
  std::int64_t batch_size = 8;
  bool drop_last = false;             ///< leave out a last incomplete batch
  std::int64_t num_workers = 0;       ///< threads that collate ahead; 0: `next` collates
  std::int64_t prefetch_factor = 2;   ///< batches that are ready or under way for each worker
  /// HF's gradient_accumulation_steps: an update takes that many batches, and CollatedBatch::first_sample counts the
  /// samples of an update. The last update of an epoch may take fewer.
  std::int64_t batches_per_update = 1;
};

/// Gives the batches of one epoch one behind the other, to one thread at a time. Their order and contents depend on the
/// data set, the sampler and the batch size alone, not on workers.
class DataLoader {
 public:
  /// Stands at the first batch of epoch 0. ErrorCode::usage for a sampler of another size than the data set, for
  /// numbers below 1 (num_workers: 0), and for more than 1024 workers or batches a worker.
  DataLoader(Dataset dataset, std::unique_ptr<Sampler> sampler, DataCollator collator,
             const DataLoaderOptions& options = {});
  /// Waits for the batches that workers are collating.
  ~DataLoader() = default;
  DataLoader(const DataLoader&) = delete;
  DataLoader& operator=(const DataLoader&) = delete;

  /// Batches in an epoch.
  std::int64_t size() const { return batches_.size(); }
  const Dataset& dataset() const { return dataset_; }

  /// Goes to a batch of an epoch, both counted from 0, without collating those before it; `size()` is the end.
  /// ErrorCode::usage out of range.
  void seek(std::int64_t epoch, std::int64_t batch = 0);
  /// The next batch; nothing at the end of the epoch. Throws what the collator threw for it, again at each call.
  std::optional<CollatedBatch> next();

 private:
  struct Slot {
    std::optional<CollatedBatch> batch;
    std::exception_ptr failure;
  };

  CollatedBatch collate(std::int64_t batch) const;
  void work(const std::stop_token& stop);
  Slot& slot(std::int64_t batch) { return slots_[static_cast<std::size_t>(batch) % slots_.size()]; }

  Dataset dataset_;
  std::unique_ptr<Sampler> sampler_;
  BatchSampler batches_;
  DataCollator collator_;
  DataLoaderOptions options_;

  // All below are guarded by mutex_. Batches next_ .. begun_ - 1 are in their slots or under way.
  std::mutex mutex_;
  std::condition_variable_any room_;   // a worker may begin a batch
  std::condition_variable ready_;      // a worker has finished one
  std::vector<Slot> slots_;
  std::int64_t next_ = 0;
  std::int64_t begun_ = 0;
  std::int64_t under_way_ = 0;
  std::vector<std::jthread> workers_;   // the last member: it is destroyed first
};

}  // namespace sinter::data
