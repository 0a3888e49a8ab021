// SIGINT and SIGTERM end a run at the next step boundary, with a checkpoint.
#pragma once

namespace sinter::train {

/// While one lives, the first SIGINT or SIGTERM is only noted; a second one ends the process at once. The handlers that
/// were there before come back at the end. One at a time in a process.
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
