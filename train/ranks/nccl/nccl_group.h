// Ranks that are processes with a GPU each: ProcessGroup over NCCL.
#pragma once

#include <memory>
#include <span>

#include "core/process_group.h"
#include "core/tensor.h"
#include "train/ranks/nccl/nccl_communicator.h"

namespace sinter::train {

/// The host does not wait. Operations run in a stream of the group's own, behind all that was in the Runtime's stream
/// of the device when they were called; what comes into that stream behind the call (behind Work::wait(), of those
/// named ..._async) runs behind them. barrier(), and all_reduce_sums(), whose numbers are the host's, do wait for their
/// end.
///
/// While the Runtime's stream is captured, the group's joins it: operations become a branch of the graph, which
/// computations of the step run beside. Every rank must then capture the same, launch it as often and in the same order
/// with all else, and have waited for its Works before. Who launches one through the group has it watched like an
/// operation. Such graphs must be gone before the group is. barrier() and
/// all_reduce_sums() are Error(unsupported) there.
///
/// Differs from the contract of ProcessGroup in this:
///  - Sums of tensors are added in an order of NCCL's, which keeps denormals: they are equal on all ranks, repeatable
///    on the same machines with the same settings of NCCL, and for two ranks those of the contract but for denormals.
///    Those of all_reduce_sums() are added in the order of the ranks, as everywhere.
///  - The calls of the ranks are not compared, which would cost a message each. Ranks that disagree hang until
///    NcclOptions::timeout, or compute what nobody wants.
///  - Empty operations do nothing at all.
///
/// A maximum of floats costs two reductions and a copy of the operand: NCCL's own loses a NaN wherever another rank has
/// a number, so a sum tells where some rank has one.
///
/// Error(io) when NCCL fails, with its words, or when an operation does not end in time. The group is then broken: what
/// is under way has ended, with any result, every later operation throws the same sentence, and the process should end.
class NcclGroup final : public ProcessGroup {
 public:
  /// Returns when all ranks are here, with the same id (make_unique_id() on one of them). `device` is a CUDA device
  /// that no other rank has. Errors of NcclCommunicator; Error(not_found): the device is not usable.
  NcclGroup(const nccl::Functions& functions, const nccl::UniqueId& id, int rank, int size, Device device,
            NcclOptions options = {});
  /// finish(), unless an exception is under way or the group is broken: the others must not wait for this rank then,
  /// and NCCL aborts.
  ~NcclGroup() override;

  int rank() const override { return rank_; }
  int size() const override { return size_; }
  Device device() const override { return device_; }
  bool can_be_captured() const override { return true; }
  void launch(const StepGraph& step) override;

  /// Returns when all ranks have come here; no operation can follow.
  void finish();
  /// Waits for no other rank: NCCL aborts what is under way. No operation can follow, and on_failure is not called any
  /// more.
  void abandon();

 private:
  class Lane;
  class UnderWay;
  struct Nans;

  void run(const Collective& call) override;
  std::unique_ptr<Work> begin(const Collective& call) override;
  void run_on_host(const Collective& call);
  void add_host_numbers(const Collective& call);
  Nans find_nans(const Collective& call) const;
  void put_nans(const Collective& call, const Nans& nans) const;
  void enqueue(const Collective& call);
  void check_usable(const Collective& call) const;

  const nccl::Functions& nccl_;
  const int rank_, size_;
  const Device device_;
  const int exceptions_;                             // under way when it was made
  std::unique_ptr<Lane> lane_;
  std::unique_ptr<NcclCommunicator> communicator_;   // null once it has finished; uses the lane
};

}  // namespace sinter::train
