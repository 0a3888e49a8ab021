#include "core/collective_trace.h"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <utility>

namespace sinter {
namespace {

thread_local CollectiveTrace* t_trace = nullptr;

double now() { return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count(); }

}  // namespace

CollectiveSeconds seconds_of(const std::vector<TracedCollective>& operations) {
  CollectiveSeconds seconds;
  for (const TracedCollective& operation : operations) {
    if (operation.begun < 0 || operation.ended < 0) continue;
    seconds.under_way += operation.ended - operation.begun;
    seconds.hidden += std::clamp(operation.awaited, operation.begun, operation.ended) - operation.begun;
  }
  return seconds;
}

CollectiveTrace::CollectiveTrace() : before_(std::exchange(t_trace, this)), origin_(now()) {}
CollectiveTrace::~CollectiveTrace() { t_trace = before_; }

/// Its times are written by the thread that carries it out, while another may look.
struct CollectiveTrace::Note::Operation {
  const char* const name;
  const std::int64_t bytes;
  const double origin;
  std::atomic<double> called{-1}, begun{-1}, ended{-1}, awaited{-1};

  void note(std::atomic<double>& time) const { time = now() - origin; }
};

std::vector<TracedCollective> CollectiveTrace::operations() const {
  std::vector<TracedCollective> operations;
  for (const auto& o : operations_)
    operations.push_back({o->name, o->bytes, o->called, o->begun, o->ended, o->awaited});
  return operations;
}

CollectiveTrace::Note::Note(const char* name, std::int64_t bytes) {
  if (t_trace == nullptr) return;
  operation_ = std::make_shared<Operation>(name, bytes, t_trace->origin_);
  t_trace->operations_.push_back(operation_);
  operation_->note(operation_->called);
}

void CollectiveTrace::Note::begun() const {
  if (operation_ != nullptr) operation_->note(operation_->begun);
}
void CollectiveTrace::Note::ended() const {
  if (operation_ != nullptr) operation_->note(operation_->ended);
}
void CollectiveTrace::Note::awaited() const {
  if (operation_ != nullptr) operation_->note(operation_->awaited);
}

}  // namespace sinter
