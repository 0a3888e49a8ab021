#include "train/ranks/rendezvous_hub.h"

#include <poll.h>

#include <algorithm>
#include <iterator>
#include <limits>
#include <utility>

#include "core/error.h"
#include "core/log.h"

namespace sinter::train {
namespace {

constexpr std::size_t kMostNewcomers = 64;          // more of them wait in the system's queue
constexpr std::size_t kMostRefusals = 16;           // are logged, so that a port scanner does not fill the log
constexpr std::chrono::seconds kHelloTimeout{10};   // for a stranger that says nothing
constexpr std::chrono::seconds kLastWordTimeout{2};

std::string describe(const Hello& hello) {
  return "pid " + std::to_string(hello.pid) + " on host " + hello.host;
}

}  // namespace

RendezvousHub::RendezvousHub(const RendezvousOptions& options, RendezvousMailbox& mailbox)
    : options_(options),
      mailbox_(mailbox),
      listener_(listen_at(options.host, options.port)),
      clock_(options.lost_timeout),
      start_deadline_(clock_.now() + options.start_timeout),
      ranks_(static_cast<std::size_t>(options.world_size)) {
  ranks_.front() = std::make_unique<Rank>(Connection(Socket()), Hello::of(options));
  ranks_.front()->knows_last_word = true;
}

void RendezvousHub::run() {
  for (;;) {
    wait_for_events();
    count_time(clock_.tick());
    mailbox_.clear_wake();
    accept_newcomers();
    hear_newcomers();
    hear_ranks();
    for (const Frame& frame : mailbox_.take_posted()) handle(0, frame);
    start_when_complete();
    miss_ranks();
    if (clock_.beats()) {
      const Frame beat = heartbeat_frame(mailbox_.step(), mailbox_.progress());
      for (const auto& rank : ranks_)
        if (rank) rank->connection.send(beat);
    }
    finish_last_word();
    if (mailbox_.is_stopping() && (!last_word_ || last_word_is_out_)) return;
  }
}

void RendezvousHub::wait_for_events() {
  std::vector<pollfd> entries{{mailbox_.wake_descriptor(), POLLIN, 0}};
  if (listener_.is_open() && newcomers_.size() < kMostNewcomers) entries.push_back({listener_.descriptor(), POLLIN, 0});
  const auto add = [&entries](const Connection& connection) {
    const int events = connection.has_unsent() ? POLLIN | POLLOUT : POLLIN;
    if (connection.is_open()) entries.push_back({connection.descriptor(), static_cast<short>(events), 0});
  };
  for (const Newcomer& newcomer : newcomers_) add(newcomer.connection);
  for (const auto& rank : ranks_)
    if (rank) add(rank->connection);
  Time deadline = Time::max();
  if (last_word_ && !last_word_is_out_) deadline = last_word_deadline_;
  if (!last_word_ && !has_started_) deadline = start_deadline_;
  poll(entries.data(), entries.size(), clock_.wait(deadline));   // interrupted or not, everyone is asked
}

void RendezvousHub::accept_newcomers() {
  try {
    while (listener_.is_open() && newcomers_.size() < kMostNewcomers) {
      std::string from;
      Socket socket = accept_at(listener_, from);
      if (!socket.is_open()) return;
      newcomers_.push_back({Connection(std::move(socket)), std::move(from), clock_.now() + kHelloTimeout});
    }
  } catch (const Error& error) {
    listener_.close();   // once all are here nobody is missed
    if (!has_started_) say_last(Refusal{.is_usage = false, .sentence = error.what()}.frame());
  }
}

void RendezvousHub::hear_newcomers() {
  for (auto newcomer = newcomers_.begin(); newcomer != newcomers_.end();) {
    newcomer->connection.flush();
    try {
      newcomer->connection.receive();
      if (newcomer->was_refused)
        newcomer->connection.discard();
      else if (const auto frame = newcomer->connection.next())
        judge(*newcomer, *frame);
    } catch (const Error& error) {
      refuse(*newcomer, {.is_final = false, .sentence = "what connected from " + newcomer->from +
                                                        " is no rank of this program: " + error.what()});
    }
    const bool gone = !newcomer->connection.is_open() || clock_.now() >= newcomer->until;
    newcomer = gone ? newcomers_.erase(newcomer) : std::next(newcomer);
  }
}

/// Makes a rank of it, or not.
void RendezvousHub::judge(Newcomer& newcomer, const Frame& frame) {
  if (frame.kind != FrameKind::hello) fail(ErrorCode::bad_input, "it did not begin with a hello");
  Hello hello = Hello::read(frame);
  const std::string who = "rank " + std::to_string(hello.rank) + " (" + describe(hello) + ")";
  if (hello.version != kRendezvousVersion)
    return refuse(newcomer, {.sentence = "a rank from " + newcomer.from + " speaks version " +
                                         std::to_string(hello.version) + " of the rendezvous, rank 0 version " +
                                         std::to_string(kRendezvousVersion) + "; start all ranks from one build"});
  if (hello.job_id != Hello::of(options_).job_id)
    return refuse(newcomer, {.is_final = false, .sentence = who + " belongs to the job \"" + hello.job_id +
                                                            "\", but rank 0 at this port to \"" + options_.job_id +
                                                            "\"; give the jobs different values of MASTER_PORT"});
  Refusal refusal;
  if (hello.world_size != options_.world_size)
    refusal.sentence = who + " was started for a world size of " + std::to_string(hello.world_size) +
                       ", rank 0 for " + std::to_string(options_.world_size) + "; start all with the same";
  else if (hello.rank < 1 || hello.rank >= options_.world_size)
    refusal.sentence = who + " is none of the " + std::to_string(options_.world_size) + " ranks that rank 0 waits for";
  else if (const auto& rank = ranks_[static_cast<std::size_t>(hello.rank)])
    refusal.sentence = "two processes say that they are rank " + std::to_string(hello.rank) + ": " +
                       describe(rank->hello) + ", and " + describe(hello) + "; every rank must have its own number";
  if (refusal.sentence.empty()) {
    newcomer.connection.send(Hello::of(options_).frame(FrameKind::welcome));
    auto& rank = ranks_[static_cast<std::size_t>(hello.rank)];
    rank = std::make_unique<Rank>(std::exchange(newcomer.connection, Connection(Socket())), std::move(hello));
    if (last_word_) rank->connection.send(*last_word_);
    return;
  }
  refusal.is_final = !has_started_;
  refuse(newcomer, refusal);
  if (!has_started_) say_last(refusal.frame());
}

void RendezvousHub::refuse(Newcomer& newcomer, const Refusal& refusal) {
  if (refusals_.size() < kMostRefusals && refusals_.insert(refusal.sentence).second) log_info(refusal.sentence);
  last_refused_ = refusal.sentence;
  newcomer.was_refused = true;   // it goes when it has read why
  newcomer.until = clock_.now() + kLastWordTimeout;
  newcomer.connection.send(refusal.frame());
}

void RendezvousHub::start_when_complete() {
  if (has_started_ || last_word_) return;
  if (std::all_of(ranks_.begin(), ranks_.end(), [](const auto& rank) { return rank != nullptr; })) {
    has_started_ = true;
    to_all(Frame{FrameKind::start, {}});
  } else if (clock_.now() >= start_deadline_) {
    say_last(Refusal{.is_usage = false, .sentence = who_is_missing()}.frame());
  }
}

std::string RendezvousHub::who_is_missing() const {
  std::string missing;
  int count = 0;
  for (int rank = 1; rank < options_.world_size; ++rank) {
    if (ranks_[static_cast<std::size_t>(rank)]) continue;
    if (++count <= 8) missing += (count == 1 ? " " : ", ") + std::to_string(rank);
  }
  if (count > 8) missing += " and " + std::to_string(count - 8) + " more";
  std::string sentence = (count == 1 ? "rank" : "ranks") + missing + " of " + std::to_string(options_.world_size) +
                         " did not come to " + name_of(options_.host, options_.port) + " within " +
                         in_seconds(options_.start_timeout);
  sentence += last_refused_.empty() ? "; see what they printed, and whether they can reach this port"
                                    : "; the last to be refused: " + last_refused_;
  return sentence;
}

/// Before anything is heard, so that what is heard now is new.
void RendezvousHub::count_time(std::chrono::nanoseconds elapsed) {
  for (const auto& rank : ranks_) {
    if (!rank) continue;
    rank->silence += elapsed;
    if (!has_started_) continue;
    rank->stays += elapsed;
    rank->still += elapsed;
  }
}

void RendezvousHub::hear_ranks() {
  for (int r = 1; r < options_.world_size; ++r) {
    if (!ranks_[static_cast<std::size_t>(r)]) continue;
    Rank& rank = *ranks_[static_cast<std::size_t>(r)];
    if (!rank.connection.is_open()) continue;
    rank.connection.flush();
    try {
      hear(r);
    } catch (const Error& error) {
      rank.connection.close();
      lose(r, std::string("it broke the protocol: ") + error.what());
    }
    if (!rank.connection.is_open()) {
      rank.knows_last_word = true;   // or cannot
      if (!rank.said_goodbye) lose(r, "its connection closed without a goodbye, as when it is killed or crashes");
    } else if (rank.silence > options_.lost_timeout) {
      rank.knows_last_word = true;   // it may wake up again, but nobody waits for it
      lose(r, "nothing came from it for " + in_seconds(options_.lost_timeout));
    }
  }
}

void RendezvousHub::hear(int r) {
  Rank& rank = *ranks_[static_cast<std::size_t>(r)];
  if (rank.connection.receive()) rank.silence = {};
  while (const auto frame = rank.connection.next()) handle(r, *frame);
}

void RendezvousHub::handle(int r, const Frame& frame) {
  Rank& rank = *ranks_[static_cast<std::size_t>(r)];
  FrameReader reader(frame);
  if (frame.kind == FrameKind::heartbeat) {
    rank.step = reader.number();
    note_progress(r, read_progress(reader));
  } else if (frame.kind == FrameKind::fail) {
    rank.step = reader.number();
    say_last(failure_frame({r, rank.hello.pid, rank.hello.host, rank.step, false, reader.text()}));
  } else if (frame.kind == FrameKind::seen) {
    rank.knows_last_word = last_word_.has_value();
  } else if (!has_started_ || rank.said_goodbye) {
    fail(ErrorCode::bad_input, "it spoke before the start or after its goodbye");
  } else if (frame.kind == FrameKind::flag && !rank.flag) {
    rank.step = reader.number();
    rank.flag = reader.small_number();
    collect_flags();
  } else if (frame.kind == FrameKind::broadcast && r == 0) {
    to_all(frame);
  } else if (frame.kind == FrameKind::goodbye) {
    rank.said_goodbye = true;
    if (std::all_of(ranks_.begin(), ranks_.end(), [](const auto& each) { return each->said_goodbye; }))
      say_last(Frame{FrameKind::farewell, {}});
  } else {
    fail(ErrorCode::bad_input, "a frame of kind ", static_cast<std::uint32_t>(frame.kind), " is out of place");
  }
}

void RendezvousHub::note_progress(int r, const OperationProgress& progress) {
  Rank& rank = *ranks_[static_cast<std::size_t>(r)];
  const OperationProgress before = std::exchange(rank.progress, progress);
  const bool moves = progress.arrivals != before.arrivals || progress.departures != before.departures;
  if (moves) rank.stays = {};
  if (moves || progress.looks != before.looks) rank.still = {};
}

/// Where a rank waits in an operation for too long, the first of those is lost that have not left it and do nothing for
/// as long: they have not come there, or came and do not look whether it goes on.
void RendezvousHub::miss_ranks() {
  if (!has_started_ || last_word_) return;
  ranks_.front()->step = mailbox_.step();
  note_progress(0, mailbox_.progress());
  const auto first = [&](auto&& is_one) {
    const auto found = std::find_if(ranks_.begin(), ranks_.end(), [&](const auto& rank) { return is_one(*rank); });
    return found == ranks_.end() ? -1 : static_cast<int>(found - ranks_.begin());
  };
  const int waiting = first([&](const Rank& rank) {
    return rank.progress.is_inside() && rank.stays > options_.absent_timeout && rank.still < options_.absent_timeout;
  });
  if (waiting < 0) return;
  const std::int64_t arrivals = ranks_[static_cast<std::size_t>(waiting)]->progress.arrivals;
  const int absent = first([&](const Rank& rank) {
    return rank.still > options_.absent_timeout && rank.progress.departures < arrivals && !rank.said_goodbye;
  });
  if (absent < 0) return;
  const bool came = ranks_[static_cast<std::size_t>(absent)]->progress.is_inside();
  lose(absent, "rank " + std::to_string(waiting) + " has waited for it in an operation for " +
                   in_seconds(options_.absent_timeout) +
                   (came ? ", and it hangs in one" : ", and it does not come there"));
}

void RendezvousHub::collect_flags() {
  int most = std::numeric_limits<int>::min();
  for (const auto& rank : ranks_) {
    if (!rank->flag) return;
    most = std::max(most, *rank->flag);
  }
  for (const auto& rank : ranks_) rank->flag.reset();
  to_all(FrameWriter(FrameKind::flag_result).number(most).number(ranks_.front()->step).take());
}

void RendezvousHub::lose(int r, const std::string& reason) {
  const Rank& rank = *ranks_[static_cast<std::size_t>(r)];
  const std::int64_t step = std::max(rank.step, mailbox_.step());   // what it told may be older than ours
  say_last(failure_frame({r, rank.hello.pid, rank.hello.host, step, true, reason}));
}

void RendezvousHub::to_all(const Frame& frame) {
  for (const auto& rank : ranks_)
    if (rank) rank->connection.send(frame);
  mailbox_.deliver(frame);
}

void RendezvousHub::say_last(Frame frame) {
  if (last_word_) return;
  for (const auto& rank : ranks_)
    if (rank) rank->connection.send(frame);
  last_word_ = std::move(frame);
  last_word_deadline_ = clock_.now() + kLastWordTimeout;
}

void RendezvousHub::finish_last_word() {
  if (!last_word_ || last_word_is_out_) return;
  const bool all_know = std::all_of(ranks_.begin(), ranks_.end(),
                                    [](const auto& rank) { return !rank || rank->knows_last_word; });
  if (!all_know && clock_.now() < last_word_deadline_) return;
  last_word_is_out_ = true;
  mailbox_.deliver(*last_word_);
}

}  // namespace sinter::train
