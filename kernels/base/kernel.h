// The table of a backend: which kernels it has, how each is run, and what it says about itself.
#pragma once

#include <cstddef>
#include <cstdint>

#include "kernels/base/status.h"
#include "kernels/base/stream.h"

namespace sinter::kernels {

/// One id for each params struct (`P::id`). A backend's table may have one row an id.
enum class KernelId : std::uint16_t {
  copy, fill,
  unary, binary, where,
  reduce, arg_reduce,
  index_select, index_add, gather, scatter_add,
  gemm,
  softmax, softmax_backward,
  layer_norm, layer_norm_backward,
  bias_dropout_residual_layer_norm, bias_dropout_residual_layer_norm_backward,
  bias_gelu, bias_gelu_backward,
  dropout,
  embedding_layer_norm, embedding_layer_norm_backward,
  attention, attention_backward,
  cross_entropy, cross_entropy_backward,
  squared_norm, adamw,
  accumulate_loss, prepare_update,
  mark_rows, zero_rows, catch_up_rows,
  count_
};

inline constexpr int kKernelCount = static_cast<int>(KernelId::count_);

/// "layer_norm_backward" for KernelId::layer_norm_backward.
const char* name(KernelId id);

/// One way to compute a kernel. The better ones stand later; all compute the same contract.
struct Variant {
  const char* name;
  const char* idea;     ///< one line: what it does differently
  const char* outcome;  ///< one line: what was measured, and when it is selected
  Status (*run)(const void* params, Stream stream);
  bool gpu_only = false;
};

/// One row of a backend's table. Functions take a pointer to the params struct that `id` names.
struct KernelEntry {
  KernelId id;
  std::size_t params_size;
  const Variant* variants;
  int variant_count;
  int (*select)(const void* params);               ///< index of the variant that runs; total over supported params
  Status (*supports)(const void* params);          ///< ok, or the rule that these params break on this backend
  std::size_t (*workspace)(const void* params);    ///< bytes that params.workspace must offer, 64-byte aligned
};

/// Memory, queues, points in queues and graphs of a backend's devices. Sizes in bytes. `device` is in
/// [0, device_count()); what one device made (memory, streams, events, graphs) belongs to it. A function that answers a
/// Status and fails gives no result: out_of_memory, or device_error with the device's own words, which may stem from
/// earlier work of the stream.
///
/// The CPU's are trivial: one device, streams all of whose work has ended when the call returns, events without state
/// but for a time, no graphs.
struct DeviceApi {
  /// 0 where no device can be used; why_unavailable() then says why in half a sentence ("there is no NVIDIA driver").
  int (*device_count)();
  const char* (*why_unavailable)();                                            ///< "" when device_count() > 0
  const char* (*device_name)(int device);                                      ///< "NVIDIA H200"
  /// What this host thread launches from now on goes to streams of `device`; at first to device 0's. It is cheap.
  Status (*make_current)(int device);

  /// True where `allocate` costs little, so that every tensor may be a piece of memory of its own, whose ends and first
  /// writes the device checks.
  bool (*cheap_allocation)();
  /// Device memory, aligned to 64 bytes or more, of undefined content. May be slow and wait for the device: core caches
  /// it.
  Status (*allocate)(int device, std::size_t bytes, void** memory);
  /// Null is allowed. Waits for the work of the device's streams, which may still use the memory, as cudaFree does.
  void (*deallocate)(int device, void* memory);
  /// Host memory that `copy` moves without staging and in parallel with the host. Kernels must not touch it.
  Status (*allocate_host)(int device, std::size_t bytes, void** memory);
  void (*deallocate_host)(int device, void* memory);                           ///< waits too

  /// Puts a copy into the stream: from and to the host, inside a device, or between devices of this backend. The ranges
  /// must not overlap and must stay as they are until the stream has passed it, pageable host memory included.
  Status (*copy)(int device, void* dst, const void* src, std::size_t bytes, Stream stream);
  /// Puts a fill of device memory with one byte value into the stream.
  Status (*fill)(int device, void* dst, int byte, std::size_t bytes, Stream stream);

  /// A queue whose work is ordered in itself only, not after that of the null stream.
  Status (*create_stream)(int device, Stream* stream);
  /// Waits for its work, and throws away what the calling thread captures of it. Null is allowed.
  void (*destroy_stream)(int device, Stream stream);

  Status (*create_event)(int device, Event* event);
  void (*destroy_event)(int device, Event event);                              ///< null is allowed
  /// The event stands from now on for the end of all work that is in the stream. May be repeated.
  Status (*record_event)(int device, Event event, Stream stream);
  /// What is put into the stream later begins after the event's last recording, or at once where there is none. The
  /// event may be another device's of this backend. The host does not wait.
  Status (*wait_event)(int device, Stream stream, Event event);
  Status (*synchronize_event)(int device, Event event);                        ///< the host waits

  /// An event that keeps the time at which the stream passes it; for record_time() and elapsed(), and nothing else.
  Status (*create_timed_event)(int device, Event* event);
  /// Unlike record_event() it may be captured: then every launch of the graph keeps the time anew.
  Status (*record_time)(int device, Event event, Stream stream);
  /// From the time that one event of this device keeps to that of another; the stream must have passed both.
  Status (*elapsed)(int device, Event from, Event to, double* microseconds);

  Status (*synchronize)(int device, Stream stream);                            ///< the host waits for all of the stream

  /// What is put into the stream from here on is kept and not run, with its addresses and arguments as they are now:
  /// kernels, fills, and copies between device memories. Kernels must have run once before with the same shapes, since
  /// libraries make handles and plans at their first call. Until the capture ends these calls answer `unsupported`, do
  /// nothing, and break the capture:
  ///   in the stream, by any thread: copies from or to the host, events but those of branches (captures.h), launching
  ///   graphs, waiting for the stream; by the capturing thread, whatever the stream: allocate, allocate_host,
  ///   synchronize, synchronize_event.
  /// Other threads may use other streams meanwhile, copies and events included. What deallocate, deallocate_host,
  /// destroy_stream and destroy_graph give back may stay until the device's captures, and the thread's, have ended.
  /// Status unsupported where the backend has no graphs, invalid_argument for the null stream and for one that is
  /// captured already.
  Status (*begin_capture)(int device, Stream stream);
  /// Ends it, by the thread that began it (else invalid_argument); the stream takes work again, whatever the answer is.
  /// Fails and makes no graph when the capture was broken (unsupported, with the first reason) or the device refuses
  /// the graph. A null `graph` throws the capture away, which a caller does after any other error.
  Status (*end_capture)(int device, Stream stream, Graph* graph);
  /// Puts all of the graph's work into the stream, in order. The memory that it uses must still be there, and is read
  /// and written as it is when the work runs. invalid_argument for null.
  Status (*launch_graph)(int device, Graph graph, Stream stream);
  void (*destroy_graph)(int device, Graph graph);                              ///< waits for its work; null is allowed
};

/// What a backend library exports: `extern "C" const BackendModule* sinter_backend_module()`.
struct BackendModule {
  std::uint32_t abi;
  const char* name;            ///< "cpu", "cuda", "simt", "ref"
  const char* description;     ///< instruction set, library versions
  const KernelEntry* entries;
  std::size_t entry_count;
  const DeviceApi* device;
};

inline constexpr std::uint32_t kBackendAbi = 4;

/// The row of `id`, or null where the backend has no such kernel.
const KernelEntry* find(const BackendModule& module, KernelId id);

/// Runs the selected variant (or the given one) after asking `supports`.
/// Denormals are flushed to zero on the calling thread meanwhile.
Status run(const BackendModule& module, KernelId id, std::size_t params_size, const void* params, Stream stream,
           int variant = -1);

template <class P>
Status run(const BackendModule& module, const P& params, Stream stream = {}, int variant = -1) {
  return run(module, P::id, sizeof(P), &params, stream, variant);
}

/// The CPU backend, for the best instruction set that this machine has.
const BackendModule& cpu_module();

/// Instruction sets that the CPU backend is built for, best last.
enum class CpuIsa : std::uint8_t { avx2, avx512 };
const char* name(CpuIsa isa);
/// True when this machine can run `isa`.
bool cpu_has(CpuIsa isa);
/// The CPU backend for one instruction set; null where this machine cannot run it.
const BackendModule* cpu_module(CpuIsa isa);

/// Naive loops with fp64 accumulation, every floating dtype: the oracle of the tests. Ignores the stream's threads.
const BackendModule& ref_module();

/// Sets flush-to-zero and denormals-are-zero on the calling thread for the guard's lifetime. Every thread that computes
/// must hold one: stuck moments of 1e-45 make AdamW several times slower otherwise, and a missed thread changes bits.
class FlushDenormals {
 public:
  FlushDenormals();
  ~FlushDenormals();
  FlushDenormals(const FlushDenormals&) = delete;
  FlushDenormals& operator=(const FlushDenormals&) = delete;

 private:
  unsigned saved_;
};

}  // namespace sinter::kernels
