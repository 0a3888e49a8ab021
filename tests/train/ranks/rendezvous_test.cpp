#include "train/ranks/rendezvous.h"

#include <gtest/gtest.h>
#include <pthread.h>
#include <signal.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <cstddef>
#include <future>
#include <string>
#include <thread>
#include <vector>

#include "core/error.h"
#include "tests/train/ranks/rendezvous_fixture.h"
#include "train/ranks/rendezvous_socket.h"

namespace sinter::train {
namespace {

using testing::error_of;
using testing::free_port;
using testing::options;
using testing::run_ranks;
using std::chrono::milliseconds;

const std::vector<std::string> kNoErrors3(3), kNoErrors2(2);

std::vector<RendezvousOptions> group(int world_size) {
  const int port = free_port();
  std::vector<RendezvousOptions> ranks;
  for (int rank = 0; rank < world_size; ++rank) ranks.push_back(options(rank, world_size, port));
  return ranks;
}

std::vector<std::byte> pattern(std::size_t size) {
  std::vector<std::byte> bytes(size);
  for (std::size_t i = 0; i < size; ++i) bytes[i] = static_cast<std::byte>(i * 31 >> 3);
  return bytes;
}

TEST(Rendezvous, BroadcastsTheBytesOfRank0) {
  for (const std::size_t size : {std::size_t{128}, std::size_t{0}, Rendezvous::kMostBroadcastBytes}) {
    const std::vector<std::byte> bytes = pattern(size);
    EXPECT_EQ(run_ranks(group(3),
                        [&](Rendezvous& rendezvous, int rank) {
                          for (int i = 0; i < 3; ++i)
                            EXPECT_TRUE((rank == 0 ? rendezvous.broadcast(bytes) : rendezvous.broadcast()) == bytes);
                          rendezvous.goodbye();
                        }),
              kNoErrors3);
  }
}

TEST(Rendezvous, FlagsAreTheMaximumOverTheRanksEveryTime) {
  EXPECT_EQ(run_ranks(group(3),
                      [](Rendezvous& rendezvous, int rank) {
                        for (int step = 0; step < 200; ++step) {
                          rendezvous.report(step);
                          // Negative ones too; the largest comes from another rank each time.
                          EXPECT_EQ(rendezvous.exchange_flag((step + rank) % 3 - step), 2 - step);
                        }
                        rendezvous.goodbye();
                      }),
            kNoErrors3);
}

TEST(Rendezvous, OneRankNeedsNoOther) {
  EXPECT_EQ(run_ranks(group(1),
                      [](Rendezvous& rendezvous, int) {
                        EXPECT_EQ(rendezvous.exchange_flag(15), 15);
                        EXPECT_EQ(rendezvous.broadcast(pattern(8)), pattern(8));
                        rendezvous.goodbye();
                      }),
            std::vector<std::string>(1));
}

TEST(Rendezvous, GoodbyeWaitsForAll) {
  std::atomic<int> arrived = 0;
  const auto errors = run_ranks(group(3), [&](Rendezvous& rendezvous, int rank) {
    if (rank == 0) std::this_thread::sleep_for(milliseconds(100));
    ++arrived;
    rendezvous.goodbye();
    EXPECT_EQ(arrived, 3);
    EXPECT_EQ(rendezvous.failure(), std::nullopt);
    EXPECT_NE(error_of([&] { rendezvous.exchange_flag(0); }).find("after goodbye"), std::string::npos);
  });
  EXPECT_EQ(errors, kNoErrors3);
}

/// 0.0.0.0 is this machine, but no loopback address: rank 0 listens everywhere, as for a node's name.
TEST(Rendezvous, MeetsByNameOverIPv6AndEverywhere) {
  for (const char* host : {"localhost", "::1", "0.0.0.0"}) {
    auto ranks = group(2);
    const bool is_ipv6 = std::string(host) == "::1";
    if (is_ipv6 && !error_of([&] { listen_at(host, ranks[0].port); }).empty()) continue;   // a machine without it
    for (RendezvousOptions& rank : ranks) rank.host = host;
    EXPECT_EQ(run_ranks(ranks, [](Rendezvous& rendezvous, int) { rendezvous.goodbye(); }), kNoErrors2) << host;
  }
}

TEST(Rendezvous, SignalsDoNotDisturbIt) {
  struct sigaction action = {}, before = {};
  action.sa_handler = [](int) {};   // without SA_RESTART: system calls end with EINTR
  ASSERT_EQ(sigaction(SIGUSR1, &action, &before), 0);
  const auto ranks = group(2);
  std::promise<pthread_t> started;
  std::atomic<bool> done = false;
  std::jthread early([&] {
    started.set_value(pthread_self());
    EXPECT_EQ(error_of([&] {
                Rendezvous rendezvous(ranks[1]);   // tries again and again
                EXPECT_EQ(rendezvous.broadcast(), pattern(Rendezvous::kMostBroadcastBytes));
                rendezvous.goodbye();
              }),
              "");
    done = true;
    while (done) std::this_thread::sleep_for(milliseconds(1));
  });
  const pthread_t interrupted = started.get_future().get();
  std::jthread late([&] {
    std::this_thread::sleep_for(milliseconds(250));
    EXPECT_EQ(error_of([&] {
                Rendezvous rendezvous(ranks[0]);
                rendezvous.broadcast(pattern(Rendezvous::kMostBroadcastBytes));
                rendezvous.goodbye();
              }),
              "");
  });
  while (!done) {
    pthread_kill(interrupted, SIGUSR1);
    std::this_thread::sleep_for(milliseconds(2));
  }
  done = false;
  early.join();
  late.join();
  sigaction(SIGUSR1, &before, nullptr);
}

TEST(Rendezvous, AMissingRankIsNamedOnAllThatCame) {
  auto ranks = group(4);
  ranks.resize(2);
  ranks[0].start_timeout = milliseconds(3000);
  const std::string says = "ranks 2, 3 of 4 did not come to 127.0.0.1:" + std::to_string(ranks[0].port) +
                           " within 3 s; see what they printed, and whether they can reach this port";
  EXPECT_EQ(run_ranks(ranks, [](Rendezvous&, int) { ADD_FAILURE() << "started"; }),
            (std::vector<std::string>{says, says}));
}

TEST(Rendezvous, WithoutRank0ItSaysWhereItLooked) {
  RendezvousOptions alone = options(1, 2, free_port());
  alone.start_timeout = milliseconds(300);
  const std::string said = error_of([&] { Rendezvous rendezvous(alone); });
  EXPECT_EQ(said, "rank 1 found no rank 0 at 127.0.0.1:" + std::to_string(alone.port) +
                      " within 0.3 s: Connection refused; see what rank 0 printed, and whether MASTER_ADDR and "
                      "MASTER_PORT are its own");
}

TEST(Rendezvous, APortInUseIsNamed) {
  const RendezvousOptions rank0 = options(0, 2, free_port());
  const Socket other = listen_at("127.0.0.1", rank0.port);
  const std::string said = error_of([&] { Rendezvous rendezvous(rank0); });
  EXPECT_NE(said.find("port " + std::to_string(rank0.port) + " of 127.0.0.1"), std::string::npos) << said;
  EXPECT_NE(said.find("is in use by another process; set MASTER_PORT"), std::string::npos) << said;
}

TEST(Rendezvous, APortIsFreeAgainAfterTheJob) {
  const auto ranks = group(2);
  for (int i = 0; i < 3; ++i)   // connections of the one before still stand in TIME_WAIT
    EXPECT_EQ(run_ranks(ranks, [](Rendezvous& rendezvous, int) { rendezvous.goodbye(); }), kNoErrors2);
}

TEST(Rendezvous, TwoProcessesOfOneRankEndAll) {
  auto ranks = group(3);
  ranks[2].rank = 1;
  for (const std::string& error : run_ranks(ranks, [](Rendezvous&, int) { ADD_FAILURE() << "started"; }))
    EXPECT_EQ(error.find("two processes say that they are rank 1: pid "), 0u) << error;
}

TEST(Rendezvous, ADuplicateOfARankThatRunsIsKeptOut) {
  const auto ranks = group(2);
  auto late = ranks[1];
  late.start_timeout = milliseconds(2000);
  const auto errors = run_ranks(ranks, [&](Rendezvous& rendezvous, int rank) {
    if (rank == 0) {
      const std::string said = error_of([&] { Rendezvous duplicate(late); });
      EXPECT_EQ(said.find("rank 1 found no rank 0 at"), 0u) << said;   // it tries again: this job may be at its end
      EXPECT_NE(said.find("s: two processes say that they are rank 1"), std::string::npos) << said;
    }
    EXPECT_EQ(rendezvous.exchange_flag(rank), 1);
    rendezvous.goodbye();
  });
  EXPECT_EQ(errors, kNoErrors2);
}

TEST(Rendezvous, AnotherWorldSizeEndsAll) {
  auto ranks = group(2);
  ranks[1].world_size = 4;
  for (const std::string& error : run_ranks(ranks, [](Rendezvous&, int) { ADD_FAILURE() << "started"; }))
    EXPECT_NE(error.find("was started for a world size of 4, rank 0 for 2; start all with the same"),
              std::string::npos)
        << error;
}

TEST(Rendezvous, ARankOfAnotherJobIsKeptOut) {
  auto ranks = group(2);
  ranks[0].start_timeout = milliseconds(3000);
  ranks[1].job_id = "another";
  ranks[1].start_timeout = milliseconds(2000);
  const std::string says = "belongs to the job \"another\", but rank 0 at this port to \"test\"; give the jobs";
  const auto errors = run_ranks(ranks, [](Rendezvous&, int) { ADD_FAILURE() << "started"; });
  EXPECT_EQ(errors[0].find("rank 1 of 2 did not come to"), 0u) << errors[0];
  EXPECT_NE(errors[0].find("; the last to be refused: rank 1 (pid "), std::string::npos) << errors[0];
  EXPECT_EQ(errors[1].find("rank 1 found no rank 0 at"), 0u) << errors[1];
  for (const std::string& error : errors) EXPECT_NE(error.find(says), std::string::npos) << error;
}

TEST(Rendezvous, WrongCallsAreNamed) {
  EXPECT_NE(error_of([] { Rendezvous rendezvous(options(2, 2, 29501)); }).find("rank 2 of 2 is none"),
            std::string::npos);
  EXPECT_NE(error_of([] { Rendezvous rendezvous(options(0, 2, 0)); }).find("is 0, but ports go from 1 to 65535"),
            std::string::npos);
  auto no_time = options(0, 2, 29501);
  no_time.lost_timeout = milliseconds(0);
  EXPECT_NE(error_of([&] { Rendezvous rendezvous(no_time); }).find("must be more than 0 s"), std::string::npos);
  const auto errors = run_ranks(group(2), [](Rendezvous& rendezvous, int rank) {
    const std::size_t size = rank == 0 ? Rendezvous::kMostBroadcastBytes + 1 : 1;
    const std::string said = error_of([&] { rendezvous.broadcast(pattern(size)); });
    EXPECT_NE(said.find(rank == 0 ? "1048577 bytes exceeds 1048576" : "everyone gets those of rank 0"),
              std::string::npos)
        << said;
    rendezvous.goodbye();
  });
  EXPECT_EQ(errors, kNoErrors2);
}

}  // namespace
}  // namespace sinter::train
