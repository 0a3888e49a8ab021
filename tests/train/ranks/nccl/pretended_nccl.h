// What stands in for NCCL in tests: it computes between threads of this process, in the streams of the emulated
// devices.
#pragma once

#include <atomic>
#include <cstdint>

namespace sinter::train::testing {

/// What goes wrong in the pretended library, and what was asked of it, in the whole process.
struct PretendedNccl {
  std::atomic<const char*> fails{""};     ///< the function, without "nccl", that answers with an error
  std::atomic<bool> reports_error{false};   ///< CommGetAsyncError has something to tell
  std::atomic<int> destroyed{0}, aborted{0};   ///< communicators
  std::atomic<int> operations{0}, ended{0};   ///< that were called, and whose turn in their stream has come
  /// Kernels that device 0 had launched when the first operation since the test wrote 0 here had its turn there, and
  /// the last.
  std::atomic<std::uint64_t> launched_before_first{0}, launched_before_last{0};
  std::atomic<int> misused{0};            ///< calls of freed communicators, and in streams of other devices
};

/// Exported by the library as "pretended_nccl". Functions of NCCL's interface stand beside it.
using PretendedNcclFunction = PretendedNccl* (*)();

}  // namespace sinter::train::testing
