#include "tests/train/mpi_threads.h"

#include <condition_variable>
#include <cstring>
#include <map>
#include <memory>
#include <mutex>
#include <thread>
#include <utility>
#include <vector>

namespace sinter::train {
namespace {

/// What the ranks share.
struct Job {
  explicit Job(int count, std::string function = "") : ranks(count), fails(std::move(function)) {}

  const int ranks;
  const std::string fails;
  std::mutex mutex;
  std::condition_variable changed;
  std::map<std::pair<int, int>, std::vector<MpiSend>> sent;   // by rank and number of its exchange
  std::map<std::pair<int, int>, int> taken;                   // by how many others
  int arrived = 0;
  int meetings = 0;
  std::vector<std::byte> gathered, result;
};

struct Place {
  std::shared_ptr<Job> job;
  int rank = 0;
};

thread_local Place here;   // which rank this thread is: the table's start() has no argument for it

}  // namespace

struct MpiJob {
  std::shared_ptr<Job> job;
  int rank = 0;
  int exchanges = 0;
};

struct MpiExchange {
  MpiJob* job = nullptr;
  int number = 0;
  std::vector<MpiReceive> receives;
};

namespace {

MpiAnswer answer(const Job& job, const char* function) {
  if (job.fails == function) return {"MPI_Test: the cable is cut"};
  return {""};
}

MpiAnswer start(std::size_t, MpiJob** job, int* rank, int* size) {
  *job = new MpiJob{.job = here.job, .rank = here.rank};
  *rank = here.rank;
  *size = here.job->ranks;
  return answer(*here.job, "start");
}

MpiAnswer begin_exchange(MpiJob* job, const MpiSend* send, const MpiReceive* receive, MpiExchange** exchange) {
  Job& all = *job->job;
  *exchange = new MpiExchange{.job = job, .number = job->exchanges++, .receives = {receive, receive + all.ranks}};
  const std::lock_guard lock(all.mutex);
  all.sent[{job->rank, (*exchange)->number}] = {send, send + all.ranks};
  all.changed.notify_all();
  return answer(all, "begin_exchange");
}

MpiAnswer wait(MpiExchange* exchange) {
  const std::unique_ptr<MpiExchange> owner(exchange);
  Job& all = *exchange->job->job;
  const int rank = exchange->job->rank, number = exchange->number;
  bool all_fit = true;
  std::unique_lock lock(all.mutex);
  for (int r = 0; r < all.ranks; ++r) {
    const auto from = std::pair(r, number);
    all.changed.wait(lock, [&] { return all.sent.contains(from); });
    const MpiSend part = all.sent[from][static_cast<std::size_t>(rank)];
    const MpiReceive place = exchange->receives[static_cast<std::size_t>(r)];
    const bool fit = part.bytes == place.bytes && (r != rank || part.bytes == 0);
    all_fit = all_fit && fit;
    if (fit && part.bytes > 0) std::memcpy(place.data, part.data, part.bytes);
    ++all.taken[from];
    all.changed.notify_all();
  }
  const auto own = std::pair(rank, number);
  all.changed.wait(lock, [&] { return all.taken[own] == all.ranks; });
  all.sent.erase(own);
  return all_fit ? answer(all, "wait") : MpiAnswer{"MPI_Test: what was sent is not as large as its place"};
}

/// Gathers all ranks' bytes in `result`.
void meet(MpiJob* job, const void* data, std::size_t bytes, std::unique_lock<std::mutex>& lock) {
  Job& all = *job->job;
  all.gathered.resize(bytes * static_cast<std::size_t>(all.ranks));
  if (bytes > 0) std::memcpy(all.gathered.data() + bytes * static_cast<std::size_t>(job->rank), data, bytes);
  const int meeting = all.meetings;
  if (++all.arrived == all.ranks) {
    all.arrived = 0;
    ++all.meetings;
    all.result = std::exchange(all.gathered, {});
    all.changed.notify_all();
  }
  all.changed.wait(lock, [&] { return all.meetings != meeting; });
}

MpiAnswer all_gather(MpiJob* job, const void* send, std::size_t bytes, void* receive) {
  std::unique_lock lock(job->job->mutex);
  meet(job, send, bytes, lock);
  std::memcpy(receive, job->job->result.data(), job->job->result.size());
  return answer(*job->job, "all_gather");
}

MpiAnswer broadcast(MpiJob* job, void* data, std::size_t bytes, int root) {
  std::unique_lock lock(job->job->mutex);
  meet(job, data, bytes, lock);
  if (bytes > 0) std::memcpy(data, job->job->result.data() + bytes * static_cast<std::size_t>(root), bytes);
  return answer(*job->job, "broadcast");
}

MpiAnswer finish(MpiJob* job) {
  const std::unique_ptr<MpiJob> owner(job);
  std::unique_lock lock(job->job->mutex);
  meet(job, nullptr, 0, lock);
  return answer(*job->job, "finish");
}

}  // namespace

namespace testing {

const MpiTable& threads_table() {
  static constexpr MpiTable table = {.abi = kMpiAbi,
                                     .library = [] { return "threads"; },
                                     .start = start,
                                     .begin_exchange = begin_exchange,
                                     .wait = wait,
                                     .all_gather = all_gather,
                                     .broadcast = broadcast,
                                     .finish = finish,
                                     .abort = [](MpiJob*, int) {}};
  return table;
}

void run_threads(int ranks, const std::function<void()>& rank) {
  const auto job = std::make_shared<Job>(ranks);
  std::vector<std::jthread> threads;
  for (int r = 0; r < ranks; ++r)
    threads.emplace_back([&rank, job, r] {
      here = {job, r};
      rank();
    });
}

void be_alone(const std::string& fails) { here = {std::make_shared<Job>(1, fails), 0}; }

}  // namespace testing
}  // namespace sinter::train
