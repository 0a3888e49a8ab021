#include "core/runtime/step_arena.h"

#include <algorithm>
#include <numeric>
#include <utility>

#include "core/error.h"
#include "core/runtime/kernel_error.h"
#include "core/runtime/runtime.h"
#include "core/runtime/step_recorder.h"

namespace sinter {
namespace {

const kernels::DeviceApi& api(Device device) { return *Runtime::instance().backend(device).device; }

bool alive_together(const StepPiece& a, const StepPiece& b) { return a.begin < b.end && b.begin < a.end; }

/// A stream that records, until it is told what becomes of the recording.
class Capture {
 public:
  explicit Capture(Device device) : device_(device), stream_(Runtime::instance().stream(device)) {
    require(api(device).begin_capture(device.index(), stream_), "capturing a step", device);
  }
  ~Capture() {
    if (open_) (void)api(device_).end_capture(device_.index(), stream_, nullptr);   // an error is under way
  }
  Capture(const Capture&) = delete;
  Capture& operator=(const Capture&) = delete;

  kernels::Graph end() {
    open_ = false;
    kernels::Graph graph;
    require(api(device_).end_capture(device_.index(), stream_, &graph), "capturing a step", device_);
    return graph;
  }

 private:
  Device device_;
  kernels::Stream stream_;
  bool open_ = true;
};

}  // namespace

void place(StepPlan& plan) {
  std::vector<std::size_t> order(plan.pieces.size());
  std::iota(order.begin(), order.end(), std::size_t{0});
  std::stable_sort(order.begin(), order.end(),
                   [&](std::size_t a, std::size_t b) { return plan.pieces[a].bytes > plan.pieces[b].bytes; });
  std::vector<const StepPiece*> placed;   // by offset
  plan.bytes = 0;
  for (const std::size_t index : order) {
    StepPiece& piece = plan.pieces[index];
    piece.offset = 0;
    for (const StepPiece* other : placed) {
      if (!alive_together(piece, *other)) continue;
      if (other->offset >= piece.offset + piece.bytes) break;   // a gap that is large enough
      piece.offset = std::max(piece.offset, other->offset + other->bytes);
    }
    const auto behind = std::upper_bound(placed.begin(), placed.end(), &piece,
                                         [](const StepPiece* a, const StepPiece* b) { return a->offset < b->offset; });
    placed.insert(behind, &piece);
    plan.bytes = std::max(plan.bytes, piece.offset + piece.bytes);
  }
}

bool is_captured(Device device) {
  const StepRecorder* const recorder = StepRecorder::active(device);
  return recorder != nullptr && recorder->capturing();
}

StepGraph::StepGraph(StepGraph&& other) noexcept { *this = std::move(other); }

StepGraph& StepGraph::operator=(StepGraph&& other) noexcept {
  std::swap(device_, other.device_);
  std::swap(graph_, other.graph_);
  std::swap(memory_, other.memory_);
  return *this;
}

StepGraph::~StepGraph() {
  if (graph_.handle != nullptr) api(device_).destroy_graph(device_.index(), graph_);
}

void StepGraph::launch() const {
  if (graph_.handle == nullptr) fail(ErrorCode::usage, "a StepGraph that holds no step was launched");
  Runtime::instance().launch_graph(device_, graph_);
}

StepArena::StepArena(Device device) : device_(device) {
  if (device.is_cpu()) fail(ErrorCode::unsupported, "a step on the CPU cannot be captured: the CPU has no graphs");
}

StepPlan StepArena::observe(const std::function<void()>& step) {
  StepRecorder recorder(device_);
  step();
  StepPlan plan = recorder.plan();
  if (plan.kept.empty()) place(plan);
  return plan;
}

StepGraph StepArena::capture(const StepPlan& plan, const std::function<void()>& step) {
  if (!plan.kept.empty())
    fail(ErrorCode::unsupported, "a captured step cannot leave a tensor alive, as that of ", plan.kept.front(),
         " was: its memory belongs to the next step; copy what is wanted");
  if (bytes() < plan.bytes) memory_ = std::make_shared<Storage>(device_, plan.bytes);
  Capture capture(device_);
  {
    StepRecorder recorder(device_, plan, memory_);
    step();
    recorder.check_end();
  }
  StepGraph graph;
  graph.device_ = device_;
  graph.graph_ = capture.end();
  graph.memory_ = memory_;
  return graph;
}

void StepArena::poison() {
  if (memory_ == nullptr) return;
  require(api(device_).fill(device_.index(), memory_->data(), 0xff, bytes(), Runtime::instance().stream(device_)),
          "filling the arena", device_);
}

}  // namespace sinter
