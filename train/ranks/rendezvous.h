// A small TCP rendezvous of our own between the ranks of a job: it ships bytes such as the NCCL id, and lets every rank
// know within seconds when another was lost, and why.
#pragma once

#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

namespace sinter::train {

/// The first rank that ended before its time.
struct RankFailure {
  int rank = 0;
  std::int64_t pid = 0;
  std::string host;
  /// The last that it told; where it was lost, that of the rank that lost it, if that is later. -1: none. Ranks are in
  /// the same step, but for one.
  std::int64_t step = -1;
  bool was_lost = false;    ///< it said nothing more; else reason is its own word
  std::string reason;       ///< cut off behind 2000 bytes

  /// "rank 2 (pid 71 on host b) was lost in step 7: its connection closed without a goodbye", or "... failed in step 7:
  /// <its own word>".
  std::string sentence() const;
};

struct RendezvousOptions {
  int rank = 0;
  int world_size = 1;
  std::string host = "127.0.0.1";   ///< of rank 0: MASTER_ADDR
  int port = 0;                     ///< of rank 0: LaunchEnvironment::rendezvous_port()
  std::string job_id;               ///< ranks of another job are kept out; the first 255 bytes count
  /// How long rank 0 waits for all ranks, and every rank for rank 0.
  std::chrono::milliseconds start_timeout{300'000};
  /// How long nothing may come from a rank until it counts as lost. Every rank sends something five times in that
  /// time, and once a second at least. Time that this process itself did not run does not count.
  std::chrono::milliseconds lost_timeout{60'000};
  /// How long others may wait in an operation (at_operation()) until a rank counts as lost that does not come there,
  /// or that came and does not look() any more, though its rendezvous lives: it may be writing a checkpoint, or hang.
  std::chrono::milliseconds absent_timeout{600'000};
  /// Called once, in the rendezvous' own thread, when a failure is known here and, on rank 0, the others were told;
  /// before a start too. It may end the process, as a rank must that hangs in a collective operation; it must not
  /// destroy the Rendezvous.
  std::function<void(const RankFailure&)> on_failure;
};

/// One rank's part. Rank 0 listens at host:port, the others connect; a thread of its own sends heartbeats and watches.
/// Any thread may call everything here, but broadcast, exchange_flag and goodbye one at a time, and every rank these in
/// the same order.
///
/// The first failure of any rank counts, for ever and on all ranks: every call that waits throws it as Error(io) with
/// its sentence.
///
/// Nothing that comes over the network is trusted, but nothing is encrypted either: whoever reaches the port and knows
/// the job id can end the job.
class Rendezvous {
 public:
  static constexpr std::size_t kMostBroadcastBytes = 1 << 20;

  /// Returns when all ranks are here. Error(io), on all ranks that came: some did not come within start_timeout, whom
  /// the sentence names; rank 0 was not found; the port is in use; a rank failed meanwhile. Error(usage): two processes
  /// are the same rank, or differ in world_size; then all who came end.
  explicit Rendezvous(RendezvousOptions options);
  /// Without goodbye() or fail() before it, the others learn that this rank was lost. On rank 0 it waits until the
  /// others know of a failure, at most 2 s.
  ~Rendezvous();

  /// Everyone gets the bytes of rank 0 (at most kMostBroadcastBytes); the others pass none. Rank 0 does not wait.
  std::vector<std::byte> broadcast(std::span<const std::byte> bytes = {});
  /// The maximum over all ranks; returns when all have called it. One message to rank 0 and one back.
  int exchange_flag(int mine);

  /// The step that this rank is in, for messages. Cheap: it travels with the next heartbeat or flag.
  void report(std::int64_t step);
  /// This rank has come to the next operation of all ranks, in which it waits for the others; and has left it again.
  /// Every rank counts the same operations. Cheap, as report().
  void at_operation(bool waits);
  /// How often this rank has looked whether the operation that it waits in goes on: who counts it up again and again
  /// while it waits lives, and is not who the others wait for. It may outlive the Rendezvous.
  std::shared_ptr<std::atomic<std::int64_t>> looks() const;
  /// This rank ends of an error: the others get `reason`. Returns when they were told, within 5 s in any case; does
  /// nothing when a failure is known already, or after goodbye().
  void fail(const std::string& reason) noexcept;
  /// The end of a run that went well; returns when all ranks have come to theirs. Nothing can be called after it.
  void goodbye();

  /// Of any rank, this one too.
  std::optional<RankFailure> failure() const;

 private:
  struct Parts;
  std::unique_ptr<Parts> parts_;
};

}  // namespace sinter::train
