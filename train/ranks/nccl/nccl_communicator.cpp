#include "train/ranks/nccl/nccl_communicator.h"

#include <algorithm>
#include <memory>
#include <utility>

#include "core/error.h"
#include "core/runtime/kernel_error.h"
#include "core/runtime/runtime.h"
#include "train/ranks/rendezvous_clock.h"

namespace sinter::train {
namespace {

using std::chrono::milliseconds;
using std::chrono::nanoseconds;

/// Operations that may be under way; the host waits before it calls for more.
constexpr std::size_t kMarks = 4096;
/// For a call of NCCL to return before the communicator is taken away from it, which then waits for other ranks.
constexpr std::chrono::seconds kTimeToReturn{1};

/// "unhandled system error: Call to connect returned Connection refused", of the two one where there is no more.
std::string words(const nccl::Functions& functions, nccl::Answer answer, nccl::Communicator of) {
  const char *const kind = functions.GetErrorString(answer), *const last = functions.GetLastError(of);
  std::string text = kind == nullptr ? "error " + std::to_string(answer) : kind;
  std::string detail = last == nullptr ? "" : last;
  while (!detail.empty() && (detail.back() == '\n' || detail.back() == ' ')) detail.pop_back();
  std::replace(detail.begin(), detail.end(), '\n', ' ');
  return detail.empty() ? text : text + ": " + detail;
}

std::atomic_ref<char> mark(void* marks, std::size_t index) {
  return std::atomic_ref<char>(static_cast<char*>(marks)[index % kMarks]);
}

}  // namespace

nccl::UniqueId make_unique_id(const nccl::Functions& functions) {
  nccl::UniqueId id{};
  if (const nccl::Answer answer = functions.GetUniqueId(&id); answer != nccl::kSuccess)
    fail(ErrorCode::io, "NCCL makes no id for the ranks: ", words(functions, answer, nullptr));
  return id;
}

// --- Beginning and end --------------------------------------------------------------------------------------------

NcclCommunicator::NcclCommunicator(const nccl::Functions& functions, const nccl::UniqueId& id, int rank, int size,
                                   Device device, kernels::Stream stream, NcclOptions options)
    : functions_(functions), rank_(rank), device_(device), api_(*Runtime::instance().backend(device).device),
      stream_(stream), options_(std::move(options)) {
  communicator_ = connect(id, size);
  try {
    prepare_marks();
    watcher_ = std::jthread([this](const std::stop_token& stop) { watch(stop); });
  } catch (...) {
    functions_.CommAbort(communicator_);
    api_.deallocate(device_.index(), one_);
    api_.deallocate_host(device_.index(), marks_);
    throw;
  }
}

NcclCommunicator::~NcclCommunicator() {
  stop_watching();
  if (communicator_ != nullptr && broken_.empty()) functions_.CommAbort(communicator_);
  api_.deallocate_host(device_.index(), marks_);   // waits for the stream
  api_.deallocate(device_.index(), one_);
}

/// NCCL waits for the other ranks as long as it takes, so in a thread of its own, which is left behind when they do not
/// come.
nccl::Communicator NcclCommunicator::connect(const nccl::UniqueId& id, int size) const {
  struct Start {
    std::mutex mutex;
    std::condition_variable changed;
    bool has_ended = false;
    std::string why_not;
    nccl::Communicator made = nullptr;
  };
  const auto start = std::make_shared<Start>();
  std::thread([start, id, size, rank = rank_, device = device_.index(), &api = api_, &functions = functions_] {
    nccl::Communicator made = nullptr;
    std::string why_not;
    if (const kernels::Status status = api.make_current(device); !status.ok())
      why_not = status.what;
    else if (const nccl::Answer answer = functions.CommInitRank(&made, size, id, rank); answer != nccl::kSuccess)
      why_not = words(functions, answer, nullptr);
    const std::lock_guard lock(start->mutex);
    start->why_not = std::move(why_not);
    start->made = made;
    start->has_ended = true;
    start->changed.notify_all();
  }).detach();
  std::unique_lock lock(start->mutex);
  if (!start->changed.wait_for(lock, options_.start_timeout, [&] { return start->has_ended; }))
    fail(ErrorCode::io, "NCCL has not connected rank ", rank_, " with the others within ",
         in_seconds(options_.start_timeout), "; with NCCL_DEBUG=INFO it says what it waits for");
  if (!start->why_not.empty())
    fail(ErrorCode::io, "NCCL does not start on rank ", rank_, " (", device_.str(), "): ", start->why_not);
  return start->made;
}

void NcclCommunicator::prepare_marks() {
  const int device = device_.index();
  require(api_.allocate(device, 64, &one_), "NCCL's marks", device_);
  require(api_.allocate_host(device, kMarks, &marks_), "NCCL's marks", device_);
  require(api_.fill(device, one_, 1, 64, stream_), "NCCL's marks", device_);
}

void NcclCommunicator::stop_watching() {
  if (!watcher_.joinable()) return;
  watcher_.request_stop();
  watcher_.join();
}

void NcclCommunicator::finish() {
  stop_watching();
  throw_if_broken();
  nccl::Communicator const ended = std::exchange(communicator_, nullptr);
  if (const nccl::Answer answer = functions_.CommDestroy(ended); answer != nccl::kSuccess)
    fail(ErrorCode::io, failed_in_nccl("the end of the group", answer, nullptr));
}

// --- Calls --------------------------------------------------------------------------------------------------------

std::string NcclCommunicator::failed_in_nccl(const std::string& operation, nccl::Answer answer,
                                             nccl::Communicator of) const {
  return operation + " failed on rank " + std::to_string(rank_) + " in NCCL: " + words(functions_, answer, of);
}

void NcclCommunicator::throw_if_broken() const {
  if (!broken_.empty()) fail(ErrorCode::io, broken_);
}

void NcclCommunicator::check() const {
  const std::lock_guard lock(mutex_);
  throw_if_broken();
}

/// Forgets what has ended, and says whether anything had. The mutex is held.
bool NcclCommunicator::take_ended() {
  bool any = false;
  while (!under_way_.empty() && under_way_.front().is_marked &&
         mark(marks_, under_way_.front().mark).load(std::memory_order_acquire) != 0) {
    under_way_.pop_front();
    any = true;
  }
  if (any || under_way_.empty()) waited_ = {};
  return any;
}

void NcclCommunicator::make_room() {
  {
    const std::lock_guard lock(mutex_);
    take_ended();
    throw_if_broken();
    if (under_way_.size() < kMarks) return;
  }
  const kernels::Status status = api_.synchronize(device_.index(), stream_);
  const std::lock_guard lock(mutex_);
  throw_if_broken();
  require(status, "waiting for NCCL", device_);
  take_ended();
}

void NcclCommunicator::call(const std::string& operation, Place place,
                            const std::function<nccl::Answer(nccl::Communicator)>& act) {
  const bool leaves_mark = place == Place::stream;
  if (leaves_mark) make_room();
  std::size_t taken = 0;
  {
    const std::lock_guard lock(mutex_);
    throw_if_broken();   // from here on the watcher does not take the communicator away
    is_calling_ = true;
    if (leaves_mark) {
      taken = marked_++;
      mark(marks_, taken).store(0, std::memory_order_relaxed);
    }
    under_way_.push_back({.name = operation, .mark = taken, .is_marked = false});
  }
  kernels::Status status = api_.make_current(device_.index());
  const nccl::Answer answer = status.ok() ? act(communicator_) : nccl::kSuccess;
  if (status.ok() && answer == nccl::kSuccess && leaves_mark)
    status = api_.copy(device_.index(), static_cast<char*>(marks_) + taken % kMarks, one_, 1, stream_);
  const std::lock_guard lock(mutex_);
  is_calling_ = false;
  if (broken_.empty() && answer != nccl::kSuccess) broken_ = failed_in_nccl(operation, answer, communicator_);
  if (broken_.empty() && !status.ok())
    broken_ = operation + " failed on rank " + std::to_string(rank_) + ": " + status.what;
  if (leaves_mark)
    under_way_.back().is_marked = true;
  else
    under_way_.pop_back();
  changed_.notify_all();
  throw_if_broken();
}

// --- The watcher --------------------------------------------------------------------------------------------------

/// What NCCL reports beside its calls, or "".
std::string NcclCommunicator::reported_error() const {
  nccl::Answer error = nccl::kSuccess;
  if (const nccl::Answer answer = functions_.CommGetAsyncError(communicator_, &error); answer != nccl::kSuccess)
    error = answer;
  return error == nccl::kSuccess || error == nccl::kInProgress ? "" : words(functions_, error, communicator_);
}

/// Breaks the communicator where there is a reason. The mutex is held.
bool NcclCommunicator::find_failure(const std::string& reported) {
  const std::string first = under_way_.empty() ? "" : under_way_.front().name;
  const std::string on_rank = " on rank " + std::to_string(rank_);
  if (!reported.empty())
    broken_ = (first.empty() ? "the connection of the ranks" : first) + " failed" + on_rank + " in NCCL: " + reported;
  else if (!first.empty() && waited_ > options_.timeout)
    broken_ = first + " did not end" + on_rank + " within " + in_seconds(options_.timeout) +
              ": another rank hangs, has ended, or calls another operation";
  return !broken_.empty();
}

/// Aborts a broken communicator, and nobody else does.
void NcclCommunicator::watch(const std::stop_token& stop) {
  const nanoseconds period = std::clamp<nanoseconds>(options_.timeout / 20, milliseconds(1), milliseconds(200));
  auto last = std::chrono::steady_clock::now();
  bool found_here = false;
  std::unique_lock lock(mutex_);
  while (broken_.empty()) {
    changed_.wait_for(lock, stop, period, [&] { return !broken_.empty(); });
    if (!broken_.empty()) break;
    if (stop.stop_requested()) return;
    const auto before = std::exchange(last, std::chrono::steady_clock::now());
    if (!take_ended() && !under_way_.empty()) waited_ += std::min<nanoseconds>(last - before, 2 * period);
    lock.unlock();
    const std::string reported = reported_error();
    lock.lock();
    found_here = broken_.empty() && find_failure(reported);
  }
  const std::string sentence = broken_;
  lock.unlock();
  if (found_here && options_.on_failure) options_.on_failure(sentence);
  lock.lock();
  changed_.wait_for(lock, kTimeToReturn, [&] { return !is_calling_; });
  lock.unlock();
  functions_.CommAbort(communicator_);
}

}  // namespace sinter::train
