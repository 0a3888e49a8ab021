#include "core/collective_trace.h"

#include <algorithm>
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

std::vector<TracedCollective> CollectiveTrace::operations() const {
  std::vector<TracedCollective> operations;
  for (const auto& operation : operations_) operations.push_back(*operation);
  return operations;
}

CollectiveTrace::Note::Note(const char* name, std::int64_t bytes) {
  if (t_trace == nullptr) return;
  origin_ = t_trace->origin_;
  operation_ = std::make_shared<TracedCollective>(TracedCollective{.name = name, .bytes = bytes});
  t_trace->operations_.push_back(operation_);
  set(&TracedCollective::called);
}

void CollectiveTrace::Note::set(double TracedCollective::*time) const {
  if (operation_ != nullptr) (*operation_).*time = now() - origin_;
}

void CollectiveTrace::Note::begun() const { set(&TracedCollective::begun); }
void CollectiveTrace::Note::ended() const { set(&TracedCollective::ended); }
void CollectiveTrace::Note::awaited() const { set(&TracedCollective::awaited); }

}  // namespace sinter
