#include "core/runtime/launch_trace.h"

#include <utility>

#include "core/autograd/mode.h"
#include "core/error.h"
#include "core/runtime/kernel_error.h"
#include "core/runtime/runtime.h"

namespace sinter {
namespace {

thread_local LaunchTrace* t_trace = nullptr;

StepPhase running_phase() {
  if (autograd::BackwardScope::active()) return StepPhase::backward;
  const auto& module = autograd::ModuleScope::current();
  const bool in_model = *autograd::OpScope::current() != '\0' || (module != nullptr && !module->empty());
  return in_model ? StepPhase::forward : StepPhase::update;
}

}  // namespace

const char* name(StepPhase phase) {
  switch (phase) {
    case StepPhase::forward: return "forward";
    case StepPhase::backward: return "backward";
    default: return "update";
  }
}

LaunchTrace::LaunchTrace(Device device) : device_(device), before_(std::exchange(t_trace, this)) {}

LaunchTrace::~LaunchTrace() {
  stop();
  const kernels::DeviceApi& api = *Runtime::instance().backend(device_).device;
  for (const kernels::Event event : events_) api.destroy_event(device_.index(), event);
}

void LaunchTrace::stop() {
  if (std::exchange(tracing_, false)) t_trace = before_;
}

LaunchTrace* LaunchTrace::active(Device device) {
  return t_trace != nullptr && t_trace->device_ == device ? t_trace : nullptr;
}

void LaunchTrace::record_time() {
  Runtime& runtime = Runtime::instance();
  const kernels::DeviceApi& api = *runtime.backend(device_).device;
  kernels::Event event;
  require(api.create_timed_event(device_.index(), &event), "tracing a kernel", device_);
  events_.push_back(event);
  require(api.record_time(device_.index(), event, runtime.stream(device_)), "tracing a kernel", device_);
}

void LaunchTrace::begin(kernels::KernelId id, const kernels::Variant& variant, const kernels::Cost& cost,
                        const char* op) {
  const auto& module = autograd::ModuleScope::current();
  const char* const running = autograd::OpScope::current();
  launches_.push_back({.phase = running_phase(),
                       .kernel = id,
                       .variant = variant.name,
                       .op = *running != '\0' ? running : op,
                       .module = module != nullptr ? *module : "",
                       .cost = cost});
  record_time();
}

void LaunchTrace::end() { record_time(); }

std::vector<TracedLaunch> LaunchTrace::launches() const {
  if (tracing_) fail(ErrorCode::usage, "a LaunchTrace tells its launches when it has been stopped");
  Runtime& runtime = Runtime::instance();
  runtime.synchronize(device_);
  const kernels::DeviceApi& api = *runtime.backend(device_).device;
  std::vector<TracedLaunch> timed = launches_;
  for (std::size_t i = 0; i < timed.size(); ++i)
    require(api.elapsed(device_.index(), events_[2 * i], events_[2 * i + 1], &timed[i].microseconds),
            "the time of a traced kernel", device_);
  return timed;
}

}  // namespace sinter
