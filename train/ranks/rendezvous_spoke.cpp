#include "train/ranks/rendezvous_spoke.h"

#include <poll.h>

#include <algorithm>
#include <optional>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "core/error.h"

namespace sinter::train {
namespace {

constexpr std::chrono::milliseconds kRetryAfter{100};
constexpr std::chrono::seconds kAnswerTimeout{10};   // of whoever listens at the port

/// The first frame that comes; none when the connection closes or the time is over.
std::optional<Frame> await_frame(Connection& connection, RendezvousClock::Time deadline) {
  for (;;) {
    if (auto frame = connection.next()) return frame;
    const auto left =
        std::chrono::ceil<std::chrono::milliseconds>(deadline - std::chrono::steady_clock::now()).count();
    if (!connection.is_open() || left <= 0) return std::nullopt;
    const int events = connection.has_unsent() ? POLLIN | POLLOUT : POLLIN;
    pollfd entry{connection.descriptor(), static_cast<short>(events), 0};
    poll(&entry, 1, static_cast<int>(left));
    connection.flush();
    connection.receive();
  }
}

}  // namespace

RendezvousSpoke::RendezvousSpoke(const RendezvousOptions& options, RendezvousMailbox& mailbox)
    : options_(options), mailbox_(mailbox), clock_(options.lost_timeout) {
  const Time deadline = clock_.now() + options.start_timeout;
  std::string why;
  for (;;) {
    const std::optional<std::string> why_not = join(deadline);
    if (!why_not) return;
    const Time now = std::chrono::steady_clock::now();
    if (why.empty() || now < deadline) why = *why_not;   // an attempt cut short by the deadline says less
    if (now + kRetryAfter >= deadline)
      fail(ErrorCode::io, "rank ", options.rank, " found no rank 0 at ", name_of(options.host, options.port),
           " within ", in_seconds(options.start_timeout), ": ", why,
           "; see what rank 0 printed, and whether MASTER_ADDR and MASTER_PORT are its own");
    std::this_thread::sleep_for(kRetryAfter);
  }
}

std::optional<std::string> RendezvousSpoke::join(Time deadline) {
  std::string why_not;
  connection_ = Connection(connect_to(options_.host, options_.port, deadline, why_not));
  if (!connection_.is_open()) return why_not;
  connection_.send(Hello::of(options_).frame(FrameKind::hello));
  std::optional<Frame> answer;
  try {
    answer = await_frame(connection_, std::min<Time>(deadline, std::chrono::steady_clock::now() + kAnswerTimeout));
    if (answer && answer->kind == FrameKind::welcome) {
      rank_0_ = Hello::read(*answer);
      return std::nullopt;
    }
  } catch (const Error&) {
    return "what listens there is no rank 0 of this program";
  }
  if (!answer || answer->kind != FrameKind::refusal) return "whatever listens there gave no answer";
  const Refusal refusal = Refusal::read(*answer);
  if (refusal.is_final) fail(refusal.is_usage ? ErrorCode::usage : ErrorCode::io, refusal.sentence);
  return refusal.sentence;
}

void RendezvousSpoke::run() {
  while (!mailbox_.is_stopping()) {
    wait_for_events();
    silence_ += clock_.tick();
    mailbox_.clear_wake();
    hear();
    for (const Frame& frame : mailbox_.take_posted()) connection_.send(frame);
    if (clock_.beats()) connection_.send(heartbeat_frame(mailbox_.step(), mailbox_.progress()));
  }
}

void RendezvousSpoke::wait_for_events() {
  std::vector<pollfd> entries{{mailbox_.wake_descriptor(), POLLIN, 0}};
  const int events = connection_.has_unsent() ? POLLIN | POLLOUT : POLLIN;
  if (connection_.is_open()) entries.push_back({connection_.descriptor(), static_cast<short>(events), 0});
  poll(entries.data(), entries.size(), clock_.wait());   // interrupted or not, everything is asked
}

void RendezvousSpoke::hear() {
  connection_.flush();
  try {
    if (connection_.receive()) silence_ = {};
    while (const auto frame = connection_.next()) handle(*frame);
  } catch (const Error& error) {
    connection_.close();
    lose_rank_0(std::string("it broke the protocol: ") + error.what());
  }
  if (!connection_.is_open()) {
    lose_rank_0("its connection closed without a goodbye, as when it is killed or crashes");
  } else if (silence_ > options_.lost_timeout) {
    lose_rank_0("nothing came from it for " + in_seconds(options_.lost_timeout));
  }
}

void RendezvousSpoke::handle(const Frame& frame) {
  switch (frame.kind) {
    case FrameKind::heartbeat:
      step_of_rank_0_ = FrameReader(frame).number();
      return;
    case FrameKind::flag_result: {
      FrameReader reader(frame);
      reader.small_number();
      step_of_rank_0_ = reader.number();
      return mailbox_.deliver(frame);
    }
    case FrameKind::start:
    case FrameKind::broadcast:
      return mailbox_.deliver(frame);
    case FrameKind::failure:
    case FrameKind::farewell:
    case FrameKind::refusal:
      if (std::exchange(has_last_word_, true)) return;
      connection_.send(Frame{FrameKind::seen, {}});
      return mailbox_.deliver(frame);
    default:
      fail(ErrorCode::bad_input, "a frame of kind ", static_cast<std::uint32_t>(frame.kind), " is out of place");
  }
}

void RendezvousSpoke::lose_rank_0(const std::string& reason) {
  if (std::exchange(has_last_word_, true)) return;
  const std::int64_t step = std::max(step_of_rank_0_, mailbox_.step());   // what it told may be older than ours
  const RankFailure failure{0, rank_0_.pid, rank_0_.host, step, true, reason};
  // Should it wake up again, it finds this.
  connection_.send(FrameWriter(FrameKind::fail).number(mailbox_.step()).text(failure.sentence()).take());
  mailbox_.deliver(failure_frame(failure));
}

}  // namespace sinter::train
