// When a rank of the rendezvous sends a heartbeat, and how long another has been silent.
#pragma once

#include <chrono>
#include <string>

namespace sinter::train {

/// Ticks once in every round of the rendezvous' thread. Time in which this process did not run (it was stopped, or the
/// machine was busy) counts as two heartbeats at most, so that nobody is blamed for it.
class RendezvousClock {
 public:
  using Time = std::chrono::steady_clock::time_point;
  /// Heartbeats are five in `lost_timeout`, and one a second at least.
  explicit RendezvousClock(std::chrono::milliseconds lost_timeout);

  Time now() const { return now_; }   ///< of the last tick
  /// The time since the last tick that counts as silence of the others.
  std::chrono::nanoseconds tick();
  /// Whether a heartbeat is to be sent in this round.
  bool beats();
  /// Milliseconds until the next heartbeat or `deadline`, for poll().
  int wait(Time deadline = Time::max()) const;

 private:
  const std::chrono::nanoseconds period_;
  Time now_ = std::chrono::steady_clock::now();
  Time next_beat_ = now_;
};

/// "1.5 s".
std::string in_seconds(std::chrono::milliseconds time);

}  // namespace sinter::train
