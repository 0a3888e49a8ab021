// The part of every rank but 0 of the rendezvous: one connection, to rank 0.
#pragma once

#include <chrono>
#include <cstdint>
#include <optional>
#include <string>

#include "train/ranks/rendezvous.h"
#include "train/ranks/rendezvous_clock.h"
#include "train/ranks/rendezvous_frame.h"
#include "train/ranks/rendezvous_mailbox.h"

namespace sinter::train {

class RendezvousSpoke {
 public:
  /// Tries to become a rank until start_timeout. Error(io) with what the last attempt found that the timeout did not
  /// cut short, Error(usage) for a refusal that is final.
  RendezvousSpoke(const RendezvousOptions& options, RendezvousMailbox& mailbox);
  /// Serves until the mailbox is stopped.
  void run();

 private:
  using Time = RendezvousClock::Time;

  /// Why it failed, or none.
  std::optional<std::string> join(Time deadline);
  void wait_for_events();
  void hear();
  void handle(const Frame& frame);
  void lose_rank_0(const std::string& reason);

  const RendezvousOptions options_;
  RendezvousMailbox& mailbox_;
  RendezvousClock clock_;
  Connection connection_{Socket()};
  Hello rank_0_;
  std::int64_t step_of_rank_0_ = -1;
  std::chrono::nanoseconds silence_{0};
  bool has_last_word_ = false;
};

}  // namespace sinter::train
