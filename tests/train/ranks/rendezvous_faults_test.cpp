// Ranks that die, hang, fail and lie.
#include <gtest/gtest.h>
#include <poll.h>
#include <signal.h>
#include <sys/socket.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <cstdint>
#include <fstream>
#include <functional>
#include <mutex>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "core/error.h"
#include "core/log.h"
#include "tests/train/ranks/rendezvous_fixture.h"
#include "train/ranks/rendezvous.h"
#include "train/ranks/rendezvous_clock.h"
#include "train/ranks/rendezvous_frame.h"
#include "train/ranks/rendezvous_socket.h"

namespace sinter::train {
namespace {

using testing::ChildProcess;
using testing::error_of;
using testing::free_port;
using testing::options;
using testing::run_ranks;
using std::chrono::milliseconds;

constexpr const char* kClosed = "its connection closed without a goodbye, as when it is killed or crashes";

std::string name_of_this_host() {
  char name[256] = {};
  gethostname(name, sizeof(name) - 1);
  return name;
}

std::string sentence(int rank, pid_t pid, const std::string& rest) {
  return "rank " + std::to_string(rank) + " (pid " + std::to_string(pid) + " on host " + name_of_this_host() + ") " +
         rest;
}

/// Three ranks, one of which, `victim`, is another process or thread to which something happens after the first flag.
struct Accident {
  int victim = 2;
  int port = free_port();
  milliseconds lost_timeout = options(0, 1, 1).lost_timeout;
  std::atomic<int> callbacks = 0, passed = 0;

  RendezvousOptions of(int rank) const {
    RendezvousOptions made = options(rank, 3, port);
    made.lost_timeout = lost_timeout;
    return made;
  }

  /// The victim as a process.
  ChildProcess start(const char* what) const {
    return {SINTER_RENDEZVOUS_VICTIM,
            {what, std::to_string(victim), std::to_string(port), std::to_string(lost_timeout.count())}};
  }

  /// What the other ranks throw from their second flag, when `happen` was called between.
  std::vector<std::string> errors(const std::function<void()>& happen) {
    std::vector<RendezvousOptions> others;
    for (int rank = 0; rank < 3; ++rank)
      if (rank != victim) {
        others.push_back(of(rank));
        others.back().on_failure = [this](const RankFailure& failure) {
          EXPECT_EQ(failure.rank, victim);
          ++callbacks;
        };
      }
    return run_ranks(others, [&](Rendezvous& rendezvous, int rank) {
      rendezvous.report(3);
      EXPECT_EQ(rendezvous.exchange_flag(0), 0);
      ++passed;
      while (passed < 2) std::this_thread::sleep_for(milliseconds(1));
      if (rank == others.front().rank) happen();
      const std::string error = error_of([&] { rendezvous.exchange_flag(0); });
      ASSERT_TRUE(rendezvous.failure().has_value());
      EXPECT_EQ(rendezvous.failure()->sentence(), error);
      EXPECT_EQ(error_of([&] { rendezvous.goodbye(); }), error);   // it counts for ever
      rendezvous.fail("because of that");                          // the first one counts
      EXPECT_EQ(rendezvous.failure()->sentence(), error);
      fail(ErrorCode::io, error);
    });
  }
};

class RendezvousVictim : public ::testing::TestWithParam<int> {};
INSTANTIATE_TEST_SUITE_P(Ranks, RendezvousVictim, ::testing::Values(0, 2));

TEST_P(RendezvousVictim, KilledIsKnownToAllAtOnce) {
  Accident accident{.victim = GetParam()};
  const ChildProcess child = accident.start("waits");
  const std::string says = sentence(accident.victim, child.pid(), std::string("was lost in step 3: ") + kClosed);
  const auto begin = std::chrono::steady_clock::now();
  EXPECT_EQ(accident.errors([&] { child.signal(SIGKILL); }), (std::vector<std::string>{says, says}));
  EXPECT_LT(std::chrono::steady_clock::now() - begin, accident.lost_timeout);
  EXPECT_EQ(accident.callbacks, 2);
}

TEST_P(RendezvousVictim, StoppedIsKnownAfterTheTimeoutAndLearnsItWhenItGoesOn) {
  Accident accident{.victim = GetParam(), .lost_timeout = milliseconds(1000)};
  ChildProcess child = accident.start("waits");
  const std::string says =
      sentence(accident.victim, child.pid(), "was lost in step 3: nothing came from it for 1 s");
  EXPECT_EQ(accident.errors([&] { child.signal(SIGSTOP); }), (std::vector<std::string>{says, says}));
  EXPECT_EQ(accident.callbacks, 2);
  child.signal(SIGCONT);
  std::string printed;
  EXPECT_EQ(child.wait(&printed), 17);
  EXPECT_NE(printed.find(says), std::string::npos) << printed;
}

TEST_P(RendezvousVictim, FailedSaysWhy) {
  Accident accident{.victim = GetParam()};
  ChildProcess child = accident.start("fails");
  const std::string says = sentence(accident.victim, child.pid(), "failed in step 4: the device has no memory left");
  EXPECT_EQ(accident.errors([&] { child.say("now\n"); }), (std::vector<std::string>{says, says}));
  std::string printed;
  EXPECT_EQ(child.wait(&printed), 17);
  EXPECT_EQ(printed, says + "\n");
}

// It has told no step yet: it counts as being in that of the others.
TEST_P(RendezvousVictim, AnEndWithoutGoodbyeIsALoss) {
  Accident accident{.victim = GetParam()};
  std::jthread victim([&] {
    Rendezvous rendezvous(accident.of(accident.victim));
    rendezvous.exchange_flag(0);
    while (accident.passed < 2) std::this_thread::sleep_for(milliseconds(1));
  });
  const std::string says =
      sentence(accident.victim, getpid(), std::string("was lost in step 3: ") + kClosed);
  EXPECT_EQ(accident.errors([] {}), (std::vector<std::string>{says, says}));
  victim.join();
}

TEST(RendezvousFaults, ALongReasonIsCutOff) {
  const int port = free_port();
  const auto errors = run_ranks({options(0, 2, port), options(1, 2, port)}, [](Rendezvous& rendezvous, int rank) {
    if (rank == 1) return rendezvous.fail(std::string(1 << 20, 'x'));
    rendezvous.exchange_flag(0);
  });
  EXPECT_EQ(errors[0], sentence(1, getpid(), "failed before its first step: " + std::string(2000, 'x')));
}

/// One that can say to rank 0 what it likes.
class Stranger {
 public:
  explicit Stranger(int port) {
    std::string why;
    Socket socket;
    for (int tries = 0; tries < 3000 && !socket.is_open(); ++tries) {   // until rank 0 listens
      socket = connect_to("127.0.0.1", port, std::chrono::steady_clock::now() + std::chrono::seconds(10), why);
      if (!socket.is_open()) std::this_thread::sleep_for(milliseconds(10));
    }
    descriptor_ = socket.descriptor();
    connection_.emplace(std::move(socket));
  }
  void say(const std::string& bytes) const {
    EXPECT_EQ(send(descriptor_, bytes.data(), bytes.size(), MSG_NOSIGNAL), static_cast<ssize_t>(bytes.size()));
  }
  void say(const Frame& frame) { connection_->send(frame); }
  /// The next frame, or none when rank 0 closes.
  std::optional<Frame> hears() {
    for (;;) {
      if (auto frame = connection_->next()) return frame;
      if (!connection_->is_open()) return std::nullopt;
      pollfd entry{descriptor_, POLLIN, 0};
      if (poll(&entry, 1, 30'000) == 0) return std::nullopt;
      connection_->receive();
    }
  }

 private:
  int descriptor_ = -1;
  std::optional<Connection> connection_;
};

std::string raw_frame(std::uint32_t kind, std::uint32_t length, const std::string& body) {
  std::string bytes = "SNTR";
  bytes.append(reinterpret_cast<const char*>(&kind), 4).append(reinterpret_cast<const char*>(&length), 4);
  return bytes + body;
}

std::string number(std::int64_t value) { return std::string(reinterpret_cast<const char*>(&value), 8); }

constexpr std::uint32_t kHello = static_cast<std::uint32_t>(FrameKind::hello);

TEST(RendezvousFaults, StrangersAreToldOffAndTheGroupStartsWithoutThem) {
  struct Words {
    std::string bytes;
    const char* answer;
  };
  const std::string version = number(kRendezvousVersion);
  const std::vector<Words> all = {
      {"GET / HTTP/1.1\r\n\r\n", "what came is no frame"},
      {"bye!", "what came is no frame"},
      {raw_frame(kHello, 0xffffffff, ""), "has kind 0 and 4294967295 bytes"},
      {raw_frame(4, 1 << 20, ""), "has kind 4 and 1048576 bytes"},   // what only a broadcast may have
      {raw_frame(99, 0, ""), "has kind 99"},
      {raw_frame(4, 8, number(1)), "it did not begin with a hello"},
      {raw_frame(kHello, 0, ""), "ends too early"},
      {raw_frame(kHello, 12, version + std::string(4, '\xff')), "ends too early"},   // a text of 4 GiB
      {raw_frame(kHello, 8, number(1)), "speaks version 1 of the rendezvous, rank 0 version 3"},
      {raw_frame(kHello, 36, version + std::string("\4\0\0\0test", 8) + number(INT64_MAX) + number(1) + "...."),
       "where a rank or flag should be"},
  };
  std::mutex mutex;
  std::string log;
  set_log_sink([&](const std::string& line) {
    const std::lock_guard lock(mutex);
    log += line + "\n";
  });
  const int port = free_port();
  std::string error;
  std::jthread rank0([&] {
    error = error_of([&] {
      Rendezvous rendezvous(options(0, 2, port));
      EXPECT_EQ(rendezvous.exchange_flag(0), 9);
      rendezvous.goodbye();
    });
  });
  Stranger silent(port);   // says nothing, and keeps nobody waiting
  for (const Words& words : all) {
    Stranger stranger(port);
    stranger.say(words.bytes);
    const auto answer = stranger.hears();
    ASSERT_TRUE(answer && answer->kind == FrameKind::refusal) << words.answer;
    const std::string said = Refusal::read(*answer).sentence;
    EXPECT_NE(said.find(words.answer), std::string::npos) << said;
  }
  EXPECT_EQ(error_of([&] {
              Rendezvous rendezvous(options(1, 2, port));
              EXPECT_EQ(rendezvous.exchange_flag(9), 9);
              rendezvous.goodbye();
            }),
            "");
  rank0.join();
  set_log_sink({});
  EXPECT_EQ(error, "");
  EXPECT_NE(log.find("what connected from 127.0.0.1 is no rank of this program: what came is no frame"),
            std::string::npos)
      << log;
}

/// Three ranks, whose rendezvous all live. Each comes to operations with `come`, and where that says true it waits and
/// looks from then on, until one is lost or `patience` is over. What they throw in the end.
std::vector<std::string> errors_of_absent_ranks(milliseconds patience,
                                                const std::function<bool(Rendezvous&, int rank)>& come) {
  const int port = free_port();
  std::vector<RendezvousOptions> ranks;
  for (int rank = 0; rank < 3; ++rank) {
    ranks.push_back(options(rank, 3, port));
    ranks.back().lost_timeout = milliseconds(2000);   // a heartbeat each 400 ms
    ranks.back().absent_timeout = milliseconds(1500);
  }
  return run_ranks(ranks, [&](Rendezvous& rendezvous, int rank) {
    rendezvous.report(7);
    rendezvous.at_operation(true);
    rendezvous.at_operation(false);
    const bool looks = come(rendezvous, rank);
    const auto until = std::chrono::steady_clock::now() + patience;
    while (!rendezvous.failure() && std::chrono::steady_clock::now() < until) {
      if (looks) ++*rendezvous.looks();
      std::this_thread::sleep_for(milliseconds(5));
    }
    rendezvous.goodbye();
  });
}

/// `rank` is lost to all, since one of the others has waited for it; which of them waited longest is chance.
void expect_lost_in_step_7(int rank, const std::string& what_it_does,
                           const std::function<bool(Rendezvous&, int rank)>& come) {
  const std::vector<std::string> errors = errors_of_absent_ranks(std::chrono::minutes(1), come);
  std::vector<std::string> possible;
  for (int other = 0; other < 3; ++other)
    if (other != rank)
      possible.push_back(sentence(rank, getpid(), "was lost in step 7: rank " + std::to_string(other) +
                                                      " has waited for it in an operation for 1.5 s, and it " +
                                                      what_it_does));
  EXPECT_TRUE(errors[0] == possible[0] || errors[0] == possible[1]) << errors[0];
  EXPECT_EQ(errors, std::vector<std::string>(3, errors[0]));
}

TEST(RendezvousFaults, ARankThatDoesNotComeToAnOperationIsLost) {
  for (const int absent : {0, 1})
    expect_lost_in_step_7(absent, "does not come there", [&](Rendezvous& rendezvous, int rank) {
      if (rank != absent) rendezvous.at_operation(true);
      return rank != absent;
    });
}

// It came to the operation in which the others wait, or to one that they have left, and does not look.
TEST(RendezvousFaults, ARankThatHangsInAnOperationIsLost) {
  for (const int hanging : {0, 2})
    for (const bool in_an_older_one : {false, true})
      expect_lost_in_step_7(hanging, "hangs in one", [&](Rendezvous& rendezvous, int rank) {
        rendezvous.at_operation(true);
        if (in_an_older_one && rank != hanging) {
          rendezvous.at_operation(false);
          rendezvous.at_operation(true);
        }
        return rank != hanging;
      });
}

// Nobody is missed where all wait, where nobody does, where one is ahead, and where ranks come to one operation after
// the other.
TEST(RendezvousFaults, RanksThatComeToOperationsAreNotLost) {
  const auto expect_none_is_lost = [](const std::function<bool(Rendezvous&, int rank)>& come) {
    EXPECT_EQ(errors_of_absent_ranks(milliseconds(3500), come), std::vector<std::string>(3));
  };
  expect_none_is_lost([](Rendezvous& rendezvous, int) {
    rendezvous.at_operation(true);
    return true;
  });
  expect_none_is_lost([](Rendezvous&, int) { return false; });
  expect_none_is_lost([](Rendezvous& rendezvous, int rank) {
    rendezvous.at_operation(true);
    if (rank != 1) return true;
    rendezvous.at_operation(false);   // and computes
    return false;
  });
  expect_none_is_lost([](Rendezvous& rendezvous, int rank) {
    for (int i = 0; i < 150; ++i) {
      if (rank != 1) rendezvous.at_operation(true);
      std::this_thread::sleep_for(milliseconds(20));   // rank 1 is late each time
      if (rank == 1) rendezvous.at_operation(true);
      rendezvous.at_operation(false);
    }
    return false;
  });
}

TEST(RendezvousFaults, ARankThatBreaksTheProtocolIsLost) {
  const Frame flag = FrameWriter(FrameKind::flag).number(1).number(1).take();
  const std::vector<std::vector<Frame>> all = {
      {flag, flag},                                          // a second before the first is answered
      {Frame{FrameKind::broadcast, {}}},                     // only rank 0 may
      {Frame{FrameKind::start, {}}},
      {Frame{FrameKind::goodbye, {}}, flag},
      {Frame{FrameKind::heartbeat, {}}},                     // without a step
      {FrameWriter(FrameKind::heartbeat).number(1).number(1).number(1).take()},   // without looks
      {FrameWriter(FrameKind::flag).number(1).number(INT64_MIN).take()},
  };
  for (std::size_t i = 0; i < all.size(); ++i) {
    const int port = free_port();
    std::string error;
    std::jthread rank0([&] {
      error = error_of([&] {
        Rendezvous rendezvous(options(0, 2, port));
        while (!rendezvous.failure()) std::this_thread::sleep_for(milliseconds(1));
        rendezvous.exchange_flag(0);
      });
    });
    Stranger liar(port);
    liar.say(Hello::of(options(1, 2, port)).frame(FrameKind::hello));
    ASSERT_EQ(liar.hears()->kind, FrameKind::welcome);
    while (liar.hears()->kind != FrameKind::start) {
    }
    for (const Frame& frame : all[i]) liar.say(frame);
    rank0.join();
    EXPECT_NE(error.find("was lost "), std::string::npos) << i << ": " << error;
    EXPECT_NE(error.find("it broke the protocol: "), std::string::npos) << i << ": " << error;
  }
}

// What it said counts, though the next attempt ends with the time, without an answer.
TEST(RendezvousFaults, ARank0ThatIsNoneIsNotBelieved) {
  const int port = free_port();
  const Socket listener = listen_at("127.0.0.1", port);
  RendezvousOptions rank1 = options(1, 2, port);
  rank1.start_timeout = milliseconds(2000);
  Socket socket;
  std::jthread server([&] {   // an HTTP server, say, that answers once
    std::string from;
    while (!(socket = accept_at(listener, from)).is_open()) std::this_thread::sleep_for(milliseconds(5));
    const std::string answer = "HTTP/1.1 400 Bad Request\r\n\r\n";
    send(socket.descriptor(), answer.data(), answer.size(), MSG_NOSIGNAL);
  });
  const std::string said = error_of([&] { Rendezvous rendezvous(rank1); });
  EXPECT_NE(said.find("within 2 s: what listens there is no rank 0 of this program; see"), std::string::npos) << said;
}

/// While nobody listens at a port from which the system serves outgoing connections, a socket that connects to it can
/// be given that very port, and then meets itself.
TEST(RendezvousFaults, NobodyMeetsItself) {
  int low = 0;
  std::ifstream("/proc/sys/net/ipv4/ip_local_port_range") >> low;
  if (low == 0) GTEST_SKIP() << "the system does not say which ports it serves";
  std::string why;
  const auto deadline = std::chrono::steady_clock::now() + std::chrono::minutes(1);
  for (int i = 0; i < 30'000; ++i) ASSERT_FALSE(connect_to("127.0.0.1", low + 2000, deadline, why).is_open());
  EXPECT_EQ(why, "Connection refused");
}

TEST(RendezvousFaults, ARankThatDiesBeforeTheStartEndsAll) {
  const int port = free_port();
  std::string error;
  std::jthread rank0([&] { error = error_of([&] { Rendezvous rendezvous(options(0, 3, port)); }); });
  {
    Stranger dies(port);
    dies.say(Hello::of(options(1, 3, port)).frame(FrameKind::hello));
    ASSERT_EQ(dies.hears()->kind, FrameKind::welcome);
  }
  rank0.join();
  EXPECT_EQ(error, sentence(1, getpid(), std::string("was lost before its first step: ") + kClosed));
}

TEST(RendezvousFaults, FramesArriveInAnyPieces) {
  int ends[2];
  ASSERT_EQ(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, ends), 0);
  Socket sender(ends[0]);
  Connection receiver{Socket(ends[1])};
  const std::string bytes = raw_frame(4, 8, number(7)) + raw_frame(12, 0, "");
  std::vector<Frame> frames;
  for (const char byte : bytes) {
    ASSERT_EQ(send(sender.descriptor(), &byte, 1, MSG_NOSIGNAL), 1);
    EXPECT_TRUE(receiver.receive());
    while (const auto frame = receiver.next()) frames.push_back(*frame);
  }
  sender.close();
  receiver.send(frames.back());   // no SIGPIPE
  EXPECT_FALSE(receiver.receive());
  EXPECT_FALSE(receiver.is_open());
  ASSERT_EQ(frames.size(), 2u);
  EXPECT_EQ(frames[0].kind, FrameKind::heartbeat);
  EXPECT_EQ(FrameReader(frames[0]).number(), 7);
  EXPECT_EQ(frames[1].kind, FrameKind::seen);
}

TEST(RendezvousFaults, TimeThatThisProcessDidNotRunIsNoSilence) {
  RendezvousClock clock(milliseconds(50));   // heartbeats every 10 ms
  std::this_thread::sleep_for(milliseconds(100));
  EXPECT_EQ(clock.tick(), milliseconds(20));
  EXPECT_TRUE(clock.beats());
  EXPECT_FALSE(clock.beats());
  EXPECT_GT(clock.wait(), 0);
}

}  // namespace
}  // namespace sinter::train
