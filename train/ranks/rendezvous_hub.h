// Rank 0's part of the rendezvous: all ranks are connected to it.
#pragma once

#include <chrono>
#include <cstdint>
#include <list>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "train/ranks/rendezvous.h"
#include "train/ranks/rendezvous_clock.h"
#include "train/ranks/rendezvous_frame.h"
#include "train/ranks/rendezvous_mailbox.h"
#include "train/ranks/rendezvous_socket.h"

namespace sinter::train {

/// Frames that rank 0's own program posts are handled as those of any rank, and what goes to all goes to its mailbox
/// too. After its last word (a failure, the farewell, or why nothing starts) it only waits until the others have seen
/// it, at most 2 s, before rank 0 itself learns of it and may end.
class RendezvousHub {
 public:
  /// Listens.
  RendezvousHub(const RendezvousOptions& options, RendezvousMailbox& mailbox);
  /// Serves until the mailbox is stopped.
  void run();

 private:
  using Time = RendezvousClock::Time;
  struct Rank {
    Rank(Connection c, Hello h) : connection(std::move(c)), hello(std::move(h)) {}
    Connection connection;   // closed for rank 0 itself
    Hello hello;
    std::int64_t step = -1;
    std::chrono::nanoseconds silence{0};
    OperationProgress progress;
    std::chrono::nanoseconds stays{0};   // since it came to an operation or left one
    std::chrono::nanoseconds still{0};   // since it did that or looked
    std::optional<int> flag;
    bool said_goodbye = false;
    bool knows_last_word = false;
  };
  struct Newcomer {   // has not said yet who it is, or was refused and has not gone yet
    Connection connection;
    std::string from;
    Time until;
    bool was_refused = false;
  };

  void wait_for_events();
  void accept_newcomers();
  void hear_newcomers();
  void judge(Newcomer& newcomer, const Frame& frame);
  void refuse(Newcomer& newcomer, const Refusal& refusal);
  void start_when_complete();

  void count_time(std::chrono::nanoseconds elapsed);
  void hear_ranks();
  void hear(int rank);
  void handle(int rank, const Frame& frame);
  void note_progress(int rank, const OperationProgress& progress);
  void miss_ranks();
  void collect_flags();
  void lose(int rank, const std::string& reason);
  void to_all(const Frame& frame);
  void say_last(Frame frame);
  void finish_last_word();
  std::string who_is_missing() const;

  const RendezvousOptions options_;
  RendezvousMailbox& mailbox_;
  Socket listener_;
  RendezvousClock clock_;
  const Time start_deadline_;
  std::vector<std::unique_ptr<Rank>> ranks_;   // null: not here yet
  std::list<Newcomer> newcomers_;
  std::set<std::string> refusals_;   // that were logged
  std::string last_refused_;
  bool has_started_ = false;
  std::optional<Frame> last_word_;
  Time last_word_deadline_{};
  bool last_word_is_out_ = false;   // rank 0 has it too
};

}  // namespace sinter::train
