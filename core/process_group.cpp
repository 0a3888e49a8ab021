#include "core/process_group.h"

#include <algorithm>
#include <condition_variable>
#include <cstring>
#include <exception>
#include <mutex>
#include <sstream>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "core/collective_thread.h"
#include "core/error.h"
#include "core/reduce_ranks.h"
#include "core/runtime/step_arena.h"

namespace sinter {
namespace {

std::size_t bytes_of(std::int64_t numel, Dtype dtype) { return static_cast<std::size_t>(numel) * size_of(dtype); }

/// Two operands have a byte in common.
bool overlap(const void* a, std::size_t a_bytes, const void* b, std::size_t b_bytes) {
  const auto* first = static_cast<const std::byte*>(a);
  const auto* second = static_cast<const std::byte*>(b);
  return a_bytes > 0 && b_bytes > 0 && first < second + b_bytes && second < first + a_bytes;
}

bool overlap(const Tensor& a, const Tensor& b) {
  return overlap(a.data(), bytes_of(a.numel(), a.dtype()), b.data(), bytes_of(b.numel(), b.dtype()));
}

void check_operand(const char* operation, const Tensor& tensor) {
  if (!tensor.defined()) fail(ErrorCode::usage, operation, " of an undefined tensor");
  if (tensor.rank() != 1 || !tensor.is_contiguous())
    fail(ErrorCode::usage, operation, " of ", tensor.is_contiguous() ? "a" : "a non-contiguous", " tensor ",
         tensor.shape(), "; it takes contiguous tensors of rank 1");
}

void check_reducible(const char* operation, Dtype dtype) {
  if (dtype != Dtype::f32 && dtype != Dtype::f64 && dtype != Dtype::i64 && dtype != Dtype::i32)
    fail(ErrorCode::unsupported, operation, " of a ", name(dtype), " tensor; reductions take f32, f64, i64 and i32");
}

void check_shards(const char* operation, const Tensor& flat, const Tensor& shard, int ranks) {
  check_operand(operation, flat);
  check_operand(operation, shard);
  if (flat.dtype() != shard.dtype() || flat.device() != shard.device())
    fail(ErrorCode::usage, operation, " between a ", name(flat.dtype()), " tensor on ", flat.device().str(), " and a ",
         name(shard.dtype()), " shard on ", shard.device().str(), "; they must be alike");
  if (flat.numel() != shard.numel() * ranks)
    fail(ErrorCode::usage, operation, " of ", flat.numel(), " elements with a shard of ", shard.numel(), "; ", ranks,
         " ranks need a shard of exactly 1/", ranks, " of them");
}

/// A tensor where the group reaches it: itself, or a copy that comes back when the operation has ended.
class Operand {
 public:
  Operand(const Tensor& given, Device device)
      : given_(given.detach()), there_(given.device() == device ? given_ : given_.to(device)) {}

  const Tensor& there() const { return there_; }
  void bring_back(const char* operation) const {
    if (there_.device() == given_.device()) return given_.storage()->mark_written(operation);
    Tensor given = given_;
    given.copy_(there_);
    given.storage()->mark_written(operation);
  }

 private:
  Tensor given_, there_;
};

/// An all_reduce under way, with its operand.
class AllReduce final : public Work {
 public:
  AllReduce(Operand operand, CollectiveTrace::Note note, std::unique_ptr<Work> work)
      : operand_(std::move(operand)), note_(std::move(note)), work_(std::move(work)) {}

  void wait() override {
    if (work_ == nullptr) return;
    note_.awaited();
    std::exchange(work_, nullptr)->wait();
    operand_.bring_back("all_reduce");
  }

 private:
  Operand operand_;
  CollectiveTrace::Note note_;
  std::unique_ptr<Work> work_;
};

}  // namespace

// --- What a single rank can check ---------------------------------------------------------------------------------

/// The call of an all_reduce of `flat`, which lies on device().
ProcessGroup::Collective ProcessGroup::all_reduce_call(const Tensor& flat, ReduceKind kind) {
  return {.operation = Operation::all_reduce,
          .dtype = flat.dtype(),
          .input = flat.data(),
          .input_numel = flat.numel(),
          .output = flat.data(),
          .output_numel = flat.numel(),
          .output_storage = flat.storage().get(),
          .kind = kind};
}

void ProcessGroup::all_reduce(const Tensor& flat, ReduceKind kind) {
  check_operand("all_reduce", flat);
  check_reducible("all_reduce", flat.dtype());
  const Operand operand(flat, device());
  run_in_order(all_reduce_call(operand.there(), kind));
  operand.bring_back("all_reduce");
}

std::unique_ptr<Work> ProcessGroup::all_reduce_async(const Tensor& flat, ReduceKind kind) {
  check_operand("all_reduce_async", flat);
  check_reducible("all_reduce_async", flat.dtype());
  Operand operand(flat, device());
  const Collective call = noted(all_reduce_call(operand.there(), kind));
  std::unique_ptr<Work> work = begin(call);
  return std::make_unique<AllReduce>(std::move(operand), call.note, std::move(work));
}

void ProcessGroup::reduce_scatter(const Tensor& flat, const Tensor& shard, ReduceKind kind) {
  check_shards("reduce_scatter", flat, shard, size());
  check_reducible("reduce_scatter", flat.dtype());
  if (overlap(flat, shard))
    fail(ErrorCode::usage, "reduce_scatter into a shard that lies in the tensor ", flat.shape(),
         " which is reduced; that must keep its values, so pass other memory");
  const Operand input(flat, device()), output(shard, device());
  run_in_order({.operation = Operation::reduce_scatter,
                .dtype = flat.dtype(),
                .input = input.there().data(),
                .input_numel = flat.numel(),
                .output = output.there().data(),
                .output_numel = shard.numel(),
                .output_storage = output.there().storage().get(),
                .kind = kind});
  output.bring_back("reduce_scatter");
}

void ProcessGroup::all_gather(const Tensor& shard, const Tensor& flat) {
  check_shards("all_gather", flat, shard, size());
  const std::byte* own = static_cast<const std::byte*>(flat.data()) + bytes_of(rank() * shard.numel(), flat.dtype());
  if (overlap(flat, shard) && shard.data() != own)
    fail(ErrorCode::usage, "all_gather from a shard that lies in the result, but is not the part of rank ", rank());
  const Operand input(shard, device()), output(flat, device());
  run_in_order({.operation = Operation::all_gather,
                .dtype = flat.dtype(),
                .input = input.there().data(),
                .input_numel = shard.numel(),
                .output = output.there().data(),
                .output_numel = flat.numel(),
                .output_storage = output.there().storage().get()});
  output.bring_back("all_gather");
}

void ProcessGroup::broadcast(const Tensor& flat, int root) {
  check_operand("broadcast", flat);
  if (root < 0 || root >= size())
    fail(ErrorCode::usage, "broadcast from rank ", root, "; the ranks are 0 to ", size() - 1);
  const Operand operand(flat, device());
  run_in_order({.operation = Operation::broadcast,
                .dtype = flat.dtype(),
                .input = operand.there().data(),
                .input_numel = flat.numel(),
                .output = operand.there().data(),
                .output_numel = flat.numel(),
                .output_storage = operand.there().storage().get(),
                .root = root});
  if (rank() != root) operand.bring_back("broadcast");
}

void ProcessGroup::barrier() { run_in_order({}); }

std::vector<double> ProcessGroup::all_reduce_sums(std::span<const double> values) {
  std::vector<double> sums(values.begin(), values.end());
  const auto count = static_cast<std::int64_t>(sums.size());
  run_in_order({.operation = Operation::all_reduce,
                .dtype = Dtype::f64,
                .input = sums.data(),
                .input_numel = count,
                .output = sums.data(),
                .output_numel = count});
  return sums;
}

const char* ProcessGroup::name(Operation operation) {
  constexpr const char* names[] = {"barrier", "all_reduce", "reduce_scatter", "all_gather", "broadcast"};
  return names[static_cast<int>(operation)];
}

std::string ProcessGroup::describe(const Collective& call) {
  std::ostringstream text;
  text << name(call.operation);
  if (call.operation == Operation::barrier) return text.str();
  if (call.operation == Operation::all_reduce || call.operation == Operation::reduce_scatter)
    text << (call.kind == ReduceKind::sum ? " (sum)" : " (max)");
  if (call.operation == Operation::broadcast) text << " (root " << call.root << ")";
  text << " of " << call.input_numel << " elements of " << kernels::name(call.dtype);
  return text.str();
}

std::string ProcessGroup::disagreement(std::span<const Collective> calls) {
  const auto alike = [&](const Collective& c) {
    const Collective& first = calls.front();
    return c.operation == first.operation && c.dtype == first.dtype && c.input_numel == first.input_numel &&
           c.output_numel == first.output_numel && c.kind == first.kind && c.root == first.root;
  };
  const auto other = std::find_if_not(calls.begin(), calls.end(), alike);
  if (other == calls.end()) return "";
  std::ostringstream text;
  text << "the ranks disagree: rank 0 calls " << describe(calls.front()) << ", rank " << other - calls.begin()
       << " calls " << describe(*other);
  return text.str();
}

std::string ProcessGroup::left_early(int peer, int rank, const Collective& call) {
  std::ostringstream text;
  text << "rank " << peer << " returned while rank " << rank << " waits for it in " << name(call.operation) << " of "
       << call.input_numel << " elements; every rank must call the same operations";
  return text.str();
}

// --- Order --------------------------------------------------------------------------------------------------------

ProcessGroup::ProcessGroup() = default;
ProcessGroup::~ProcessGroup() = default;

void ProcessGroup::launch(const StepGraph& step) { step.launch(); }

std::unique_ptr<Work> ProcessGroup::begin(const Collective& call) {
  if (thread_ == nullptr) thread_ = std::make_unique<CollectiveThread>();
  return thread_->begin([this, call] {
    call.note.begun();
    run(call);
    call.note.ended();
  });
}

void ProcessGroup::run_in_order(const Collective& wanted) {
  const Collective call = noted(wanted);
  call.note.awaited();
  if (thread_ != nullptr) thread_->wait_until_idle();
  call.note.begun();
  run(call);
  call.note.ended();
}

ProcessGroup::Collective ProcessGroup::noted(Collective call) {
  call.note = {name(call.operation), static_cast<std::int64_t>(bytes_of(call.input_numel, call.dtype))};
  return call;
}

// --- One rank -----------------------------------------------------------------------------------------------------

void SelfGroup::run(const Collective& call) {
  if (call.output != call.input && call.output_numel > 0)
    std::memcpy(call.output, call.input, bytes_of(call.output_numel, call.dtype));
}

// --- Ranks as threads ---------------------------------------------------------------------------------------------

namespace {

/// Ends a rank whose peer failed; the peer's own exception is the one that the caller gets.
struct PeerFailed : Error {
  using Error::Error;
};

}  // namespace

/// What the ranks share. A collective has two meetings of all ranks: after the first every rank's call is known and
/// checked, after the second nobody reads or writes memory of another rank any more.
class LocalSim::Meeting {
 public:
  explicit Meeting(int ranks) : calls_(static_cast<std::size_t>(ranks)), state_(static_cast<std::size_t>(ranks)) {}

  int size() const { return static_cast<int>(calls_.size()); }
  const std::vector<ProcessGroup::Collective>& calls() const { return calls_; }

  /// First meeting. Throws on every rank when the calls do not fit together.
  void open(int rank, const ProcessGroup::Collective& call) {
    std::unique_lock lock(mutex_);
    calls_[static_cast<std::size_t>(rank)] = call;
    meet(lock, rank, call);
    if (!mismatch_.empty()) fail(ErrorCode::usage, mismatch_);
  }

  /// Second meeting.
  void close(int rank, const ProcessGroup::Collective& call) {
    std::unique_lock lock(mutex_);
    meet(lock, rank, call);
  }

  /// The rank's function has ended, by itself or with an exception.
  void leave(int rank, bool failed) {
    const std::lock_guard lock(mutex_);
    state_[static_cast<std::size_t>(rank)] = failed ? State::failed : State::returned;
    gone_.push_back(rank);
    changed_.notify_all();
  }

 private:
  enum class State : std::uint8_t { running, returned, failed };

  /// Waits until all ranks have arrived. The last one checks the calls, so that each rank sees the same verdict, and
  /// no rank can begin the next meeting before it has read that of this one.
  void meet(std::unique_lock<std::mutex>& lock, int rank, const ProcessGroup::Collective& call) {
    const std::uint64_t meeting = meeting_;
    if (++arrived_ == size()) {
      arrived_ = 0;
      ++meeting_;
      mismatch_ = ProcessGroup::disagreement(calls_);
      if (mismatch_.empty()) mismatch_ = describe_sharing();
      changed_.notify_all();
      return;
    }
    changed_.wait(lock, [&] { return meeting_ != meeting || !gone_.empty(); });
    if (meeting_ != meeting) return;
    --arrived_;
    const int peer = gone_.front();
    const char* operation = ProcessGroup::name(call.operation);
    if (state_[static_cast<std::size_t>(peer)] == State::failed)
      throw PeerFailed(ErrorCode::internal, "rank " + std::to_string(peer) + " failed while rank " +
                                                std::to_string(rank) + " waited for it in " + operation);
    fail(ErrorCode::usage, ProcessGroup::left_early(peer, rank, call));
  }

  /// The first two ranks of which one would write memory that the other reads or writes, or "". Disjoint parts of one
  /// storage count too, because they share its version.
  std::string describe_sharing() const {
    for (std::size_t a = 0; a < calls_.size(); ++a)
      for (std::size_t b = 0; b < calls_.size(); ++b) {
        const ProcessGroup::Collective &writer = calls_[a], &other = calls_[b];
        const std::size_t written = bytes_of(writer.output_numel, writer.dtype);
        const bool shared = (writer.output_storage != nullptr && writer.output_storage == other.output_storage) ||
                            overlap(writer.output, written, other.input, bytes_of(other.input_numel, other.dtype)) ||
                            overlap(writer.output, written, other.output, bytes_of(other.output_numel, other.dtype));
        if (a == b || !shared) continue;
        std::ostringstream text;
        text << "ranks " << std::min(a, b) << " and " << std::max(a, b) << " pass the same memory to "
             << ProcessGroup::describe(writer) << "; each rank needs a tensor of its own";
        return text.str();
      }
    return "";
  }

  std::mutex mutex_;
  std::condition_variable changed_;
  std::vector<ProcessGroup::Collective> calls_;
  std::vector<State> state_;
  std::vector<int> gone_;   // in the order of leaving
  std::string mismatch_;
  std::uint64_t meeting_ = 0;
  int arrived_ = 0;
};

class LocalSim::Rank final : public ProcessGroup {
 public:
  Rank(Meeting& meeting, int rank)
      : meeting_(meeting), rank_(rank), inputs_(meeting.calls().size()), outputs_(inputs_.size()) {}

  int rank() const override { return rank_; }
  int size() const override { return meeting_.size(); }

 private:
  void run(const Collective& call) override {
    meeting_.open(rank_, call);
    transfer(call);
    meeting_.close(rank_, call);
  }

  /// Between the meetings the peers read and write this rank's operands, so nothing may unwind past them.
  void transfer(const Collective& call) noexcept {
    switch (call.operation) {
      case Operation::barrier: break;
      case Operation::all_reduce:
      case Operation::reduce_scatter: reduce(call); break;
      case Operation::all_gather: gather(call); break;
      case Operation::broadcast: copy(call, call.root, 0); break;
    }
  }

  /// Each rank reduces its part of the elements over all ranks. That of all_reduce goes to every rank at once, in
  /// place: nobody else reads or writes these elements, so no buffer is needed.
  void reduce(const Collective& call) {
    const bool everywhere = call.operation == Operation::all_reduce;
    const std::int64_t part = everywhere ? (call.input_numel + size() - 1) / size() : call.output_numel;
    const std::int64_t begin = rank_ * part, numel = std::min(part, call.input_numel - begin);
    if (numel <= 0) return;
    const std::size_t offset = bytes_of(begin, call.dtype);
    for (std::size_t r = 0; r < inputs_.size(); ++r) {
      const Collective& peer = meeting_.calls()[r];
      inputs_[r] = static_cast<const std::byte*>(peer.input) + offset;
      outputs_[r] = static_cast<std::byte*>(peer.output) + (everywhere ? offset : 0);
    }
    const std::span<void* const> outputs(outputs_);
    reduce_ranks(call.dtype, call.kind, inputs_,
                 everywhere ? outputs : outputs.subspan(static_cast<std::size_t>(rank_), 1), numel);
  }

  void gather(const Collective& call) {
    for (int r = 0; r < size(); ++r) copy(call, r, r * call.input_numel);
  }

  /// The input of rank `source` to this rank's output, `offset` elements in.
  void copy(const Collective& call, int source, std::int64_t offset) {
    const void* from = meeting_.calls()[static_cast<std::size_t>(source)].input;
    auto* to = static_cast<std::byte*>(call.output) + bytes_of(offset, call.dtype);
    if (call.input_numel > 0 && from != to) std::memcpy(to, from, bytes_of(call.input_numel, call.dtype));
  }

  Meeting& meeting_;
  int rank_;
  std::vector<const void*> inputs_;   // here, because transfer() must not allocate
  std::vector<void*> outputs_;
};

void LocalSim::run(int ranks, const std::function<void(ProcessGroup&)>& fn) {
  if (ranks < 1) fail(ErrorCode::usage, "LocalSim runs ", ranks, " ranks, it must be at least 1");
  Meeting meeting(ranks);
  std::vector<std::exception_ptr> own(static_cast<std::size_t>(ranks)), inherited(own.size());
  const auto body = [&](int r) {
    const auto index = static_cast<std::size_t>(r);
    try {
      Rank rank(meeting, r);
      fn(rank);
    } catch (const PeerFailed&) {
      inherited[index] = std::current_exception();
    } catch (...) {
      own[index] = std::current_exception();
    }
    meeting.leave(r, own[index] != nullptr || inherited[index] != nullptr);
  };
  {
    std::vector<std::jthread> threads;
    threads.reserve(own.size());
    for (int r = 0; r < ranks; ++r) {
      try {
        threads.emplace_back(body, r);
      } catch (...) {  // the system has no more threads: the ranks that run must not wait for this one
        own[static_cast<std::size_t>(r)] = std::current_exception();
        meeting.leave(r, true);
      }
    }
  }
  for (const auto* list : {&own, &inherited})
    for (const std::exception_ptr& error : *list)
      if (error != nullptr) std::rethrow_exception(error);
}

}  // namespace sinter
