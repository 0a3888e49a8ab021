// NCCL's functions over the emulated devices: an operation is a work of its stream, as a kernel is, so that it waits
// for its turn there, comes late on lazy devices, and can be captured and replayed. It begins when all ranks have come
// to it, and never ends where they call different ones. Of what NCCL promises no more than that is kept: a maximum of
// floats loses NaN.
#include "tests/train/ranks/nccl/pretended_nccl.h"

#include <cmath>
#include <condition_variable>
#include <cstring>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <type_traits>
#include <vector>

#include "kernels/simt/device.h"
#include "train/ranks/nccl/nccl_abi.h"

namespace sinter::train {
namespace {

using kernels::Status;
using kernels::simt::Device;
using kernels::simt::StreamQueue;
using nccl::Answer;

constexpr Answer kSystemError = 2, kInvalidUsage = 5;

testing::PretendedNccl& wishes() {
  static testing::PretendedNccl& all = *new testing::PretendedNccl;
  return all;
}

bool fails(const char* function) { return std::strcmp(wishes().fails, function) == 0; }

enum class Kind { all_reduce, reduce_scatter, all_gather, broadcast };

struct Call {
  Kind kind = Kind::all_reduce;
  std::size_t count = 0;
  nccl::DataType type = nccl::kU8;
  nccl::ReduceOp op = nccl::kSum;
  int root = 0;

  friend bool operator==(const Call&, const Call&) = default;
};

/// The ranks' parts of one operation.
struct Meeting {
  std::vector<Call> calls;
  std::vector<std::vector<std::byte>> inputs;
  int arrived = 0, left = 0;
};

struct Job;

struct Member {
  std::shared_ptr<Job> job;
  int rank = 0;
  int next = 0;            // number of the operation that runs next
  Device* device = nullptr;
  std::atomic<bool> aborted{false}, freed{false};
};

struct Job {
  int ranks = 0;
  int connected = 0;
  std::mutex mutex;
  std::condition_variable changed;
  std::map<int, Meeting> meetings;
  std::vector<std::unique_ptr<Member>> members;   // freed ones too: who calls them is found out
};

struct Jobs {
  std::mutex mutex;
  std::map<int, std::shared_ptr<Job>> by_id;
  int ids = 0;

  static Jobs& all() {
    static Jobs& jobs = *new Jobs;
    return jobs;
  }
};

std::size_t size_of(nccl::DataType type) {
  switch (type) {
    case nccl::kI32:
    case nccl::kF32: return 4;
    case nccl::kI64:
    case nccl::kF64: return 8;
    default: return 1;
  }
}

template <class T>
void reduce_as(nccl::ReduceOp op, std::vector<std::byte>& result, const std::vector<std::byte>& input) {
  for (std::size_t i = 0; i < result.size(); i += sizeof(T)) {
    T a{}, b{};
    std::memcpy(&a, result.data() + i, sizeof(T));
    std::memcpy(&b, input.data() + i, sizeof(T));
    if constexpr (std::is_floating_point_v<T>) {
      a = op == nccl::kSum ? a + b : std::fmax(a, b);
    } else {
      using U = std::make_unsigned_t<T>;
      a = op == nccl::kSum ? static_cast<T>(static_cast<U>(a) + static_cast<U>(b)) : std::max(a, b);
    }
    std::memcpy(result.data() + i, &a, sizeof(T));
  }
}

void reduce(const Call& call, std::vector<std::byte>& result, const std::vector<std::byte>& input) {
  switch (call.type) {
    case nccl::kF32: return reduce_as<float>(call.op, result, input);
    case nccl::kF64: return reduce_as<double>(call.op, result, input);
    case nccl::kI64: return reduce_as<std::int64_t>(call.op, result, input);
    default: return reduce_as<std::int32_t>(call.op, result, input);
  }
}

std::vector<std::byte> result_of(const Meeting& meeting, const Call& call, int rank) {
  std::vector<std::byte> result;
  switch (call.kind) {
    case Kind::broadcast: return meeting.inputs[static_cast<std::size_t>(call.root)];
    case Kind::all_gather:
      for (const auto& input : meeting.inputs) result.insert(result.end(), input.begin(), input.end());
      return result;
    default:
      for (const auto& input : meeting.inputs)
        if (result.empty())
          result = input;
        else
          reduce(call, result, input);
  }
  if (call.kind == Kind::all_reduce) return result;
  const auto bytes = static_cast<std::ptrdiff_t>(call.count * size_of(call.type));
  return {result.begin() + rank * bytes, result.begin() + (rank + 1) * bytes};
}

/// For tests that ask what ran between operations.
void note_turn(const Device& device) {
  if (&device != &Device::get(0)) return;
  std::uint64_t none = 0;
  wishes().launched_before_first.compare_exchange_strong(none, device.statistics.launches);
  wishes().launched_before_last = device.statistics.launches;
}

/// The operation itself, when its turn in the stream has come.
Status carry_out(Member& member, const Call& call, const void* send, void* receive) {
  note_turn(*member.device);
  Job& job = *member.job;
  const auto rank = static_cast<std::size_t>(member.rank);
  const std::size_t parts = call.kind == Kind::reduce_scatter ? static_cast<std::size_t>(job.ranks) : 1;
  std::vector<std::byte> input(parts * call.count * size_of(call.type));
  if (const Status status = member.device->copy(input.data(), send, input.size()); !status.ok()) return status;
  std::vector<std::byte> result;
  {
    std::unique_lock lock(job.mutex);
    const int number = member.next++;
    Meeting& meeting = job.meetings[number];
    meeting.calls.resize(static_cast<std::size_t>(job.ranks));
    meeting.inputs.resize(meeting.calls.size());
    meeting.calls[rank] = call;
    meeting.inputs[rank] = std::move(input);
    ++meeting.arrived;
    job.changed.notify_all();
    const auto may_go_on = [&] {
      if (meeting.arrived < job.ranks) return false;
      for (const Call& other : meeting.calls)
        if (!(other == call)) return false;
      return true;
    };
    job.changed.wait(lock, [&] { return member.aborted || may_go_on(); });
    if (member.aborted) return {};
    result = result_of(meeting, call, member.rank);
    if (++meeting.left == job.ranks) job.meetings.erase(number);
  }
  ++wishes().ended;
  return member.device->copy(receive, result.data(), result.size());
}

Answer begin(const char* function, const Call& call, const void* send, void* receive, nccl::Communicator communicator,
             void* stream) {
  ++wishes().operations;
  Member& member = *static_cast<Member*>(communicator);
  StreamQueue& queue = *static_cast<StreamQueue*>(stream);
  if (member.device == nullptr) member.device = &queue.device();
  if (member.freed || member.device != &queue.device()) ++wishes().misused;
  if (fails(function)) return kSystemError;
  if (member.aborted) return kInvalidUsage;
  const Status status = queue.submit([&member, call, send, receive] { return carry_out(member, call, send, receive); });
  return status.ok() ? nccl::kSuccess : kSystemError;
}

Answer connect(nccl::Communicator* communicator, int ranks, const nccl::UniqueId& id, int rank) {
  if (fails("CommInitRank")) return kSystemError;
  int number = 0;
  std::memcpy(&number, id.bytes, sizeof number);
  std::shared_ptr<Job> job;
  {
    const std::lock_guard lock(Jobs::all().mutex);
    std::shared_ptr<Job>& known = Jobs::all().by_id[number];
    if (known == nullptr) known = std::make_shared<Job>();
    job = known;
  }
  std::unique_lock lock(job->mutex);
  job->ranks = ranks;
  job->members.push_back(std::make_unique<Member>());
  Member& member = *job->members.back();
  member.job = job;
  member.rank = rank;
  *communicator = &member;
  ++job->connected;
  job->changed.notify_all();
  job->changed.wait(lock, [&] { return job->connected == ranks; });
  return nccl::kSuccess;
}

Answer free(nccl::Communicator communicator, bool aborts) {
  Member& member = *static_cast<Member*>(communicator);
  if (member.freed.exchange(true)) ++wishes().misused;
  ++(aborts ? wishes().aborted : wishes().destroyed);
  const std::lock_guard lock(member.job->mutex);
  member.aborted = true;
  member.job->changed.notify_all();
  return nccl::kSuccess;
}

}  // namespace
}  // namespace sinter::train

// --- What the library exports -------------------------------------------------------------------------------------

#define EXPORTED extern "C" __attribute__((visibility("default"), used))
#pragma GCC diagnostic ignored "-Wmissing-declarations"

using namespace sinter::train;
using nccl::Answer;

EXPORTED testing::PretendedNccl* pretended_nccl() { return &wishes(); }

EXPORTED Answer ncclGetVersion(int* version) { return *version = 23007, nccl::kSuccess; }
EXPORTED const char* ncclGetErrorString(Answer) { return "unhandled system error"; }
EXPORTED const char* ncclGetLastError(nccl::Communicator) { return "the cable is cut\n"; }
EXPORTED Answer ncclGetUniqueId(nccl::UniqueId* id) {
  const std::lock_guard lock(Jobs::all().mutex);
  const int number = ++Jobs::all().ids;
  std::memcpy(id->bytes, &number, sizeof number);
  return fails("GetUniqueId") ? kSystemError : nccl::kSuccess;
}
EXPORTED Answer ncclCommInitRank(nccl::Communicator* communicator, int ranks, nccl::UniqueId id, int rank) {
  return connect(communicator, ranks, id, rank);
}
EXPORTED Answer ncclCommGetAsyncError(nccl::Communicator communicator, Answer* error) {
  if (static_cast<Member*>(communicator)->freed) ++wishes().misused;
  *error = wishes().reports_error ? kSystemError : nccl::kSuccess;
  return nccl::kSuccess;
}
EXPORTED Answer ncclCommAbort(nccl::Communicator communicator) { return free(communicator, true); }
EXPORTED Answer ncclCommDestroy(nccl::Communicator communicator) {
  return fails("CommDestroy") ? kSystemError : free(communicator, false);
}
EXPORTED Answer ncclAllReduce(const void* send, void* receive, std::size_t count, nccl::DataType type,
                              nccl::ReduceOp op, nccl::Communicator communicator, void* stream) {
  return begin("AllReduce", {Kind::all_reduce, count, type, op}, send, receive, communicator, stream);
}
EXPORTED Answer ncclReduceScatter(const void* send, void* receive, std::size_t count, nccl::DataType type,
                                  nccl::ReduceOp op, nccl::Communicator communicator, void* stream) {
  return begin("ReduceScatter", {Kind::reduce_scatter, count, type, op}, send, receive, communicator, stream);
}
EXPORTED Answer ncclAllGather(const void* send, void* receive, std::size_t count, nccl::DataType type,
                              nccl::Communicator communicator, void* stream) {
  return begin("AllGather", {Kind::all_gather, count, type}, send, receive, communicator, stream);
}
EXPORTED Answer ncclBroadcast(const void* send, void* receive, std::size_t count, nccl::DataType type, int root,
                              nccl::Communicator communicator, void* stream) {
  return begin("Broadcast", {Kind::broadcast, count, type, nccl::kSum, root}, send, receive, communicator, stream);
}
