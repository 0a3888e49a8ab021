// The ranks that mpirun, srun or torchrun started, as one job: they find each other, train together, and end together.
#pragma once

#include <chrono>
#include <memory>
#include <string>
#include <vector>

#include "core/device.h"
#include "core/process_group.h"
#include "train/launch_environment.h"
#include "train/rendezvous.h"
#include "train/trainer_callback.h"

namespace sinter::train {

/// This process' place among them; a process that nobody launched with others is a world of one. When a rank dies,
/// hangs with all its threads, or ends of an error, every other process ends within `timeout` and 2 seconds with exit
/// code 1, and one line on standard error says which rank that was and in which step. Where a rank lives but does not
/// come to an operation in which others wait, that takes ten times `timeout`.
class World {
 public:
  /// Waits until all ranks are here, for at most `timeout`. On the CPU and on emulated devices they exchange gradients
  /// through MPI. Error(unsupported) for several ranks on CUDA devices; Error(usage) where the launcher gives no MPI, or
  /// MPI counts the ranks otherwise than the environment; Error(not_found) where MPI cannot be used; Errors of
  /// Rendezvous and MpiGroup.
  World(const LaunchEnvironment& environment, Device device, std::chrono::seconds timeout);
  /// Without end() before it the other ranks learn that this one was lost.
  ~World();
  World(const World&) = delete;
  World& operator=(const World&) = delete;

  int rank() const { return group_->rank(); }
  int size() const { return group_->size(); }
  const std::shared_ptr<ProcessGroup>& group() const { return group_; }
  /// Tells the other ranks which step this one is in.
  std::shared_ptr<TrainerCallback> reporter() const;

  /// Before this process ends of an error: the others end too. What this one has to say: `reason` with its rank and
  /// step; "" when another rank's failure came first, which was or will be said there.
  std::string fail(const std::string& reason) noexcept;
  /// At the end of a run that went well, on every rank; returns when all have come here.
  void end();

 private:
  std::unique_ptr<Rendezvous> rendezvous_;   // null in a world of one; behind it the group, which tells it things
  std::shared_ptr<ProcessGroup> group_;
};

/// CPU threads for this rank: the cores that the launcher bound it to; where it bound none, its share of the machine's.
int threads_of_rank(const LaunchEnvironment& environment);

/// Starts mpirun with `ranks` ranks of `arguments` (those of main(), without --nproc), waits for it and gives its exit
/// code; 2 after one sentence where there is no mpirun. A signal to this process stops the ranks at their next step.
int start_ranks(int ranks, const std::vector<std::string>& arguments);

}  // namespace sinter::train
