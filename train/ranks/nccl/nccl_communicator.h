// One rank's part in a communicator of NCCL, and the thread that sees to it that its operations end.
#pragma once

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstddef>
#include <deque>
#include <functional>
#include <mutex>
#include <string>
#include <thread>

#include "core/device.h"
#include "kernels/base/kernel.h"
#include "train/ranks/nccl/nccl_abi.h"

namespace sinter::train {

struct NcclOptions {
  /// How long the ranks may take to connect.
  std::chrono::milliseconds start_timeout{60'000};
  /// How long an operation may go on behind the end of the one before it. Time in which this process did not run does
  /// not count.
  std::chrono::milliseconds timeout{60'000};
  /// Called once with the failure's sentence, in a thread of the communicator's own, when an operation does not end in
  /// time or NCCL reports an error beside it; the communicator is aborted when it returns. It may end the process; it
  /// must neither throw nor destroy the group.
  std::function<void(const std::string& sentence)> on_failure;
};

/// Connected from the constructor to finish(). A failure breaks it, for ever: NCCL aborts what is under way, which ends
/// with any result, so that nobody waits for it any more, and every later call throws the failure as Error(io).
///
/// An operation is watched from its call on: NCCL may wait for the other ranks in the call itself. It leaves a mark
/// behind it in `stream`, one byte that the device copies to the host. What is captured is watched in its call only;
/// the launch of its graph is another operation. NCCL's own errors are seen at any time.
class NcclCommunicator {
 public:
  /// Returns when all ranks have called it, with the same id; `stream` is one of `device`. Error(io): NCCL refuses,
  /// with its words, or some rank did not come in time, whereupon the process should end.
  NcclCommunicator(const nccl::Functions& functions, const nccl::UniqueId& id, int rank, int size, Device device,
                   kernels::Stream stream, NcclOptions options);
  /// Aborts what is under way where finish() did not return.
  ~NcclCommunicator();
  NcclCommunicator(const NcclCommunicator&) = delete;
  NcclCommunicator& operator=(const NcclCommunicator&) = delete;

  enum class Place : bool { stream, capture };
  /// Calls `act`, which puts `operation` ("all_reduce (sum) of 8 elements of f32") into `stream`, captured or not. One
  /// thread at a time. Error(io): it was refused, or the communicator is broken.
  void call(const std::string& operation, Place place, const std::function<nccl::Answer(nccl::Communicator)>& act);
  /// Error(io) where it is broken.
  void check() const;
  /// Frees it; nothing may be under way. Waits for the other ranks, as NCCL pleases.
  void finish();

 private:
  struct Operation {
    std::string name;
    std::size_t mark;
    bool is_marked;   // its call has returned
  };

  nccl::Communicator connect(const nccl::UniqueId& id, int size) const;
  void prepare_marks();
  void make_room();
  bool take_ended();
  void throw_if_broken() const;
  std::string failed_in_nccl(const std::string& operation, nccl::Answer answer, nccl::Communicator of) const;
  void watch(const std::stop_token& stop);
  std::string reported_error() const;
  bool find_failure(const std::string& reported);
  void stop_watching();

  const nccl::Functions& functions_;
  const int rank_;
  const Device device_;
  const kernels::DeviceApi& api_;
  const kernels::Stream stream_;
  const NcclOptions options_;
  nccl::Communicator communicator_ = nullptr;
  void* one_ = nullptr;                     // a byte of the device
  void* marks_ = nullptr;                   // kMarks bytes of the host, taken in turn

  mutable std::mutex mutex_;                // for all below
  std::condition_variable_any changed_;
  std::string broken_;                      // why, or ""
  std::deque<Operation> under_way_;
  std::size_t marked_ = 0;                  // marks taken so far
  bool is_calling_ = false;                 // NCCL, in call()
  std::chrono::nanoseconds waited_{0};      // for the first that is under way
  std::jthread watcher_;                    // behind what it uses
};

/// What all ranks of a new communicator get from one of them. Error(io) with NCCL's words.
nccl::UniqueId make_unique_id(const nccl::Functions& functions);

}  // namespace sinter::train
