#include "data/data_loader.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <thread>

#include "core/error.h"

namespace sinter::data {
namespace {

using I64 = std::vector<std::int64_t>;

Dataset numbered(std::int64_t size) {
  Lists ids;
  Column::Integers labels;
  for (std::int64_t i = 0; i < size; ++i) {
    ids.push_back(std::vector<std::int32_t>(static_cast<std::size_t>(i % 5 + 1), static_cast<std::int32_t>(i)));
    labels.push_back(i);
  }
  return Dataset({{"input_ids", ids}, {"label", labels}});
}

DataLoader loader(std::int64_t size, const DataLoaderOptions& options,
                  DataCollator collator = DataCollatorWithFlattening()) {
  return DataLoader(numbered(size), std::make_unique<RandomSampler>(size, 7), std::move(collator), options);
}

// Labels and first samples of the batches that are left of an epoch; the labels are the rows.
std::vector<I64> rest(DataLoader& loader) {
  std::vector<I64> batches;
  while (const auto batch = loader.next()) {
    batches.push_back(batch->labels);
    batches.back().push_back(batch->first_sample);
  }
  return batches;
}

// hf_trainer.md, section 6, number 11.
TEST(HfBehaviour, N11_DataloaderLengths) {
  const struct {
    std::int64_t size, batch, keep, drop;
  } table[] = {{66, 16, 5, 4}, {66, 32, 3, 2}, {74, 16, 5, 4}, {74, 32, 3, 2},
               {64, 16, 4, 4}, {3, 16, 1, 0},  {0, 16, 0, 0}};
  for (const auto& row : table)
    for (const std::int64_t workers : {0, 2}) {
      DataLoader keep = loader(row.size, {.batch_size = row.batch, .num_workers = workers});
      DataLoader drop = loader(row.size, {.batch_size = row.batch, .drop_last = true, .num_workers = workers});
      EXPECT_EQ(keep.size(), row.keep);
      EXPECT_EQ(drop.size(), row.drop);
      EXPECT_EQ(static_cast<std::int64_t>(rest(keep).size()), row.keep);
      EXPECT_EQ(static_cast<std::int64_t>(rest(drop).size()), row.drop);
    }
}

TEST(DataLoader, BatchesAreThoseOfTheSampler) {
  DataLoader l = loader(10, {.batch_size = 4, .batches_per_update = 2});
  RandomSampler sampler(10, 7);
  for (const std::int64_t epoch : {0, 3}) {
    l.seek(epoch);
    sampler.set_epoch(epoch);
    const std::vector<I64> batches = rest(l);
    ASSERT_EQ(batches.size(), 3u);
    for (std::size_t i = 0; i < 10; ++i) EXPECT_EQ(batches[i / 4][i % 4], sampler.order()[i]);
    EXPECT_EQ(batches[0].back(), 0);
    EXPECT_EQ(batches[1].back(), 4);   // the second batch of an update
    EXPECT_EQ(batches[2].back(), 0);
  }
}

TEST(DataLoader, WorkersNeverChangeABatch) {
  DataLoader plain = loader(203, {.batch_size = 4, .batches_per_update = 3});
  const std::vector<I64> first = rest(plain);
  plain.seek(1);
  const std::vector<I64> second = rest(plain);
  EXPECT_NE(first, second);
  for (const std::int64_t workers : {1, 2, 5})
    for (const std::int64_t factor : {1, 2, 100}) {
      DataLoader l = loader(
          203, {.batch_size = 4, .num_workers = workers, .prefetch_factor = factor, .batches_per_update = 3});
      EXPECT_EQ(rest(l), first);
      EXPECT_FALSE(l.next());
      l.seek(1);
      EXPECT_EQ(rest(l), second);
    }
}

TEST(DataLoader, SeekGoesToAnyBatch) {
  for (const std::int64_t workers : {0, 3}) {
    DataLoader l = loader(50, {.batch_size = 4, .num_workers = workers});
    l.seek(2);
    const std::vector<I64> whole = rest(l);
    for (const std::int64_t batch : {0, 5, 12, 13}) {
      l.seek(1, 3);   // somewhere else, with batches under way
      l.next();
      l.seek(2, batch);
      EXPECT_EQ(rest(l), std::vector<I64>(whole.begin() + batch, whole.end())) << batch;
    }
    EXPECT_THROW(l.seek(0, 14), Error);
    EXPECT_THROW(l.seek(0, -1), Error);
    EXPECT_THROW(l.seek(-1), Error);
  }
}

TEST(DataLoader, NoMoreThanThePrefetchedBatchesAreCollated) {
  std::atomic<int> collated = 0;
  DataLoader l = loader(400, {.batch_size = 1, .num_workers = 2, .prefetch_factor = 3},
                        [&](const Dataset& dataset, std::span<const std::int64_t> rows, std::int64_t first_sample) {
                          ++collated;
                          return DataCollatorWithFlattening()(dataset, rows, first_sample);
                        });
  for (int used = 0; used < 10; ++used) {
    while (collated < 6 + used) std::this_thread::yield();
    std::this_thread::sleep_for(std::chrono::milliseconds(2));
    EXPECT_EQ(collated, 6 + used);
    l.next();
  }
}

TEST(DataLoader, AnExceptionReachesTheConsumerAtItsBatch) {
  for (const std::int64_t workers : {0, 1, 4}) {
    DataLoader l = loader(40, {.batch_size = 4, .num_workers = workers},
                          [](const Dataset& dataset, std::span<const std::int64_t> rows, std::int64_t first_sample) {
                            for (const std::int64_t row : rows)
                              if (row == 17) fail(ErrorCode::bad_input, "row 17 is bad");
                            return DataCollatorWithFlattening()(dataset, rows, first_sample);
                          });
    int good = 0;
    for (int tries = 0; tries < 2; ++tries) {
      try {
        while (l.next()) ++good;
        ADD_FAILURE() << "no exception";
      } catch (const Error& error) {
        EXPECT_STREQ(error.what(), "row 17 is bad");
      }
    }
    RandomSampler sampler(40, 7);
    const auto at = std::find(sampler.order().begin(), sampler.order().end(), 17) - sampler.order().begin();
    EXPECT_EQ(good, at / 4);
    l.seek(0, at / 4 + 1);   // beyond it, all goes on
    EXPECT_EQ(static_cast<std::int64_t>(rest(l).size()), 9 - at / 4);
  }
}

// Most useful under the thread sanitizer.
TEST(DataLoader, EndsAtAnyTime) {
  for (int used = 0; used < 40; ++used) {
    DataLoader l = loader(100, {.batch_size = 3, .num_workers = 3, .prefetch_factor = 2});
    for (int i = 0; i < used; ++i) l.next();
    if (used % 3 == 0) l.seek(used, used % 30);
  }
}

TEST(DataLoader, RefusesWhatMakesNoSense) {
  const auto refusal = [](const DataLoaderOptions& options) -> std::string {
    try {
      loader(4, options);
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), ErrorCode::usage);
      return error.what();
    }
    return "accepted";
  };
  EXPECT_EQ(refusal({.batch_size = 0}), "The batch size is 0; it must be at least 1.");
  EXPECT_EQ(refusal({.num_workers = -1}), "num_workers is -1, it must lie between 0 and 1024");
  EXPECT_EQ(refusal({.num_workers = 1025}), "num_workers is 1025, it must lie between 0 and 1024");
  EXPECT_EQ(refusal({.prefetch_factor = 0}), "prefetch_factor is 0, it must lie between 1 and 1024");
  EXPECT_EQ(refusal({.batches_per_update = 0}), "batches_per_update is 0, it must be at least 1");
  EXPECT_THROW(DataLoader(numbered(3), std::make_unique<SequentialSampler>(4), DataCollatorWithFlattening()), Error);
}

}  // namespace
}  // namespace sinter::data
