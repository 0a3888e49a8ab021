#include "core/runtime/thread_pool.h"

#include <sched.h>

#include <atomic>
#include <condition_variable>
#include <fstream>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "kernels/base/kernel.h"

namespace sinter {
namespace {

constexpr int kSpins = 4000;  // about 20 us: longer than the gap between two regions of a step

inline void relax() { __builtin_ia32_pause(); }

/// The tasks that one thread takes first. Each on its own cache line, because every task costs a fetch_add.
struct alignas(64) Range {
  std::atomic<std::int64_t> next{0};
  std::int64_t end = 0;
};

}  // namespace

struct ThreadPool::State {
  std::mutex region_lock;  // one region at a time

  // The region under way. Written by the caller before `generation` is raised, read by workers after they saw it.
  std::vector<Range> ranges;  // one a thread, the caller's first
  void (*task)(void*, std::int64_t) = nullptr;
  void* context = nullptr;

  std::atomic<std::uint64_t> generation{0};
  std::atomic<int> running{0};  // workers that have not left the region yet
  std::atomic<bool> stop{false};

  std::mutex sleep_lock;
  std::condition_variable wake;
  int sleeping = 0;  // guarded by sleep_lock

  std::vector<std::thread> threads;

  explicit State(int thread_count) : ranges(static_cast<std::size_t>(thread_count)) {}

  // Own tasks first: the same rows stay in the same core's cache from one kernel to the next. Then what others left.
  void work_off(std::size_t self) {
    for (std::size_t turn = 0; turn < ranges.size(); ++turn) {
      Range& range = ranges[(self + turn) % ranges.size()];
      for (std::int64_t i; (i = range.next.fetch_add(1, std::memory_order_relaxed)) < range.end;) task(context, i);
    }
  }

  void worker(std::size_t self) {
    const kernels::FlushDenormals flush;
    std::uint64_t seen = 0;
    while (true) {
      int spins = 0;
      while (generation.load(std::memory_order_acquire) == seen && !stop.load(std::memory_order_relaxed)) {
        if (++spins < kSpins) {
          relax();
          continue;
        }
        std::unique_lock lock(sleep_lock);
        ++sleeping;
        wake.wait(lock, [&] { return generation.load(std::memory_order_acquire) != seen || stop.load(); });
        --sleeping;
      }
      if (stop.load(std::memory_order_relaxed)) return;
      seen = generation.load(std::memory_order_acquire);
      work_off(self);
      running.fetch_sub(1, std::memory_order_release);
    }
  }

  void notify() {
    const std::lock_guard lock(sleep_lock);
    if (sleeping > 0) wake.notify_all();
  }
};

ThreadPool::ThreadPool(int threads) : state_(std::make_unique<State>(threads)) {
  for (std::size_t i = 1; i < state_->ranges.size(); ++i)
    state_->threads.emplace_back([state = state_.get(), i] { state->worker(i); });
}

ThreadPool::~ThreadPool() {
  state_->stop.store(true);
  state_->notify();
  for (std::thread& thread : state_->threads) thread.join();
}

int ThreadPool::thread_count() const { return static_cast<int>(state_->threads.size()) + 1; }

void ThreadPool::run(std::int64_t count, void (*task)(void*, std::int64_t), void* context) {
  if (count <= 0) return;
  const kernels::FlushDenormals flush;
  State& s = *state_;
  if (s.threads.empty()) {
    for (std::int64_t i = 0; i < count; ++i) task(context, i);
    return;
  }
  const std::lock_guard region(s.region_lock);
  const auto threads = static_cast<std::int64_t>(s.ranges.size());
  for (std::int64_t i = 0; i < threads; ++i) {
    Range& range = s.ranges[static_cast<std::size_t>(i)];
    range.next.store(count * i / threads, std::memory_order_relaxed);
    range.end = count * (i + 1) / threads;
  }
  s.task = task;
  s.context = context;
  s.running.store(static_cast<int>(s.threads.size()), std::memory_order_relaxed);
  s.generation.fetch_add(1, std::memory_order_release);
  s.notify();
  s.work_off(0);
  // Workers hold references into this frame until they have left the region.
  int spins = 0;
  while (s.running.load(std::memory_order_acquire) != 0) {
    relax();
    if (++spins == kSpins) {  // a worker lost its core: give ours away
      std::this_thread::yield();
      spins = 0;
    }
  }
}

int ThreadPool::available_cores() {
  int cores = static_cast<int>(std::thread::hardware_concurrency());
  cpu_set_t set;
  if (sched_getaffinity(0, sizeof(set), &set) == 0) cores = CPU_COUNT(&set);
  std::ifstream file("/sys/fs/cgroup/cpu.max");
  std::string quota;
  double period = 0;
  if (file >> quota >> period && quota != "max" && period > 0)
    cores = std::min(cores, static_cast<int>(std::stod(quota) / period + 0.5));
  return std::max(cores, 1);
}

}  // namespace sinter
