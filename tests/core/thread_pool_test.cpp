// The pool that kernels run on, called by several threads at once; meant for the thread sanitizer above all.
#include "core/runtime/thread_pool.h"

#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <thread>
#include <vector>

#include "core/ops/matmul.h"
#include "core/process_group.h"
#include "core/random.h"
#include "core/runtime/runtime.h"

namespace sinter {
namespace {

TEST(ThreadPool, ConcurrentCallersTakeTurns) {
  constexpr int kCallers = 3, kRounds = 100;
  for (const int threads : {1, 2, 4}) {
    ThreadPool pool(threads);
    std::atomic<int> wrong{0};
    {
      std::vector<std::jthread> callers;
      for (int caller = 0; caller < kCallers; ++caller)
        callers.emplace_back([&, caller] {
          for (int round = 0; round < kRounds; ++round) {
            // Plain ints: a task that runs twice, or is still running after run() returned, is a race.
            std::vector<int> hits(static_cast<std::size_t>(round), caller);
            kernels::parallel_tasks(pool.stream(), round, [&](std::int64_t i) { ++hits[static_cast<std::size_t>(i)]; });
            for (const int hit : hits) wrong += hit != caller + 1;
          }
        });
    }
    EXPECT_EQ(wrong.load(), 0) << threads << " threads";
  }
}

TEST(ThreadPool, SleepingWorkersWakeUp) {
  ThreadPool pool(3);
  for (int round = 0; round < 20; ++round) {
    std::this_thread::sleep_for(std::chrono::milliseconds(1));  // far longer than workers spin
    std::vector<int> hits(64, 0);
    kernels::parallel_tasks(pool.stream(), 64, [&](std::int64_t i) { ++hits[static_cast<std::size_t>(i)]; });
    EXPECT_EQ(hits, std::vector<int>(64, 1));
  }
}

TEST(ThreadPool, EndsWithoutHavingRun) {
  for (int round = 0; round < 50; ++round) const ThreadPool pool(4);
}

TEST(Runtime, RanksShareThePoolAndGetTheBitsOfOneCaller) {
  Runtime& runtime = Runtime::instance();
  const int before = runtime.num_threads();
  const auto product = [] {
    Tensor a = Tensor::empty({130, 70}), b = Tensor::empty({70, 90});
    normal_(a, 0, 1, 1, 1);
    normal_(b, 0, 1, 1, 2);
    return matmul(a, b).to_vector<float>();
  };
  const std::vector<float> expected = product();
  for (const int threads : {1, 2, 4}) {
    runtime.set_num_threads(threads);
    LocalSim::run(3, [&](ProcessGroup&) {
      for (int round = 0; round < 10; ++round) EXPECT_EQ(product(), expected) << threads << " threads";
    });
  }
  runtime.set_num_threads(before);
}

}  // namespace
}  // namespace sinter
