#include "core/runtime/runtime.h"

#include "core/error.h"

namespace sinter {
namespace {

ErrorCode error_code(kernels::StatusCode code) {
  switch (code) {
    case kernels::StatusCode::unsupported: return ErrorCode::unsupported;
    case kernels::StatusCode::out_of_memory: return ErrorCode::out_of_memory;
    case kernels::StatusCode::device_error: return ErrorCode::device;
    default: return ErrorCode::usage;
  }
}

}  // namespace

Runtime& Runtime::instance() {
  // Never destroyed: tensors of static storage duration may outlive every other static.
  static Runtime& runtime = *new Runtime();
  return runtime;
}

Runtime::Runtime() : cpu_(&kernels::cpu_module()) {
  if (cpu_->entry_count == 0)
    fail(ErrorCode::not_found,
         "sinter's CPU kernels need a processor with AVX2 and FMA (x86-64-v3); this one has neither");
  set_cpu_isa(kernels::cpu_has(kernels::CpuIsa::avx512) ? kernels::CpuIsa::avx512 : kernels::CpuIsa::avx2);
  cpu_allocator_ = std::make_unique<CachingAllocator>(*cpu_->device, 0);
  pool_ = std::make_unique<ThreadPool>(ThreadPool::available_cores());
}

const kernels::BackendModule& Runtime::backend(Device device) const {
  if (device.is_cpu()) return *cpu_;
  fail(ErrorCode::not_found, "device ", device.str(), " is not usable: this build of sinter has no ",
       device.type() == DeviceType::cuda ? "CUDA" : "simt", " backend; use --device cpu");
}

kernels::Stream Runtime::stream(Device device) {
  backend(device);
  return pool_->stream();
}

CachingAllocator& Runtime::allocator(Device device) {
  backend(device);
  return *cpu_allocator_;
}

void Runtime::set_num_threads(int threads) {
  if (threads < 1) fail(ErrorCode::usage, "the number of threads is ", threads, ", it must be at least 1");
  if (threads != pool_->thread_count()) pool_ = std::make_unique<ThreadPool>(threads);
}

int Runtime::num_threads() const { return pool_->thread_count(); }

void Runtime::set_cpu_isa(kernels::CpuIsa isa) {
  const kernels::BackendModule* module = kernels::cpu_module(isa);
  if (module == nullptr) fail(ErrorCode::not_found, "this processor cannot run the ", kernels::name(isa), " kernels");
  cpu_ = module;
  for (int id = 0; id < kernels::kKernelCount; ++id)
    cpu_entries_[id] = kernels::find(*module, static_cast<kernels::KernelId>(id));
}

const kernels::KernelEntry& Runtime::entry(Device device, kernels::KernelId id) const {
  const kernels::KernelEntry* entry = nullptr;
  if (device.is_cpu()) {
    entry = cpu_entries_[static_cast<int>(id)];
  } else {
    entry = kernels::find(backend(device), id);
  }
  if (entry == nullptr) fail(ErrorCode::unsupported, "kernel ", kernels::name(id), " does not exist on ", device.str());
  return *entry;
}

void Runtime::launch(Device device, kernels::KernelId id, std::size_t size, const void* params, const char* op) {
  const kernels::KernelEntry& row = entry(device, id);
  if (row.params_size != size)
    fail(ErrorCode::internal, kernels::name(id), ": params of ", size, " bytes, not ", row.params_size);
  kernels::Status status = row.supports(params);
  if (status.ok()) {
    const kernels::FlushDenormals flush;
    status = row.variants[row.select(params)].run(params, stream(device));
  }
  if (!status.ok()) fail(error_code(status.code), op, ": ", status.what, " (", device.str(), ")");
}

std::size_t Runtime::workspace(Device device, kernels::KernelId id, const void* params) const {
  return entry(device, id).workspace(params);
}

}  // namespace sinter
