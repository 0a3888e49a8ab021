// A World whose ranks have emulated devices and the pretended NCCL.
#include "train/ranks/world.h"

#include <gtest/gtest.h>

#include <chrono>
#include <cstdio>
#include <functional>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "tests/core/expect_error.h"
#include "tests/train/ranks/nccl/pretended_library.h"
#include "tests/train/ranks/rendezvous_fixture.h"

namespace sinter::train {
namespace {

using namespace std::chrono_literals;
using sinter::testing::expect_error;
using sinter::testing::expect_usage_error;

LaunchEnvironment rank_of(int rank, int ranks, int port) {
  return {.rank = rank, .world_size = ranks, .local_rank = rank, .local_world_size = ranks, .master_port = port - 1,
          .launcher = "torchrun", .job_id = "test"};
}

/// Each rank in a thread; `timeout` is the World's.
void run_world(int ranks, std::chrono::seconds timeout, const std::function<void(World&)>& rank) {
  const int port = testing::free_port();
  std::vector<std::jthread> threads;
  for (int r = 0; r < ranks; ++r)
    threads.emplace_back([&, r] {
      try {
        World world(rank_of(r, ranks, port), Device::simt(r), timeout, testing::pretended_library());
        rank(world);
      } catch (const std::exception& error) {
        ADD_FAILURE() << "rank " << r << " threw: " << error.what();
      }
    });
}

TEST(NcclWorld, ConnectsTheRanksAndEndsThem) {
  const int destroyed = testing::pretended().destroyed;
  run_world(3, 60s, [](World& world) {
    EXPECT_EQ(world.size(), 3);
    const Tensor x = Tensor::full({2}, world.rank(), {Dtype::f32, world.group()->device()});
    EXPECT_EQ(x.device(), Device::simt(world.rank()));
    world.group()->all_reduce(x);
    EXPECT_EQ(x.to(Device::cpu()).to_vector<float>(), std::vector<float>(2, 3));
    world.end();
    expect_usage_error([&] { world.group()->barrier(); }, "barrier in a group that has finished");
  });
  EXPECT_EQ(testing::pretended().destroyed, destroyed + 3);
}

/// Who still writes a model is waited for at the end, however long NCCL would wait: ten times the World's timeout.
TEST(NcclWorld, ALateRankIsWaitedForAtTheEnd) {
  run_world(2, 1s, [](World& world) {
    if (world.rank() == 0) std::this_thread::sleep_for(10500ms);
    world.end();
  });
}

/// The process ends, though its threads hang or sleep.
TEST(NcclWorldDeathTest, ARankThatHangsEndsAll) {
  GTEST_FLAG_SET(death_test_style, "threadsafe");
  EXPECT_EXIT(
      run_world(2, 1s, [](World& world) {
        if (world.rank() == 1) std::this_thread::sleep_for(60s);
        world.group()->barrier();
      }),
      ::testing::ExitedWithCode(1),
      "sinter: rank 0 \\(pid .*failed.*barrier did not end on rank 0 within 10 s: another rank hangs");
}

TEST(NcclWorld, SaysWhyThereIsNoNccl) {
  const NcclLibrary none = load_nccl({"/nowhere/libnccl.so.2"});
  expect_error([&] { World world(rank_of(0, 2, 1024), Device::simt(), 1s, none); }, ErrorCode::not_found,
               "torchrun started 2 ranks, but NCCL, which connects GPUs, cannot be used: there is no libnccl.so.2 (");
}

TEST(NcclWorldDeathTest, AnErrorOfRankZeroReachesTheOthers) {
  GTEST_FLAG_SET(death_test_style, "threadsafe");
  EXPECT_EXIT(
      {
        testing::pretended().fails = "GetUniqueId";
        const int port = testing::free_port();
        std::vector<std::jthread> threads;
        for (int r = 0; r < 2; ++r)
          threads.emplace_back([port, r] {
            try {
              World world(rank_of(r, 2, port), Device::simt(r), 60s, testing::pretended_library());
            } catch (const Error& error) {
              if (r == 0) std::fprintf(stderr, "rank 0 said: %s\n", error.what());
              std::this_thread::sleep_for(60s);
            }
          });
      },
      ::testing::ExitedWithCode(1), "rank 0 said: NCCL makes no id for the ranks: unhandled system error");
}

/// Whoever still has the group of a World that is gone cannot hang in it.
TEST(NcclWorldDeathTest, AGroupEndsWithItsWorld) {
  GTEST_FLAG_SET(death_test_style, "threadsafe");
  EXPECT_EXIT(
      {
        const int port = testing::free_port();
        std::vector<std::jthread> threads;
        for (int r = 0; r < 2; ++r)
          threads.emplace_back([port, r] {
            auto world = std::make_unique<World>(rank_of(r, 2, port), Device::simt(r), 60s,
                                                 testing::pretended_library());
            const std::shared_ptr<ProcessGroup> group = world->group();
            if (r == 1) {
              world.reset();   // an exception, say
              std::fprintf(stderr, "%s\n", testing::error_of([&] { group->barrier(); }).c_str());
            }
            std::this_thread::sleep_for(60s);
          });
      },
      ::testing::ExitedWithCode(1), "barrier in a group that has finished");
}

TEST(DeviceOfRank, EachRankTakesItsOwn) {
  const LaunchEnvironment second = rank_of(1, 4, 1024);
  EXPECT_EQ(device_of_rank(second, Device::cuda(), false, 4), Device::cuda(1));
  EXPECT_EQ(device_of_rank(second, Device::cuda(), false, 1), Device::cuda());   // each rank sees another
  EXPECT_EQ(device_of_rank(second, Device::cuda(), true, 1), Device::cuda());
  EXPECT_EQ(device_of_rank(second, Device::cuda(1), true, 4), Device::cuda(1));
  EXPECT_EQ(device_of_rank(second, Device::simt(2), true, 4), Device::simt(2));
  EXPECT_EQ(device_of_rank(second, Device::cpu(), false, 4), Device::cpu());
  EXPECT_EQ(device_of_rank({}, Device::cuda(3), true, 4), Device::cuda(3));
  expect_usage_error([&] { device_of_rank(second, Device::cuda(0), true, 4); },
                     "device is cuda:0, but torchrun started 4 ranks, and rank 1 takes cuda:1; pass --device cuda");
  expect_usage_error([&] { device_of_rank(rank_of(3, 4, 1024), Device::cuda(), false, 2); },
                     "start at most 2 ranks on a node");
}

}  // namespace
}  // namespace sinter::train
