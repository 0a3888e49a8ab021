// The process's devices: backends, threads, memory, streams. The only global state of sinter.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "core/device.h"
#include "core/runtime/allocator.h"
#include "core/runtime/staging.h"
#include "core/runtime/thread_pool.h"
#include "core/storage.h"
#include "kernels/base/kernel.h"
#include "kernels/gemm_table.h"

namespace sinter {

/// What the host asked of a device.
struct RuntimeCounters {
  std::uint64_t launches = 0;        ///< of kernels, one by one
  std::uint64_t graph_launches = 0;
  std::uint64_t waits = 0;           ///< times that the host waited for all that was in the stream
};

/// The CPU is always there. The backend of another device is loaded when that is first asked for (libsinter_cuda.so,
/// libsinter_simt.so beside the program); a device gets its allocator and its stream at first use. Everything that core
/// computes on a device goes into that one stream, in the order of the calls.
class Runtime {
 public:
  static Runtime& instance();

  /// "" where `device` can be used; otherwise why not, in half a sentence: "there is no NVIDIA driver".
  std::string why_unusable(Device device) const;
  /// Devices of this type that can be used; 1 for the CPU.
  int device_count(DeviceType type) const;
  /// The device's own name: "NVIDIA H200". Error(not_found) as backend().
  std::string device_name(Device device) const;

  /// The backend that runs kernels of `device`; Error(not_found) says why where the device is not usable.
  const kernels::BackendModule& backend(Device device) const;
  /// The tables of tuned products of `device`'s backend; null where it has none to choose from.
  const kernels::GemmTuner* gemm_tuner(Device device) const;
  kernels::Stream stream(Device device);
  CachingAllocator& allocator(Device device);
  /// Memory for a tensor, from the device's allocator; where the calling thread captures a step, from its arena.
  void* allocate(Device device, std::size_t bytes);
  void deallocate(Device device, void* memory);

  /// Copies bytes from memory of one device to memory of another (or the same), after all work that was launched on
  /// either. Host memory may be changed as soon as the call returns, and holds the bytes then.
  void copy(Device to, void* dst, Device from, const void* src, std::size_t bytes);
  /// Memory of `device` that holds these bytes for all that is launched there from now on, a storage for each piece.
  /// Host memory may be changed as soon as the call returns. Up to 256 KiB in all go over in one transfer, beside what
  /// the device computes, and the host does not wait.
  std::vector<std::shared_ptr<Storage>> upload(Device device, std::span<const HostBytes> pieces);
  /// Waits until everything that was launched on `device` has ended. Error(device) with the device's words where a
  /// kernel failed.
  void synchronize(Device device);
  /// Puts a recorded step into the device's stream (core/runtime/step_arena.h).
  void launch_graph(Device device, kernels::Graph graph);
  /// Of a device that is not the CPU, since it was first used.
  RuntimeCounters counters(Device device) const;

  /// Threads of CPU kernels, at least 1. Not while kernels run. Results do not depend on it.
  void set_num_threads(int threads);
  int num_threads() const;

  /// Uses one instruction set of the CPU backend from now on (tests and comparisons; the default is the best).
  /// Error(not_found) where this machine lacks it.
  void set_cpu_isa(kernels::CpuIsa isa);

  /// Runs a kernel on `device`, or throws: `op` and the kernel's own sentence. On devices other than the CPU it has
  /// been put into the stream when the call returns; what it does wrong later is told by a later call.
  template <class P>
  void launch(Device device, const P& params, const char* op) {
    launch(device, P::id, sizeof(P), &params, &cost_of<P>, op);
  }
  /// Bytes that the kernel wants in params.workspace.
  template <class P>
  std::size_t workspace(Device device, const P& params) const {
    return workspace(device, P::id, &params);
  }

 private:
  struct Context;   // one device in use
  struct Library;   // the backend of one device type
  Runtime();
  template <class P>
  static kernels::Cost cost_of(const void* params) {
    return cost(*static_cast<const P*>(params));
  }
  void launch(Device device, kernels::KernelId id, std::size_t size, const void* params,
              kernels::Cost (*cost)(const void*), const char* op);
  std::size_t workspace(Device device, kernels::KernelId id, const void* params) const;
  Context& context(Device device) const;
  Library& library(DeviceType type) const;
  void refuse_in_capture(Device device, const char* what) const;
  void copy_between(Context& to, void* dst, Context& from, const void* src, std::size_t bytes);

  std::unique_ptr<Context> cpu_;
  std::unique_ptr<Library> cuda_, simt_;
  std::unique_ptr<ThreadPool> pool_;
};

}  // namespace sinter
