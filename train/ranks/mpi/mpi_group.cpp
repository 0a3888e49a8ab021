#include "train/ranks/mpi/mpi_group.h"

#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <span>
#include <sstream>

#include "core/error.h"
#include "core/reduce_ranks.h"
#include "core/runtime/library_function.h"

namespace sinter::train {

MpiLibrary load_mpi(const std::vector<std::filesystem::path>& folders) {
  const LibraryFunction function = load_function("libsinter_mpi.so", folders, "sinter_mpi_table", "MPI module");
  if (function.address == nullptr) return {.why_unusable = function.why_unusable};
  const MpiTable* const table = reinterpret_cast<const MpiTable* (*)()>(function.address)();
  if (table->abi == kMpiAbi) return {.table = table};
  std::ostringstream text;
  text << function.path.string() << " belongs to another version of sinter (its interface has number " << table->abi
       << ", this program's " << kMpiAbi << ")";
  return {.why_unusable = text.str()};
}

namespace {

std::size_t bytes_of(std::int64_t numel, Dtype dtype) { return static_cast<std::size_t>(numel) * size_of(dtype); }

const std::byte* at(const void* data, std::int64_t element, Dtype dtype) {
  return static_cast<const std::byte*>(data) + bytes_of(element, dtype);
}

std::byte* at(void* data, std::int64_t element, Dtype dtype) {
  return static_cast<std::byte*>(data) + bytes_of(element, dtype);
}

}  // namespace

/// A rank's call as the others see it.
struct MpiGroup::Header {
  std::int64_t input_numel = 0;
  std::int64_t output_numel = 0;
  std::int32_t root = 0;
  std::uint8_t operation = 0;
  std::uint8_t dtype = 0;
  std::uint8_t kind = 0;
  std::uint8_t leaves = 0;
};

MpiGroup::MpiGroup(const MpiTable& table, const MpiOptions& options) : table_(table), options_(options) {
  const MpiAnswer answer = table.start(options.message_bytes, options_.looks.get(), &job_, &rank_, &size_);
  if (answer.why[0] != '\0') fail(ErrorCode::io, "MPI does not start: ", answer.why);
  const auto ranks = static_cast<std::size_t>(size_);
  headers_.resize(ranks);
  calls_.resize(ranks);
  sends_.resize(ranks);
  receives_.resize(ranks);
}

MpiGroup::~MpiGroup() {
  try {
    if (broken_.empty()) finish();
  } catch (const std::exception&) {   // the others throw it too
  }
}

void MpiGroup::abort(int code) {
  if (job_ != nullptr) table_.abort(job_, code);
  std::_Exit(code);
}

void MpiGroup::check(const char* operation, const MpiAnswer& answer) {
  if (answer.why[0] == '\0') return;
  broken_ = std::string(operation) + " failed on rank " + std::to_string(rank_) + " in MPI: " + answer.why;
  fail(ErrorCode::io, broken_);
}

// --- Meetings -----------------------------------------------------------------------------------------------------

/// Returns when every rank has come, which makes it a barrier. Throws on every rank when the calls do not fit together.
void MpiGroup::meet(const Collective& call, bool leaves) {
  const Header mine{.input_numel = call.input_numel,
                    .output_numel = call.output_numel,
                    .root = call.root,
                    .operation = static_cast<std::uint8_t>(call.operation),
                    .dtype = static_cast<std::uint8_t>(call.dtype),
                    .kind = static_cast<std::uint8_t>(call.kind),
                    .leaves = leaves};
  check(leaves ? "the end of the group" : name(call.operation),
        table_.all_gather(job_, &mine, sizeof mine, headers_.data()));
  int gone = -1, here = -1;   // the lowest of each
  for (int r = size_ - 1; r >= 0; --r) {
    const Header& header = headers_[static_cast<std::size_t>(r)];
    (header.leaves != 0 ? gone : here) = r;
    calls_[static_cast<std::size_t>(r)] = {.operation = static_cast<Operation>(header.operation),
                                           .dtype = static_cast<Dtype>(header.dtype),
                                           .input_numel = header.input_numel,
                                           .output_numel = header.output_numel,
                                           .kind = static_cast<ReduceKind>(header.kind),
                                           .root = header.root};
  }
  if (here < 0) return;
  if (gone >= 0) {
    first_gone_ = gone;
    const int waiting = leaves ? here : rank_;
    fail(ErrorCode::usage, left_early(leaves ? rank_ : gone, waiting, calls_[static_cast<std::size_t>(waiting)]));
  }
  const std::string disagree = disagreement(calls_);
  if (!disagree.empty()) fail(ErrorCode::usage, disagree);
}

void MpiGroup::finish() {
  if (!broken_.empty()) fail(ErrorCode::io, broken_);
  if (job_ == nullptr) return;
  try {
    if (first_gone_ < 0) meet({}, true);
  } catch (...) {
    if (broken_.empty()) close("the end of the group");
    throw;
  }
  close("the end of the group");
}

void MpiGroup::close(const char* operation) {
  MpiJob* const job = job_;
  job_ = nullptr;
  check(operation, table_.finish(job));
}

// --- Reductions ---------------------------------------------------------------------------------------------------

/// all_reduce and reduce_scatter. Every rank has a range of the elements, of which all others send it their values, and
/// adds them in the order of the ranks; in an all_reduce it then sends the sums to all others. Ranges are cut into
/// pieces: while one is added, the next is under way.
class MpiGroup::Reduction {
 public:
  Reduction(MpiGroup& group, const Collective& call)
      : group_(group), call_(call), in_place_(call.operation == Operation::all_reduce),
        range_(in_place_ ? (call.input_numel + group.size_ - 1) / group.size_ : call.output_numel),
        inputs_(static_cast<std::size_t>(group.size_)) {
    const std::size_t row = size_of(call.dtype) * inputs_.size();   // one element of every range
    step_ = std::min(range_, std::max<std::int64_t>(1, static_cast<std::int64_t>(group.options_.piece_bytes / row)));
    const std::size_t needed = 2 * bytes_of(step_, call.dtype) * (inputs_.size() - 1);
    if (group.scratch_.size() < needed) group.scratch_.resize(needed);
  }

  void run() {
    if (range_ == 0) return;
    const std::int64_t pieces = (range_ + step_ - 1) / step_;
    MpiExchange *values = begin_values(0), *next = nullptr, *sums = nullptr;
    for (std::int64_t piece = 0; piece < pieces; ++piece) {
      if (piece + 1 < pieces) next = begin_values(piece + 1);
      wait(values);
      values = next;
      reduce(piece);
      if (!in_place_) continue;
      if (piece > 0) wait(sums);
      sums = begin_sums(piece);
    }
    if (in_place_) wait(sums);
  }

 private:
  struct Span {
    std::int64_t begin, numel;
  };

  /// The elements of a piece in the range of a rank; the last ranges of an all_reduce may be short or empty.
  Span span(int rank, std::int64_t piece) const {
    const std::int64_t begin = std::min(call_.input_numel, rank * range_ + piece * step_);
    const std::int64_t end = std::min({call_.input_numel, (rank + 1) * range_, begin + step_});
    return {begin, std::max<std::int64_t>(0, end - begin)};
  }

  /// Where the values of rank `from` for a piece of this rank's range arrive. Pieces take turns in two places.
  std::byte* arrivals(int from, std::int64_t piece) const {
    const std::int64_t others = group_.size_ - 1, place = from < group_.rank_ ? from : from - 1;
    return at(static_cast<void*>(group_.scratch_.data()), ((piece % 2) * others + place) * step_, call_.dtype);
  }

  template <class Sent, class Received>
  MpiExchange* begin(Sent&& sent, Received&& received) {
    for (int r = 0; r < group_.size_; ++r) {
      const auto index = static_cast<std::size_t>(r);
      group_.sends_[index] = r == group_.rank_ ? MpiSend{} : sent(r);
      group_.receives_[index] = r == group_.rank_ ? MpiReceive{} : received(r);
    }
    MpiExchange* exchange = nullptr;
    group_.check(name(call_.operation), group_.table_.begin_exchange(group_.job_, group_.sends_.data(),
                                                                     group_.receives_.data(), &exchange));
    return exchange;
  }

  MpiExchange* begin_values(std::int64_t piece) {
    const std::size_t own_bytes = bytes_of(span(group_.rank_, piece).numel, call_.dtype);
    return begin(
        [&](int r) {
          const Span part = span(r, piece);
          return MpiSend{at(call_.input, part.begin, call_.dtype), bytes_of(part.numel, call_.dtype)};
        },
        [&](int r) { return MpiReceive{arrivals(r, piece), own_bytes}; });
  }

  /// Of an all_reduce: its input and output are the same memory. What is overwritten here was sent before.
  MpiExchange* begin_sums(std::int64_t piece) {
    const auto part = [&](int r) {
      const Span where = span(r, piece);
      return MpiReceive{at(call_.output, where.begin, call_.dtype), bytes_of(where.numel, call_.dtype)};
    };
    const MpiReceive own = part(group_.rank_);
    return begin([&](int) { return MpiSend{own.data, own.bytes}; }, part);
  }

  void wait(MpiExchange* exchange) { group_.check(name(call_.operation), group_.table_.wait(exchange)); }

  void reduce(std::int64_t piece) {
    const Span own = span(group_.rank_, piece);
    for (int r = 0; r < group_.size_; ++r)
      inputs_[static_cast<std::size_t>(r)] =
          r == group_.rank_ ? at(call_.input, own.begin, call_.dtype) : arrivals(r, piece);
    void* const output = at(call_.output, in_place_ ? own.begin : piece * step_, call_.dtype);
    reduce_ranks(call_.dtype, call_.kind, inputs_, std::span(&output, 1), own.numel);
  }

  MpiGroup& group_;
  const Collective& call_;
  bool in_place_;
  std::int64_t range_;    // elements that a rank reduces, at most
  std::int64_t step_ = 0;   // of these in a piece, at most
  std::vector<const void*> inputs_;
};

// --- Operations ---------------------------------------------------------------------------------------------------

/// Tells when this rank comes to an operation and leaves it.
class MpiGroup::Visit {
 public:
  explicit Visit(const std::function<void(bool)>& tell) : tell_(tell) {
    if (tell_) tell_(true);
  }
  ~Visit() {
    if (tell_) tell_(false);
  }
  Visit(const Visit&) = delete;
  Visit& operator=(const Visit&) = delete;

 private:
  const std::function<void(bool)>& tell_;
};

void MpiGroup::run(const Collective& call) {
  if (!broken_.empty()) fail(ErrorCode::io, broken_);
  if (first_gone_ >= 0) fail(ErrorCode::usage, left_early(first_gone_, rank_, call));
  if (job_ == nullptr) fail(ErrorCode::usage, name(call.operation), " in a group that has finished");
  const Visit visit(options_.at_operation);
  const bool reduces = call.operation == Operation::all_reduce || call.operation == Operation::reduce_scatter;
  if (reduces) {
    Reduction reduction(*this, call);   // all memory is there before the ranks meet: behind that nobody may stay away
    meet(call, false);
    return reduction.run();
  }
  meet(call, false);
  if (call.operation == Operation::all_gather) gather(call);
  if (call.operation == Operation::broadcast)
    check("broadcast", table_.broadcast(job_, call.output, bytes_of(call.output_numel, call.dtype), call.root));
}

void MpiGroup::gather(const Collective& call) {
  const std::size_t bytes = bytes_of(call.input_numel, call.dtype);
  std::byte* const own = at(call.output, rank_ * call.input_numel, call.dtype);
  if (bytes > 0 && own != call.input) std::memcpy(own, call.input, bytes);
  for (int r = 0; r < size_; ++r) {
    const auto index = static_cast<std::size_t>(r);
    sends_[index] = r == rank_ ? MpiSend{} : MpiSend{call.input, bytes};
    receives_[index] = r == rank_ ? MpiReceive{} : MpiReceive{at(call.output, r * call.input_numel, call.dtype), bytes};
  }
  MpiExchange* exchange = nullptr;
  check("all_gather", table_.begin_exchange(job_, sends_.data(), receives_.data(), &exchange));
  check("all_gather", table_.wait(exchange));
}

}  // namespace sinter::train
