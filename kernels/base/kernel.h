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

/// Memory and queues of a device. The CPU's are trivial. Sizes in bytes; memory is aligned to 64 bytes or more.
struct DeviceApi {
  int (*device_count)();
  const char* (*why_unavailable)();                                            ///< "" when device_count() > 0
  Status (*allocate)(int device, std::size_t bytes, void** memory);
  void (*deallocate)(int device, void* memory);
  Status (*copy)(int device, void* dst, const void* src, std::size_t bytes, Stream stream);
  Status (*synchronize)(int device, Stream stream);
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

inline constexpr std::uint32_t kBackendAbi = 1;

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
