// The ranks that mpirun, srun or torchrun started, as one job: they find each other, train together, and end together.
#pragma once

#include <chrono>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "core/device.h"
#include "core/process_group.h"
#include "train/ranks/launch_environment.h"
#include "train/ranks/nccl/nccl_group.h"
#include "train/ranks/nccl/nccl_library.h"
#include "train/ranks/rendezvous.h"
#include "train/trainer_callback.h"

namespace sinter::train {

/// This process' place among them; a process that nobody launched with others is a world of one. When a rank dies,
/// hangs with all its threads, or ends of an error, every other process ends within `timeout` and 2 seconds with exit
/// code 1, and one line on standard error says which rank that was and in which step. Where a rank lives but hangs
/// before or in an operation in which others wait, that takes ten times `timeout`.
class World {
 public:
  /// Waits until all ranks are here, for at most `timeout`. On the CPU and on emulated devices they exchange gradients
  /// through MPI, on CUDA devices (device_of_rank()) through NCCL. Error(usage) where the launcher gives no MPI, or MPI
  /// counts the ranks otherwise than the environment; Error(not_found) where MPI or NCCL cannot be used; Errors of
  /// Rendezvous, MpiGroup and NcclGroup.
  World(const LaunchEnvironment& environment, Device device, std::chrono::seconds timeout);
  /// Through this NCCL, whatever the device: for tests on emulated ones.
  World(const LaunchEnvironment& environment, Device device, std::chrono::seconds timeout, const NcclLibrary& nccl);
  /// Without end() before it the other ranks learn that this one was lost.
  ~World();
  World(const World&) = delete;
  World& operator=(const World&) = delete;

  int rank() const { return group_->rank(); }
  int size() const { return group_->size(); }
  const std::shared_ptr<ProcessGroup>& group() const { return group_; }
  /// Tells the other ranks which step this one is in.
  std::shared_ptr<TrainerCallback> reporter() const;

  /// The job of this rank, as the body of main(): its exit code when all ranks have come to its end. Where it throws,
  /// the others end too, and of several ranks this process ends here, after "<program>: <sentence>" on standard error
  /// with its rank and step; a world of one throws.
  int run(const char* program, const std::function<int()>& body);
  /// Before this process ends of an error: the others end too. What this one has to say: `reason` with its rank and
  /// step; "" when another rank's failure came first, which was or will be said there.
  std::string fail(const std::string& reason) noexcept;
  /// At the end of a run that went well, on every rank; returns when all have come here.
  void end();

 private:
  void meet(const LaunchEnvironment& environment, std::chrono::seconds timeout);
  void connect(const LaunchEnvironment& environment, Device device, std::chrono::seconds timeout,
               const NcclLibrary& nccl);

  std::unique_ptr<Rendezvous> rendezvous_;   // null in a world of one; behind it the groups, which tell it things
  std::shared_ptr<ProcessGroup> group_;
  std::shared_ptr<NcclGroup> nccl_;          // the same, where it is one
};

/// The device of this rank where `device` is what was chosen for all: of CUDA devices the one that device_index() says,
/// where there are several ranks; `by_number`: it was chosen as cuda:N, which is Error(usage) unless that is the
/// rank's. `gpus` are those that this process sees.
Device device_of_rank(const LaunchEnvironment& environment, Device device, bool by_number, int gpus);

/// CPU threads for this rank: the cores that the launcher bound it to; where it bound none, its share of the machine's.
int threads_of_rank(const LaunchEnvironment& environment);

/// Starts mpirun with `ranks` ranks of `arguments` (those of main(), without --nproc), waits for it and gives its exit
/// code; 2 after one sentence where there is no mpirun. A signal to this process stops the ranks at their next step.
/// Error(not_found) where ranks on `device` cannot be connected.
int start_ranks(int ranks, const std::vector<std::string>& arguments, Device device);

}  // namespace sinter::train
