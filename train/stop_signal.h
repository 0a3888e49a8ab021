// SIGINT, SIGTERM, SIGHUP and SIGUSR1 (which mpirun hands on, and Slurm sends ahead of a time limit) end a run at the
// next step boundary, or in an evaluation, with a checkpoint.
#pragma once

namespace sinter::train {

/// While one lives, the first of these signals is only noted, and said on standard error; a second one ends the process
/// at once. A signal that is ignored (nohup's SIGHUP) stays so. The handlers that were there before come back at the
/// end. Where several live in a process, for ranks that are its threads, they count as one.
class StopSignal {
 public:
  StopSignal();
  ~StopSignal();
  StopSignal(const StopSignal&) = delete;
  StopSignal& operator=(const StopSignal&) = delete;

  /// Number of the signal that came, or 0.
  static int received();
};

}  // namespace sinter::train
