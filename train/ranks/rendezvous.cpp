#include "train/ranks/rendezvous.h"

#include <csignal>

#include <atomic>
#include <exception>
#include <thread>
#include <utility>

#include "core/error.h"
#include "train/ranks/rendezvous_frame.h"
#include "train/ranks/rendezvous_hub.h"
#include "train/ranks/rendezvous_mailbox.h"
#include "train/ranks/rendezvous_spoke.h"

namespace sinter::train {
namespace {

constexpr std::chrono::seconds kFailTimeout{5};

RendezvousOptions checked(RendezvousOptions options) {
  if (options.world_size < 1 || options.rank < 0 || options.rank >= options.world_size)
    fail(ErrorCode::usage, "rank ", options.rank, " of ", options.world_size, " is none");
  if (options.port < 1 || options.port > 65535)
    fail(ErrorCode::usage, "the port of the rendezvous is ", options.port, ", but ports go from 1 to 65535");
  if (options.start_timeout.count() <= 0 || options.lost_timeout.count() <= 0 || options.absent_timeout.count() <= 0)
    fail(ErrorCode::usage, "the timeouts of the rendezvous must be more than 0 s");
  return options;
}

/// The program's own threads handle signals; the rendezvous' thread has none.
void block_signals() {
  sigset_t all;
  sigfillset(&all);
  pthread_sigmask(SIG_BLOCK, &all, nullptr);
}

}  // namespace

std::string RankFailure::sentence() const {
  return "rank " + std::to_string(rank) + " (pid " + std::to_string(pid) + " on host " + host + ") " +
         (was_lost ? "was lost " : "failed ") +
         (step < 0 ? "before its first step" : "in step " + std::to_string(step)) + ": " + reason;
}

struct Rendezvous::Parts {
  explicit Parts(RendezvousOptions given)
      : options(checked(std::move(given))), mailbox(options.on_failure) {
    if (options.rank == 0)
      hub = std::make_unique<RendezvousHub>(options, mailbox);
    else
      spoke = std::make_unique<RendezvousSpoke>(options, mailbox);
    thread = std::thread([this] { serve(); });
  }
  ~Parts() {
    mailbox.stop();
    thread.join();
  }

  void serve() {
    block_signals();
    try {
      hub ? hub->run() : spoke->run();
    } catch (const std::exception& error) {
      const Hello self = Hello::of(options);
      mailbox.deliver(failure_frame({self.rank, self.pid, self.host, mailbox.step(), false,
                                     std::string("its rendezvous ended: ") + error.what()}));
    }
    hub.reset();   // closes what is open, so that the others notice
    spoke.reset();
  }

  void check_no_goodbye(const char* call) const {
    if (said_goodbye) sinter::fail(ErrorCode::usage, "Rendezvous::", call, " was called after goodbye()");
  }

  const RendezvousOptions options;
  RendezvousMailbox mailbox;
  std::unique_ptr<RendezvousHub> hub;
  std::unique_ptr<RendezvousSpoke> spoke;
  std::thread thread;
  std::atomic<bool> said_goodbye = false;
};

Rendezvous::Rendezvous(RendezvousOptions options) : parts_(std::make_unique<Parts>(std::move(options))) {
  parts_->mailbox.wait_for_start();
}

Rendezvous::~Rendezvous() = default;

std::vector<std::byte> Rendezvous::broadcast(std::span<const std::byte> bytes) {
  parts_->check_no_goodbye("broadcast");
  if (parts_->options.rank == 0) {
    if (bytes.size() > kMostBroadcastBytes)
      sinter::fail(ErrorCode::usage, "a broadcast of ", bytes.size(), " bytes exceeds ", kMostBroadcastBytes);
    parts_->mailbox.post({FrameKind::broadcast, std::vector<std::byte>(bytes.begin(), bytes.end())});
  } else if (!bytes.empty()) {
    sinter::fail(ErrorCode::usage, "rank ", parts_->options.rank, " gives ", bytes.size(),
                 " bytes to a broadcast, but everyone gets those of rank 0");
  }
  return parts_->mailbox.wait_for_broadcast();
}

int Rendezvous::exchange_flag(int mine) {
  parts_->check_no_goodbye("exchange_flag");
  parts_->mailbox.post(FrameWriter(FrameKind::flag).number(parts_->mailbox.step()).number(mine).take());
  return parts_->mailbox.wait_for_flag();
}

void Rendezvous::report(std::int64_t step) { parts_->mailbox.set_step(step); }

void Rendezvous::at_operation(bool waits) { parts_->mailbox.at_operation(waits); }

std::shared_ptr<std::atomic<std::int64_t>> Rendezvous::looks() const { return parts_->mailbox.looks(); }

void Rendezvous::fail(const std::string& reason) noexcept {
  try {
    if (parts_->said_goodbye || failure()) return;
    parts_->mailbox.post(FrameWriter(FrameKind::fail).number(parts_->mailbox.step()).text(reason).take());
    parts_->mailbox.wait_for_failure(kFailTimeout);
  } catch (const std::exception&) {   // out of memory, say: the others notice when this process ends
  }
}

void Rendezvous::goodbye() {
  parts_->check_no_goodbye("goodbye");
  parts_->said_goodbye = true;
  parts_->mailbox.post({FrameKind::goodbye, {}});
  parts_->mailbox.wait_for_farewell();
}

std::optional<RankFailure> Rendezvous::failure() const { return parts_->mailbox.failure(); }

}  // namespace sinter::train
