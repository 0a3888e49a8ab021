// Which rank this process is, from what torchrun, mpirun or srun left in its environment.
#pragma once

#include <cstdlib>
#include <functional>
#include <string>

namespace sinter::train {

/// A process that no launcher started is rank 0 of 1: the defaults.
struct LaunchEnvironment {
  int rank = 0;
  int world_size = 1;
  int local_rank = 0;         ///< among the ranks on this node; -1: the environment does not say
  int local_world_size = 1;   ///< ranks on this node; -1: the environment does not say
  std::string master_address = "127.0.0.1";   ///< host name or address of rank 0's node, IPv4 or IPv6
  /// Of MASTER_ADDR and MASTER_PORT; torchrun itself may listen there. Where mpirun and srun give none it is an even
  /// number from 15000 to 29998 that follows from job_id, so that two jobs on a node rarely meet. 0: a process alone.
  int master_port = 0;
  std::string launcher;       ///< "torchrun" (also for RANK that was set by hand), "mpirun", "srun"; "": none
  std::string job_id;         ///< the same on all ranks of a job, different in another; may be ""

  /// Where our own rendezvous (train/ranks/rendezvous.h) listens on rank 0's node: master_port + 1, or 65534 beside
  /// 65535.
  int rendezvous_port() const { return master_port == 65535 ? 65534 : master_port + 1; }
};

/// As std::getenv: null for a variable that is not set. An empty one counts as not set.
using GetEnv = std::function<const char*(const char* name)>;

/// Reads, and the first that is there wins:
///
/// torchrun   RANK, WORLD_SIZE, LOCAL_RANK, LOCAL_WORLD_SIZE, MASTER_ADDR, MASTER_PORT, TORCHELASTIC_RUN_ID. Address
///            and port may be missing for one rank. Without LOCAL_* they follow from RANK where MASTER_ADDR is this
///            machine (localhost, 127.x.x.x, ::1), and are -1 elsewhere.
/// mpirun     Open MPI's OMPI_COMM_WORLD_RANK, _SIZE, _LOCAL_RANK, _LOCAL_SIZE, and PMIX_NAMESPACE for the job. On
///            several nodes MASTER_ADDR must be set, for it says nowhere where rank 0 is.
/// srun       SLURM_PROCID and SLURM_LOCALID, of the step SLURM_STEP_NUM_TASKS, SLURM_STEP_TASKS_PER_NODE and
///            SLURM_STEP_NODELIST, else of the job SLURM_NTASKS, SLURM_TASKS_PER_NODE or SLURM_NTASKS_PER_NODE, and
///            SLURM_JOB_NODELIST, whose first host is rank 0's. Only in a step that srun made (SLURM_STEP_ID): the
///            shell of salloc, a batch script and Slurm's interactive step run one process, though Slurm gives them
///            SLURM_PROCID and SLURM_NTASKS.
///
/// MASTER_ADDR and MASTER_PORT are honoured for all. Error(usage) for values that are no numbers or out of range, that
/// miss beside others, or that contradict each other, and for an mpirun that is not Open MPI's: every rank would
/// believe to be alone.
LaunchEnvironment from_environment(const GetEnv& get = [](const char* name) { return std::getenv(name); });

/// Which of the `gpus` devices (at least 1) that this process sees is its own: local_rank, or 0 where it sees only one,
/// as under a launcher that shows every rank another. Error(usage) where local_rank is not known, or has no device.
int device_index(const LaunchEnvironment& environment, int gpus);

}  // namespace sinter::train
