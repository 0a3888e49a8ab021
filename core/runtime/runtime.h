// The process's devices: backends, threads, memory. The only global state of sinter.
#pragma once

#include <cstddef>
#include <memory>

#include "core/device.h"
#include "core/runtime/allocator.h"
#include "core/runtime/thread_pool.h"
#include "kernels/base/kernel.h"

namespace sinter {

class Runtime {
 public:
  static Runtime& instance();

  /// The backend that runs kernels of `device`; Error(not_found) says why where the device is not usable.
  const kernels::BackendModule& backend(Device device) const;
  kernels::Stream stream(Device device);
  CachingAllocator& allocator(Device device);

  /// Threads of CPU kernels, at least 1. Not while kernels run. Results do not depend on it.
  void set_num_threads(int threads);
  int num_threads() const;

  /// Uses one instruction set of the CPU backend from now on (tests and comparisons; the default is the best).
  /// Error(not_found) where this machine lacks it.
  void set_cpu_isa(kernels::CpuIsa isa);

  /// Runs a kernel on `device`, or throws: `op` and the kernel's own sentence.
  template <class P>
  void launch(Device device, const P& params, const char* op) {
    launch(device, P::id, sizeof(P), &params, op);
  }
  /// Bytes that the kernel wants in params.workspace.
  template <class P>
  std::size_t workspace(Device device, const P& params) const {
    return workspace(device, P::id, &params);
  }

 private:
  Runtime();
  void launch(Device device, kernels::KernelId id, std::size_t size, const void* params, const char* op);
  std::size_t workspace(Device device, kernels::KernelId id, const void* params) const;
  const kernels::KernelEntry& entry(Device device, kernels::KernelId id) const;

  const kernels::BackendModule* cpu_;
  const kernels::KernelEntry* cpu_entries_[kernels::kKernelCount] = {};
  std::unique_ptr<CachingAllocator> cpu_allocator_;
  std::unique_ptr<ThreadPool> pool_;
};

}  // namespace sinter
