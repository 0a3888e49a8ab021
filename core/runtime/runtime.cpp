#include "core/runtime/runtime.h"

#include <atomic>
#include <cstring>
#include <mutex>
#include <vector>

#include "core/error.h"
#include "core/runtime/backend_library.h"
#include "core/runtime/kernel_error.h"
#include "core/runtime/launch_trace.h"
#include "core/runtime/step_recorder.h"
#include "core/runtime/uploader.h"

namespace sinter {

struct Runtime::Context {
  Device device;
  const kernels::BackendModule* backend;
  const kernels::KernelEntry* entries[kernels::kKernelCount] = {};
  kernels::Stream stream;
  kernels::Event written;    // for copies to another device
  std::unique_ptr<CachingAllocator> allocator;
  std::unique_ptr<StagingBuffer> staging;   // of small copies from the host into memory that kernels use
  std::unique_ptr<Uploader> uploader;
  std::atomic<std::uint64_t> launches{0}, graph_launches{0}, waits{0};

  Context(Device which, const kernels::BackendModule& module) : device(which), backend(&module) {
    find_entries();
    require(api().create_stream(device.index(), &stream), "making a stream", device);
    require(api().create_event(device.index(), &written), "making an event", device);
    allocator = std::make_unique<CachingAllocator>(api(), device.index(), stream);
    staging = std::make_unique<StagingBuffer>(api(), device.index(), stream);
    uploader = std::make_unique<Uploader>(api(), device, stream);
  }
  const kernels::DeviceApi& api() const { return *backend->device; }
  void find_entries() {
    for (int id = 0; id < kernels::kKernelCount; ++id)
      entries[id] = kernels::find(*backend, static_cast<kernels::KernelId>(id));
  }
  const kernels::KernelEntry& entry(kernels::KernelId id) const {
    const kernels::KernelEntry* found = entries[static_cast<int>(id)];
    if (found == nullptr)
      fail(ErrorCode::unsupported, "kernel ", kernels::name(id), " does not exist on ", device.str());
    return *found;
  }
};

/// Loaded at first use; contexts are made at first use and stay.
struct Runtime::Library {
  const char* file;
  std::once_flag loaded;
  BackendLibrary backend;
  std::vector<std::atomic<Context*>> contexts;   // by device index
  std::mutex opening;

  explicit Library(const char* name) : file(name) {}
  int device_count() const { return static_cast<int>(contexts.size()); }
  Library& load() {
    std::call_once(loaded, [this] {
      backend = load_backend(file, backend_folders());
      if (backend.module == nullptr) return;
      contexts = std::vector<std::atomic<Context*>>(static_cast<std::size_t>(backend.module->device->device_count()));
    });
    return *this;
  }
  std::string why_unusable(Device device) const {
    if (backend.module == nullptr) return backend.why_unusable;
    if (device.index() < device_count()) return "";
    const std::string last = std::to_string(device_count() - 1);
    return device_count() == 1 ? "the only one is number 0" : "the devices have the numbers 0 to " + last;
  }
  Context& open(Device device) {
    std::atomic<Context*>& context = contexts[static_cast<std::size_t>(device.index())];
    if (Context* made = context.load(std::memory_order_acquire)) return *made;
    const std::lock_guard guard(opening);
    if (context.load(std::memory_order_relaxed) == nullptr)
      context.store(new Context(device, *backend.module), std::memory_order_release);
    return *context.load(std::memory_order_relaxed);
  }
};

Runtime& Runtime::instance() {
  // Never destroyed: tensors of static storage duration may outlive every other static.
  static Runtime& runtime = *new Runtime();
  return runtime;
}

Runtime::Runtime()
    : cpu_(std::make_unique<Context>(Device::cpu(), kernels::cpu_module())),
      cuda_(std::make_unique<Library>("libsinter_cuda.so")),
      simt_(std::make_unique<Library>("libsinter_simt.so")),
      pool_(std::make_unique<ThreadPool>(ThreadPool::available_cores())) {
  if (cpu_->backend->entry_count == 0)
    fail(ErrorCode::not_found,
         "sinter's CPU kernels need a processor with AVX2 and FMA (x86-64-v3); this one has neither");
}

Runtime::Library& Runtime::library(DeviceType type) const { return *(type == DeviceType::cuda ? cuda_ : simt_); }

Runtime::Context& Runtime::context(Device device) const {
  if (device.is_cpu()) return *cpu_;
  Library& backend = library(device.type()).load();
  if (backend.backend.module == nullptr || device.index() >= backend.device_count())
    fail(ErrorCode::not_found, "device ", device.str(), " is not usable: ", backend.why_unusable(device),
         "; use --device cpu");
  return backend.open(device);
}

std::string Runtime::why_unusable(Device device) const {
  return device.is_cpu() ? "" : library(device.type()).load().why_unusable(device);
}

int Runtime::device_count(DeviceType type) const {
  return type == DeviceType::cpu ? 1 : library(type).load().device_count();
}

std::string Runtime::device_name(Device device) const {
  return context(device).api().device_name(device.index());
}

const kernels::BackendModule& Runtime::backend(Device device) const { return *context(device).backend; }

const kernels::GemmTuner* Runtime::gemm_tuner(Device device) const {
  if (device.is_cpu()) return nullptr;
  context(device);   // says why where the device is not usable
  return library(device.type()).backend.gemm_tuner;
}

kernels::Stream Runtime::stream(Device device) { return device.is_cpu() ? pool_->stream() : context(device).stream; }

CachingAllocator& Runtime::allocator(Device device) { return *context(device).allocator; }

void* Runtime::allocate(Device device, std::size_t bytes) {
  if (StepRecorder* const recorder = StepRecorder::active(device)) return recorder->allocate(bytes);
  return allocator(device).allocate(bytes);
}

void Runtime::deallocate(Device device, void* memory) {
  if (StepRecorder* const recorder = StepRecorder::active(device)) return recorder->deallocate(memory);
  allocator(device).deallocate(memory);
}

void Runtime::refuse_in_capture(Device device, const char* what) const {
  const StepRecorder* const recorder = StepRecorder::active(device);
  if (recorder != nullptr && recorder->capturing()) recorder->refuse(what);
}

void Runtime::copy(Device to, void* dst, Device from, const void* src, std::size_t bytes) {
  if (bytes == 0) return;
  if (to.is_cpu() && from.is_cpu()) {
    std::memcpy(dst, src, bytes);
    return;
  }
  if (from != to) {
    refuse_in_capture(to, "take memory from elsewhere");
    refuse_in_capture(from, "give memory elsewhere");
  }
  Context &target = context(to), &source = context(from);
  const HostBytes piece{static_cast<const std::byte*>(src), bytes};
  if (from.is_cpu() && StagingBuffer::takes({&piece, 1})) {
    require(target.staging->copy(dst, {&piece, 1}), "copy", to);
  } else if (to == from) {
    require(target.api().copy(to.index(), dst, src, bytes, target.stream), "copy", to);
  } else if (to.is_cpu() || from.is_cpu()) {
    Context& device = to.is_cpu() ? source : target;
    require(device.api().copy(device.device.index(), dst, src, bytes, device.stream), "copy", device.device);
    synchronize(device.device);
  } else {
    copy_between(target, dst, source, src, bytes);
  }
}

std::vector<std::shared_ptr<Storage>> Runtime::upload(Device device, std::span<const HostBytes> pieces) {
  std::vector<std::shared_ptr<Storage>> made;
  refuse_in_capture(device, "take memory from the host");
  if (!device.is_cpu() && Uploader::takes(pieces)) {
    require(context(device).uploader->upload(pieces, &made), "upload", device);
    return made;
  }
  for (const HostBytes piece : pieces) {
    made.push_back(std::make_shared<Storage>(device, piece.size()));
    copy(device, made.back()->data(), Device::cpu(), piece.data(), piece.size());
  }
  return made;
}

/// From one device to another: directly where one backend has both, over the host where not.
void Runtime::copy_between(Context& to, void* dst, Context& from, const void* src, std::size_t bytes) {
  if (to.backend != from.backend) {
    std::vector<std::byte> staged(bytes);
    copy(Device::cpu(), staged.data(), from.device, src, bytes);
    copy(to.device, dst, Device::cpu(), staged.data(), bytes);
    return;
  }
  const kernels::DeviceApi& api = to.api();
  const int target = to.device.index(), source = from.device.index();
  require(api.record_event(source, from.written, from.stream), "copy", from.device);
  require(api.wait_event(target, to.stream, from.written), "copy", to.device);
  require(api.copy(target, dst, src, bytes, to.stream), "copy", to.device);
  // The source's memory may go to another tensor, whose work must come after the copy.
  require(api.record_event(target, to.written, to.stream), "copy", to.device);
  require(api.wait_event(source, from.stream, to.written), "copy", from.device);
}

void Runtime::synchronize(Device device) {
  if (device.is_cpu()) return;
  refuse_in_capture(device, "wait for the device");
  Context& used = context(device);
  used.waits.fetch_add(1, std::memory_order_relaxed);
  require(used.api().synchronize(device.index(), used.stream), "waiting for the device", device);
}

void Runtime::launch_graph(Device device, kernels::Graph graph) {
  Context& used = context(device);
  used.graph_launches.fetch_add(1, std::memory_order_relaxed);
  require(used.api().make_current(device.index()), "launching a step", device);
  require(used.api().launch_graph(device.index(), graph, used.stream), "launching a step", device);
}

RuntimeCounters Runtime::counters(Device device) const {
  const Context& used = context(device);
  return {used.launches.load(std::memory_order_relaxed), used.graph_launches.load(std::memory_order_relaxed),
          used.waits.load(std::memory_order_relaxed)};
}

void Runtime::set_num_threads(int threads) {
  if (threads < 1) fail(ErrorCode::usage, "the number of threads is ", threads, ", it must be at least 1");
  if (threads != pool_->thread_count()) pool_ = std::make_unique<ThreadPool>(threads);
}

int Runtime::num_threads() const { return pool_->thread_count(); }

void Runtime::set_cpu_isa(kernels::CpuIsa isa) {
  const kernels::BackendModule* module = kernels::cpu_module(isa);
  if (module == nullptr) fail(ErrorCode::not_found, "this processor cannot run the ", kernels::name(isa), " kernels");
  cpu_->backend = module;
  cpu_->find_entries();
}

void Runtime::launch(Device device, kernels::KernelId id, std::size_t size, const void* params,
                     kernels::Cost (*cost)(const void*), const char* op) {
  Context& used = context(device);
  const kernels::KernelEntry& row = used.entry(id);
  if (row.params_size != size)
    fail(ErrorCode::internal, kernels::name(id), ": params of ", size, " bytes, not ", row.params_size);
  kernels::Status status = row.supports(params);
  if (status.ok()) {
    const kernels::FlushDenormals flush;
    if (!device.is_cpu()) {
      used.launches.fetch_add(1, std::memory_order_relaxed);
      status = used.api().make_current(device.index());
    }
    if (status.ok()) {
      const kernels::Variant& variant = row.variants[row.select(params)];
      LaunchTrace* const trace = LaunchTrace::active(device);
      if (trace != nullptr) trace->begin(id, variant, cost(params), op);
      status = variant.run(params, stream(device));
      if (trace != nullptr) trace->end();
    }
  }
  if (!status.ok()) fail(error_code(status.code), op, ": ", status.what, " (", device.str(), ")");
}

std::size_t Runtime::workspace(Device device, kernels::KernelId id, const void* params) const {
  const Context& used = context(device);
  if (!device.is_cpu()) require(used.api().make_current(device.index()), "workspace", device);   // plans are a device's
  return used.entry(id).workspace(params);
}

}  // namespace sinter
