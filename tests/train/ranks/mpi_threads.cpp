#include "tests/train/ranks/mpi_threads.h"

#include <gtest/gtest.h>

#include <condition_variable>
#include <cstring>
#include <exception>
#include <map>
#include <memory>
#include <mutex>
#include <thread>
#include <utility>
#include <vector>

namespace sinter::train {
namespace {
struct Job;
}

struct MpiExchange {
  MpiJob* job = nullptr;
  int number = 0;
};

struct MpiJob {
  Job* job = nullptr;
  int rank = 0;
  int waits = 0;
  std::vector<std::unique_ptr<MpiExchange>> exchanges{};   // all that were begun: a group that is broken frees none
};

namespace {

/// What the ranks share.
struct Job {
  explicit Job(int count, std::string function = "") : ranks(count), fails(std::move(function)) {}

  const int ranks;
  const std::string fails;
  std::mutex mutex;
  std::vector<std::unique_ptr<MpiJob>> members{};
  std::condition_variable changed;
  std::map<std::pair<int, int>, std::vector<MpiSend>> sent;   // by rank and number of its exchange
  std::map<std::pair<int, int>, std::vector<MpiReceive>> places;
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

MpiAnswer answer(const Job& job, const char* function) {
  if (job.fails == function) return {"MPI_Test: the cable is cut"};
  return {""};
}

MpiAnswer start(std::size_t, std::atomic<std::int64_t>*, MpiJob** job, int* rank, int* size) {
  Job& all = *here.job;
  const std::lock_guard lock(all.mutex);
  *job = all.members.emplace_back(new MpiJob{.job = &all, .rank = here.rank}).get();
  *rank = here.rank;
  *size = all.ranks;
  return answer(all, "start");
}

/// The bytes of one rank to another, where both have begun the exchange; false where they do not fit together.
bool carry(Job& all, int number, int from, int to) {
  const auto sent = all.sent.find({from, number});
  const auto places = all.places.find({to, number});
  if (sent == all.sent.end() || places == all.places.end()) return true;
  const MpiSend part = sent->second[static_cast<std::size_t>(to)];
  const MpiReceive place = places->second[static_cast<std::size_t>(from)];
  if (part.bytes != place.bytes || (from == to && part.bytes != 0)) return false;
  if (part.bytes > 0) std::memcpy(place.data, part.data, part.bytes);
  return true;
}

MpiAnswer begin_exchange(MpiJob* job, const MpiSend* send, const MpiReceive* receive, MpiExchange** exchange) {
  Job& all = *job->job;
  const int number = static_cast<int>(job->exchanges.size());
  *exchange = job->exchanges.emplace_back(new MpiExchange{.job = job, .number = number}).get();
  const std::lock_guard lock(all.mutex);
  all.sent[{job->rank, number}] = {send, send + all.ranks};
  all.places[{job->rank, number}] = {receive, receive + all.ranks};
  for (int r = 0; number % 4 < 2 && r < all.ranks; ++r) {   // values and sums take turns
    carry(all, number, r, job->rank);
    carry(all, number, job->rank, r);
  }
  all.changed.notify_all();
  return answer(all, "begin_exchange");
}

MpiAnswer wait(MpiExchange* exchange) {
  Job& all = *exchange->job->job;
  const int rank = exchange->job->rank, number = exchange->number;
  ++exchange->job->waits;
  bool all_fit = true;
  std::unique_lock lock(all.mutex);
  for (int r = 0; r < all.ranks; ++r) {
    const auto from = std::pair(r, number);
    all.changed.wait(lock, [&] { return all.sent.contains(from); });
    all_fit = carry(all, number, r, rank) && all_fit;
    ++all.taken[from];
    all.changed.notify_all();
  }
  const auto own = std::pair(rank, number);
  all.changed.wait(lock, [&] { return all.taken[own] == all.ranks; });
  all.sent.erase(own);
  all.places.erase(own);
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
  std::unique_lock lock(job->job->mutex);
  meet(job, nullptr, 0, lock);
  if (job->waits != static_cast<int>(job->exchanges.size())) return {"MPI_Test: nobody waited for an exchange"};
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
      try {
        rank();
      } catch (const std::exception& error) {
        ADD_FAILURE() << "rank " << r << " threw: " << error.what();
      }
    });
}

void be_alone(const std::string& fails) { here = {std::make_shared<Job>(1, fails), 0}; }

}  // namespace testing
}  // namespace sinter::train
