#include "core/process_group.h"

#include <algorithm>
#include <condition_variable>
#include <cstring>
#include <exception>
#include <mutex>
#include <string>
#include <thread>

#include "core/error.h"

namespace sinter {
namespace {

std::size_t bytes_of(const Tensor& range) { return static_cast<std::size_t>(range.numel()) * size_of(range.dtype()); }

void check_range(const char* collective, const Tensor& range) {
  const Dtype dtype = range.dtype();
  const bool served = dtype == Dtype::f32 || dtype == Dtype::f64 || dtype == Dtype::i64 || dtype == Dtype::i32;
  if (!served || range.rank() != 1 || !range.is_contiguous() || !range.device().is_cpu())
    fail(ErrorCode::usage, collective, " of a tensor ", name(dtype), " ", range.shape(), " on ", range.device().str(),
         "; it serves contiguous f32, f64, i64 and i32 tensors of rank 1 on the CPU");
}

/// output [n] of `parts` times n elements, or the reverse.
void check_parts(const char* collective, const Tensor& part, const Tensor& whole, int parts) {
  check_range(collective, part);
  check_range(collective, whole);
  if (part.dtype() != whole.dtype() || part.numel() * parts != whole.numel())
    fail(ErrorCode::usage, collective, " between ", name(part.dtype()), " ", part.shape(), " and ", name(whole.dtype()),
         " ", whole.shape(), "; the longer one has ", parts, " times the elements, of the same dtype");
}

void check_root(int root, int size) {
  if (root < 0 || root >= size) fail(ErrorCode::usage, "broadcast from rank ", root, " in a group of ", size, " ranks");
}

void copy_bytes(void* dst, const void* src, std::size_t bytes) {
  if (bytes > 0) std::memmove(dst, src, bytes);
}

template <class T>
void combine(T* into, const T* from, std::int64_t n, ReduceKind kind) {
  for (std::int64_t i = 0; i < n; ++i) into[i] = kind == ReduceKind::sum ? into[i] + from[i] : std::max(into[i], from[i]);
}

void combine(void* into, const void* from, std::int64_t n, Dtype dtype, ReduceKind kind) {
  switch (dtype) {
    case Dtype::f32: return combine(static_cast<float*>(into), static_cast<const float*>(from), n, kind);
    case Dtype::f64: return combine(static_cast<double*>(into), static_cast<const double*>(from), n, kind);
    case Dtype::i64: return combine(static_cast<std::int64_t*>(into), static_cast<const std::int64_t*>(from), n, kind);
    default: return combine(static_cast<std::int32_t*>(into), static_cast<const std::int32_t*>(from), n, kind);
  }
}

/// What a rank brings to a collective.
struct Call {
  const char* collective = "";
  Dtype dtype = Dtype::f32;
  std::int64_t numel = 0;   // of what it gives
  int detail = 0;           // kind or root
  const void* data = nullptr;

  bool matches(const Call& other) const {
    return std::strcmp(collective, other.collective) == 0 && dtype == other.dtype && numel == other.numel &&
           detail == other.detail;
  }
  std::string describe() const {
    return std::string(collective) + "(" + name(dtype) + " [" + std::to_string(numel) + "], " + std::to_string(detail) + ")";
  }
};

/// Where the ranks of a LocalSim meet.
class Meeting {
 public:
  explicit Meeting(int ranks) : calls_(static_cast<std::size_t>(ranks)) {}

  const Call& call(int rank) const { return calls_[static_cast<std::size_t>(rank)]; }
  int size() const { return static_cast<int>(calls_.size()); }

  /// Waits for all ranks; each brings its call. Throws on every rank when two calls do not match.
  void arrive(int rank, const Call& mine) {
    calls_[static_cast<std::size_t>(rank)] = mine;
    wait();
    for (int other = 0; other < size(); ++other)
      if (!call(0).matches(call(other)))
        fail(ErrorCode::usage, "ranks disagree: rank 0 calls ", call(0).describe(), ", rank ", other, " calls ",
             call(other).describe());
  }

  void wait() {
    std::unique_lock lock(lock_);
    if (gone_ > 0) leave();
    const std::uint64_t round = round_;
    if (++arrived_ == size()) {
      arrived_ = 0;
      ++round_;
      all_here_.notify_all();
      return;
    }
    all_here_.wait(lock, [&] { return round_ != round || gone_ > 0; });
    if (round_ == round) leave();
  }

  /// A rank ended. Nobody can meet it again.
  void end() {
    const std::lock_guard guard(lock_);
    ++gone_;
    all_here_.notify_all();
  }

 private:
  [[noreturn]] static void leave() { fail(ErrorCode::internal, "another rank ended before this collective"); }

  std::mutex lock_;
  std::condition_variable all_here_;
  std::uint64_t round_ = 0;
  int arrived_ = 0;
  int gone_ = 0;
  std::vector<Call> calls_;
};

class SimRank final : public ProcessGroup {
 public:
  SimRank(Meeting& meeting, int rank) : meeting_(meeting), rank_(rank) {}
  int rank() const override { return rank_; }
  int size() const override { return meeting_.size(); }

  void all_reduce(const Tensor& range, ReduceKind kind) override {
    check_range("all_reduce", range);
    meet({"all_reduce", range.dtype(), range.numel(), static_cast<int>(kind), range.data()});
    const std::vector<std::byte> total = reduced(range.dtype(), 0, range.numel(), kind);
    meeting_.wait();  // nobody reads the inputs any more
    copy_bytes(range.data(), total.data(), total.size());
    meeting_.wait();
  }

  void reduce_scatter(const Tensor& input, const Tensor& output) override {
    check_parts("reduce_scatter", output, input, size());
    meet({"reduce_scatter", input.dtype(), input.numel(), 0, input.data()});
    const std::vector<std::byte> total = reduced(input.dtype(), rank_ * output.numel(), output.numel(), ReduceKind::sum);
    meeting_.wait();
    copy_bytes(output.data(), total.data(), total.size());
    meeting_.wait();
  }

  void all_gather(const Tensor& input, const Tensor& output) override {
    check_parts("all_gather", input, output, size());
    meet({"all_gather", input.dtype(), input.numel(), 0, input.data()});
    std::vector<std::byte> all(bytes_of(output));
    for (int r = 0; r < size(); ++r)
      copy_bytes(all.data() + static_cast<std::size_t>(r) * bytes_of(input), meeting_.call(r).data, bytes_of(input));
    meeting_.wait();
    copy_bytes(output.data(), all.data(), all.size());
    meeting_.wait();
  }

  void broadcast(const Tensor& range, int root) override {
    check_range("broadcast", range);
    check_root(root, size());
    meet({"broadcast", range.dtype(), range.numel(), root, range.data()});
    if (rank_ != root) copy_bytes(range.data(), meeting_.call(root).data, bytes_of(range));
    meeting_.wait();
  }

  void barrier() override { meet({"barrier"}); }

 private:
  /// The calls stay readable until the next wait of this rank.
  void meet(const Call& mine) {
    meeting_.arrive(rank_, mine);
    if (std::strcmp(mine.collective, "barrier") == 0) meeting_.wait();
  }

  std::vector<std::byte> reduced(Dtype dtype, std::int64_t begin, std::int64_t n, ReduceKind kind) const {
    const std::size_t offset = static_cast<std::size_t>(begin) * size_of(dtype);
    std::vector<std::byte> total(static_cast<std::size_t>(n) * size_of(dtype));
    const auto part = [&](int r) { return static_cast<const std::byte*>(meeting_.call(r).data) + offset; };
    copy_bytes(total.data(), part(0), total.size());
    for (int r = 1; r < meeting_.size(); ++r) combine(total.data(), part(r), n, dtype, kind);
    return total;
  }

  Meeting& meeting_;
  int rank_;
};

}  // namespace

std::vector<double> ProcessGroup::all_reduce_sums(std::span<const double> values) {
  const Tensor range = Tensor::from(values, {static_cast<std::int64_t>(values.size())});
  all_reduce(range, ReduceKind::sum);
  return range.to_vector<double>();
}

void SelfGroup::all_reduce(const Tensor& range, ReduceKind) { check_range("all_reduce", range); }

void SelfGroup::reduce_scatter(const Tensor& input, const Tensor& output) {
  check_parts("reduce_scatter", output, input, 1);
  copy_bytes(output.data(), input.data(), bytes_of(input));
}

void SelfGroup::all_gather(const Tensor& input, const Tensor& output) {
  check_parts("all_gather", input, output, 1);
  copy_bytes(output.data(), input.data(), bytes_of(input));
}

void SelfGroup::broadcast(const Tensor& range, int root) {
  check_range("broadcast", range);
  check_root(root, 1);
}

void LocalSim::run(int ranks, const std::function<void(ProcessGroup&)>& fn) {
  if (ranks < 1) fail(ErrorCode::usage, "LocalSim with ", ranks, " ranks; it needs at least 1");
  Meeting meeting(ranks);
  std::mutex first_lock;
  std::exception_ptr first;
  std::vector<std::thread> threads;
  for (int r = 0; r < ranks; ++r)
    threads.emplace_back([&, r] {
      try {
        SimRank group(meeting, r);
        fn(group);
      } catch (...) {
        const std::lock_guard guard(first_lock);
        if (first == nullptr) first = std::current_exception();
      }
      meeting.end();
    });
  for (std::thread& thread : threads) thread.join();
  if (first != nullptr) std::rethrow_exception(first);
}

}  // namespace sinter
