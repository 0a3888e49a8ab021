#include "core/runtime/step_recorder.h"

#include <atomic>
#include <utility>

#include "core/autograd/mode.h"
#include "core/error.h"
#include "core/runtime/runtime.h"

namespace sinter {
namespace {

constexpr std::size_t kAlignment = 256;

thread_local StepRecorder* t_recorder = nullptr;

/// Which op runs, and in which module.
std::string running() {
  const auto& path = autograd::ModuleScope::current();
  std::string text = autograd::OpScope::current();
  if (text.empty()) text = "code outside any op";
  if (path != nullptr && !path->empty()) text += " in " + *path;
  return text;
}

std::size_t rounded(std::size_t bytes) { return (bytes + kAlignment - 1) / kAlignment * kAlignment; }

}  // namespace

StepRecorder::StepRecorder(Device device) : device_(device), before_(t_recorder) { t_recorder = this; }

StepRecorder::StepRecorder(Device device, const StepPlan& plan, std::shared_ptr<Storage> arena) : StepRecorder(device) {
  static std::atomic<std::uint64_t> captures{0};
  plan_ = &plan;
  arena_ = std::move(arena);
  capture_ = ++captures;
}

StepRecorder::~StepRecorder() { t_recorder = before_; }

StepRecorder* StepRecorder::active(Device device) {
  return t_recorder != nullptr && t_recorder->device_ == device ? t_recorder : nullptr;
}

void* StepRecorder::allocate(std::size_t bytes) {
  if (bytes == 0) return nullptr;
  void* memory = nullptr;
  if (capturing()) {
    if (next_ >= plan_->pieces.size() || plan_->pieces[next_].bytes != rounded(bytes))
      fail(ErrorCode::internal, "a captured step takes ", bytes, " bytes for ", running(),
           ", which it did not when it was observed: it is not the same step");
    memory = arena_->data() + plan_->pieces[next_].offset;
  } else {
    memory = Runtime::instance().allocator(device_).allocate(bytes);
    pieces_.push_back({.bytes = rounded(bytes), .begin = time_, .owner = running()});
  }
  alive_[memory] = next_++;
  ++time_;
  return memory;
}

void StepRecorder::deallocate(void* memory) {
  if (memory == nullptr) return;
  ++time_;
  const auto mine = alive_.find(memory);
  if (mine != alive_.end() && !capturing()) pieces_[mine->second].end = time_;
  if (mine == alive_.end() && capturing() && problem_.empty())
    problem_ = "a captured step cannot give back memory that it did not take: " + running() + " does";
  const bool in_arena = mine != alive_.end() && capturing();
  if (mine != alive_.end()) alive_.erase(mine);
  if (!in_arena) Runtime::instance().allocator(device_).deallocate(memory);
}

void StepRecorder::refuse(const std::string& what) const {
  fail(ErrorCode::unsupported, "a captured step cannot ", what, ": ", running(), " does; run it eagerly");
}

StepPlan StepRecorder::plan() const {
  StepPlan plan{.pieces = pieces_};
  for (const auto& [memory, piece] : alive_) plan.kept.push_back(pieces_[piece].owner);
  return plan;
}

void StepRecorder::check_end() const {
  if (!problem_.empty()) fail(ErrorCode::unsupported, problem_);
  if (!alive_.empty())
    fail(ErrorCode::unsupported, "a captured step leaves a tensor alive, that of ",
         plan_->pieces[alive_.begin()->second].owner, ": its memory belongs to the next step; copy what is wanted");
  if (next_ != plan_->pieces.size())
    fail(ErrorCode::internal, "a captured step takes memory ", next_, " times, and did so ", plan_->pieces.size(),
         " times when it was observed: it is not the same step");
}

}  // namespace sinter
