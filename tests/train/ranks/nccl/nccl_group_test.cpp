// NcclGroup over a pretended NCCL, whose ranks are threads of this process with an emulated device each: devices 0 and
// 2 compute at once, 1 and 3 when somebody waits.
#include "train/ranks/nccl/nccl_group.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <chrono>
#include <functional>
#include <iterator>
#include <latch>
#include <mutex>
#include <stdexcept>
#include <string>
#include <thread>
#include <tuple>
#include <vector>

#include "core/runtime/step_arena.h"
#include "tests/core/expect_error.h"
#include "tests/train/ranks/group_checks.h"
#include "tests/train/ranks/nccl/pretended_library.h"
#include "tests/train/ranks/nccl_cases.h"

namespace sinter::train {
namespace {

using namespace std::chrono_literals;
using sinter::testing::expect_error;
using sinter::testing::expect_usage_error;
using testing::pretended;

const nccl::Functions& functions() { return *testing::pretended_library().functions; }

std::vector<Device> devices(int ranks, int first = 0) {
  std::vector<Device> all;
  for (int r = 0; r < ranks; ++r) all.push_back(Device::simt((first + r) % 4));
  return all;
}

class NcclTest : public ::testing::Test {
 protected:
  void SetUp() override {
    ASSERT_NE(testing::pretended_library().functions, nullptr) << testing::pretended_library().why_unusable;
    pretended().fails = "";
    pretended().reports_error = false;
    for (std::atomic<int>* counter : {&pretended().destroyed, &pretended().aborted, &pretended().operations,
                                      &pretended().ended, &pretended().misused})
      *counter = 0;
  }
  void TearDown() override { EXPECT_EQ(pretended().misused, 0); }
};

// --- What it computes ---------------------------------------------------------------------------------------------

/// Sums have no order that can be compared with other groups', and calls that differ are not found out.
bool holds_for_nccl(const testing::GroupCheck& check) {
  const std::string name = check.name;
  return name != "bits_equal_those_of_local_sim" && name != "mismatches_name_the_ranks";
}

std::vector<testing::GroupCheck> group_checks() {
  std::vector<testing::GroupCheck> checks;
  std::copy_if(testing::group_checks().begin(), testing::group_checks().end(), std::back_inserter(checks),
               holds_for_nccl);
  return checks;
}

class NcclGroupCheck : public NcclTest, public ::testing::WithParamInterface<std::tuple<testing::GroupCheck, int>> {};

TEST_P(NcclGroupCheck, OnTheHost) {
  const auto& [check, ranks] = GetParam();
  testing::run_on_devices(functions(), devices(ranks), [&check = check](NcclGroup& group) { check.run(group); });
  EXPECT_EQ(pretended().destroyed, ranks);
  EXPECT_EQ(pretended().aborted, 0);
}

INSTANTIATE_TEST_SUITE_P(All, NcclGroupCheck,
                         ::testing::Combine(::testing::ValuesIn(group_checks()), ::testing::Values(1, 2, 3, 4)),
                         [](const auto& of) {
                           return std::string(std::get<0>(of.param).name) + "_" +
                                  std::to_string(std::get<1>(of.param)) + "_ranks";
                         });

class NcclGroupCase : public NcclTest,
                      public ::testing::WithParamInterface<std::tuple<testing::NcclCase, std::pair<int, int>>> {};

TEST_P(NcclGroupCase, OnDevices) {
  const auto& [tested, where] = GetParam();
  testing::run_on_devices(functions(), devices(where.first, where.second),
                          [&tested = tested](NcclGroup& group) { tested.run(group); });
}

INSTANTIATE_TEST_SUITE_P(All, NcclGroupCase,
                         ::testing::Combine(::testing::ValuesIn(testing::nccl_cases().begin(),
                                                                testing::nccl_cases().end()),
                                            ::testing::Values(std::pair(1, 0), std::pair(1, 1), std::pair(2, 0),
                                                              std::pair(2, 1), std::pair(3, 0), std::pair(4, 0))),
                         [](const auto& of) {
                           const auto where = std::get<1>(of.param);
                           return std::string(std::get<0>(of.param).name) + "_" + std::to_string(where.first) +
                                  "_ranks_from_" + std::to_string(where.second);
                         });

/// More than there are marks, in a stream that runs nothing until somebody waits.
TEST_F(NcclTest, ManyOperationsUnderWay) {
  testing::run_on_devices(functions(), {Device::simt(1)}, [](NcclGroup& group) {
    const Tensor x = Tensor::ones({4}, {Dtype::f32, group.device()});
    std::vector<std::unique_ptr<Work>> works;
    for (int i = 0; i < 9000; ++i) works.push_back(group.all_reduce_async(x));
    EXPECT_GE(pretended().ended, 9000 - 4096);   // the host has waited for the oldest
    for (const auto& work : works) work->wait();
    EXPECT_EQ(x.to(Device::cpu()).to_vector<float>(), std::vector<float>(4, 1));
  });
}

TEST_F(NcclTest, EmptyOperationsAskNothing) {
  testing::run_on_devices(functions(), devices(2), [](NcclGroup& group) {
    const Tensor none = Tensor::empty({0}, {Dtype::f32, group.device()});
    group.all_reduce(none, ReduceKind::max);
    group.all_reduce_async(none)->wait();
    group.reduce_scatter(none, Tensor::empty({0}, {Dtype::f32, group.device()}));
    group.all_gather(none, Tensor::empty({0}, {Dtype::f32, group.device()}));
    group.broadcast(none);
    EXPECT_TRUE(group.all_reduce_sums({}).empty());
  });
  EXPECT_EQ(pretended().operations, 2);   // those at the end
}

// --- What goes wrong ----------------------------------------------------------------------------------------------

/// Sentences that on_failure got, by whichever thread.
struct Told {
  std::mutex mutex;
  std::vector<std::string> sentences;

  NcclOptions options(std::chrono::milliseconds timeout) {
    return {.timeout = timeout, .on_failure = [this](const std::string& sentence) {
              const std::lock_guard lock(mutex);
              sentences.push_back(sentence);
            }};
  }
};

TEST_F(NcclTest, AnErrorOfNcclBreaksTheGroup) {
  const auto fails = [](const char* function, const std::string& operation, auto&& call) {
    Told told;
    NcclGroup group(functions(), make_unique_id(functions()), 0, 1, Device::simt(), told.options(60s));
    pretended().fails = function;
    const int aborted = pretended().aborted;
    const std::string says = operation + " failed on rank 0 in NCCL: unhandled system error: the cable is cut";
    expect_error([&] { call(group); }, ErrorCode::io, says);
    pretended().fails = "";
    // The first failure is said again, and NCCL is not called any more.
    const int operations = pretended().operations;
    expect_error([&] { group.barrier(); }, ErrorCode::io, says);
    expect_error([&] { group.finish(); }, ErrorCode::io, says);
    EXPECT_EQ(pretended().operations, operations);
    for (int i = 0; i < 2000 && pretended().aborted == aborted; ++i) std::this_thread::sleep_for(1ms);
    EXPECT_EQ(pretended().aborted, aborted + 1);
    EXPECT_TRUE(told.sentences.empty());   // who called knows
  };
  const TensorOptions there{Dtype::f32, Device::simt()};
  const Tensor x = Tensor::zeros({4}, there), y = Tensor::zeros({4}, there);
  fails("AllReduce", "all_reduce (sum) of 4 elements of f32", [&](NcclGroup& group) { group.all_reduce(x); });
  fails("AllReduce", "all_reduce (max) of 4 elements of f32",
        [&](NcclGroup& group) { (void)group.all_reduce_async(x, ReduceKind::max); });
  fails("ReduceScatter", "reduce_scatter (sum) of 4 elements of f32",
        [&](NcclGroup& group) { group.reduce_scatter(x, y); });
  fails("AllGather", "all_gather of 4 elements of f32", [&](NcclGroup& group) { group.all_gather(x, y); });
  fails("Broadcast", "broadcast (root 0) of 4 elements of f32", [&](NcclGroup& group) { group.broadcast(x); });
  fails("AllReduce", "barrier", [](NcclGroup& group) { group.barrier(); });
  fails("AllGather", "all_reduce (sum) of 2 elements of f64",
        [](NcclGroup& group) { (void)group.all_reduce_sums(std::vector<double>{1, 2}); });
  EXPECT_EQ(pretended().destroyed, 0);
}

TEST_F(NcclTest, AnErrorInTheMiddleOfACapture) {
  NcclGroup group(functions(), make_unique_id(functions()), 0, 1, Device::simt());
  const Tensor x = Tensor::zeros({4}, {Dtype::f32, Device::simt()});
  StepArena arena(Device::simt());
  const auto step = [&] { group.all_reduce(x); };
  const StepPlan plan = arena.observe(step);
  pretended().fails = "AllReduce";
  expect_error([&] { const StepGraph graph = arena.capture(plan, step); }, ErrorCode::io,
               "all_reduce (sum) of 4 elements of f32 failed on rank 0 in NCCL");
  EXPECT_FALSE(is_captured(Device::simt()));
}

TEST_F(NcclTest, ErrorsAtTheBeginningAndTheEnd) {
  pretended().fails = "GetUniqueId";
  expect_error([] { make_unique_id(functions()); }, ErrorCode::io,
               "NCCL makes no id for the ranks: unhandled system error: the cable is cut");
  pretended().fails = "CommInitRank";
  const nccl::UniqueId id{};
  expect_error([&] { NcclGroup group(functions(), id, 2, 4, Device::simt(1)); }, ErrorCode::io,
               "NCCL does not start on rank 2 (simt:1): unhandled system error: the cable is cut");
  pretended().fails = "";
  expect_error([&] { NcclGroup group(functions(), make_unique_id(functions()), 0, 1, Device::simt(17)); },
               ErrorCode::not_found, "device simt:17 is not usable");
  NcclGroup group(functions(), make_unique_id(functions()), 0, 1, Device::simt());
  pretended().fails = "CommDestroy";
  expect_error([&] { group.finish(); }, ErrorCode::io, "the end of the group failed on rank 0 in NCCL");
}

TEST_F(NcclTest, ARankThatDoesNotConnect) {
  const NcclOptions options{.start_timeout = 50ms};
  expect_error([&] { NcclGroup group(functions(), make_unique_id(functions()), 1, 2, Device::simt(), options); },
               ErrorCode::io, "NCCL has not connected rank 1 with the others within 0.05 s; with NCCL_DEBUG=INFO");
}

/// Two ranks of which `present` makes `call`, and the other does nothing for a while and ends of an exception.
void leave_alone(int present, Told& told, std::chrono::milliseconds timeout,
                 const std::function<void(NcclGroup&)>& call) {
  const nccl::UniqueId id = make_unique_id(functions());
  std::vector<std::jthread> threads;
  for (int r = 0; r < 2; ++r)
    threads.emplace_back([&, r] {
      try {
        NcclGroup group(functions(), id, r, 2, Device::simt(r), told.options(timeout));
        if (r == present) return call(group);
        std::this_thread::sleep_for(800ms);   // nothing is under way, and that may last as long as it likes
        throw std::runtime_error("a bad row");
      } catch (const std::runtime_error& error) {
        EXPECT_STREQ(error.what(), "a bad row");
      }
    });
}

std::string not_ended(const std::string& operation, int rank, const std::string& timeout = "0.2 s") {
  return operation + " did not end on rank " + std::to_string(rank) + " within " + timeout +
         ": another rank hangs, has ended, or calls another operation";
}

/// The call of device 0 waits in NCCL, that of device 1 returns and the host waits behind it.
TEST_F(NcclTest, AnOperationThatDoesNotEndIsAborted) {
  for (const int present : {0, 1}) {
    Told told;
    const std::string says = not_ended("all_reduce (sum) of 4 elements of f32", present);
    leave_alone(present, told, 200ms, [&](NcclGroup& group) {
      const Tensor x = Tensor::zeros({4}, {Dtype::f32, group.device()});
      const auto reduce_and_read = [&] {
        group.all_reduce(x);
        (void)x.to(Device::cpu());   // whatever it holds
        group.barrier();
      };
      expect_error(reduce_and_read, ErrorCode::io, says);
      expect_error([&] { group.barrier(); }, ErrorCode::io, says);
      expect_error([&] { (void)group.all_reduce_async(x); }, ErrorCode::io, says);
    });
    EXPECT_EQ(told.sentences, std::vector<std::string>{says});
    EXPECT_EQ(pretended().destroyed, 0);
    EXPECT_EQ(pretended().aborted, 2 * (present + 1));
  }
}

TEST_F(NcclTest, AHostWaitThatDoesNotEndIsAborted) {
  for (const int present : {0, 1}) {
    Told told;
    leave_alone(present, told, 200ms, [&](NcclGroup& group) {
      expect_error([&] { group.barrier(); }, ErrorCode::io, not_ended("barrier", present));
    });
    leave_alone(present, told, 200ms, [&](NcclGroup& group) {
      expect_error([&] { (void)group.all_reduce_sums(std::vector<double>{1}); }, ErrorCode::io,
                   not_ended("all_reduce (sum) of 1 elements of f64", present));
    });
    EXPECT_EQ(told.sentences.size(), 2u);
  }
}

TEST_F(NcclTest, AWorkThatDoesNotEndIsAborted) {
  Told told;
  leave_alone(1, told, 200ms, [&](NcclGroup& group) {
    const Tensor x = Tensor::zeros({4}, {Dtype::f32, group.device()});
    const std::unique_ptr<Work> work = group.all_reduce_async(x);
    std::this_thread::sleep_for(500ms);
    expect_error([&] { work->wait(); }, ErrorCode::io, not_ended("all_reduce (sum) of 4 elements of f32", 1));
    work->wait();   // again does nothing
  });
}

// A replayed step calls nothing of NCCL, and is watched all the same; on a device whose launches wait for the step, and
// on one where the host goes on.
TEST_F(NcclTest, ACapturedStepThatDoesNotEndIsAborted) {
  for (const int present : {0, 1}) {
    const nccl::UniqueId id = make_unique_id(functions());
    Told told;
    std::latch both_have_replayed(2), one_has_seen_it(1);
    std::vector<std::jthread> threads;
    for (int r = 0; r < 2; ++r)
      threads.emplace_back([&, r] {
        NcclGroup group(functions(), id, r, 2, Device::simt(r), told.options(r == present ? 2s : 60s));
        const Tensor x = Tensor::ones({4}, {Dtype::f32, group.device()});
        StepArena arena(group.device());
        const auto step = [&] { group.all_reduce(x); };
        const StepGraph graph = arena.capture(arena.observe(step), step);
        group.launch(graph);
        group.barrier();
        both_have_replayed.arrive_and_wait();
        if (r != present) return one_has_seen_it.wait(), group.abandon();
        const auto replay_and_read = [&] {
          group.launch(graph);
          (void)x.to(Device::cpu());   // whatever it holds
          group.barrier();
        };
        const std::string says = not_ended("what a captured step holds", present, "2 s");
        expect_error(replay_and_read, ErrorCode::io, says);
        expect_error([&] { group.launch(graph); }, ErrorCode::io, says);
        one_has_seen_it.count_down();
      });
  }
}

TEST_F(NcclTest, RanksThatDisagreeEndInTime) {
  const nccl::UniqueId id = make_unique_id(functions());
  std::vector<std::jthread> threads;
  for (int r = 0; r < 2; ++r)
    threads.emplace_back([&id, r] {
      NcclGroup group(functions(), id, r, 2, Device::simt(r), {.timeout = 200ms});
      const Tensor x = Tensor::zeros({4 + r}, {Dtype::f32, group.device()});
      expect_error([&] { group.all_reduce(x), group.barrier(); }, ErrorCode::io,
                   not_ended("all_reduce (sum) of " + std::to_string(4 + r) + " elements of f32", r));
    });
  threads.clear();
  EXPECT_EQ(pretended().aborted, 2);
}

TEST_F(NcclTest, NcclsOwnReportsEndAWait) {
  Told told;
  const std::string says = "barrier failed on rank 0 in NCCL: unhandled system error: the cable is cut";
  leave_alone(0, told, 60s, [&](NcclGroup& group) {
    const std::jthread cutter([] {
      std::this_thread::sleep_for(100ms);
      pretended().reports_error = true;
    });
    expect_error([&] { group.barrier(); }, ErrorCode::io, says);
  });
  ASSERT_FALSE(told.sentences.empty());
  EXPECT_NE(std::find(told.sentences.begin(), told.sentences.end(), says), told.sentences.end());
}

TEST_F(NcclTest, NcclsOwnReportsBetweenOperations) {
  Told told;
  NcclGroup group(functions(), make_unique_id(functions()), 0, 1, Device::simt(), told.options(60s));
  pretended().reports_error = true;
  for (int i = 0; i < 2000 && pretended().aborted == 0; ++i) std::this_thread::sleep_for(1ms);
  const std::string says =
      "the connection of the ranks failed on rank 0 in NCCL: unhandled system error: the cable is cut";
  expect_error([&] { group.barrier(); }, ErrorCode::io, says);
  EXPECT_EQ(told.sentences, std::vector<std::string>{says});
}

/// Time counts from the end of the operation before: a queue of them may last longer than one.
TEST_F(NcclTest, SlowRanksAreNotLost) {
  Told told;
  testing::run_on_devices(functions(), devices(2, 1), [](NcclGroup& group) {
    const Tensor x = Tensor::ones({4}, {Dtype::f32, group.device()});
    std::vector<std::unique_ptr<Work>> works;
    for (int i = 0; i < 6; ++i) {
      if (group.rank() == 1) std::this_thread::sleep_for(300ms);
      works.push_back(group.all_reduce_async(x));
    }
    for (const auto& work : works) work->wait();
    EXPECT_EQ(x.to(Device::cpu()).to_vector<float>(), std::vector<float>(4, 64));
  }, told.options(1000ms));
  EXPECT_TRUE(told.sentences.empty());
  EXPECT_EQ(pretended().destroyed, 2);
}

TEST_F(NcclTest, NothingFollowsTheEnd) {
  testing::run_on_devices(functions(), devices(2), [](NcclGroup& group) {
    group.finish();
    expect_usage_error([&] { group.barrier(); }, "barrier in a group that has finished");
    const Tensor x = Tensor::zeros({4}, {Dtype::f32, group.device()});
    expect_usage_error([&] { group.all_reduce(x); }, "all_reduce in a group that has finished");
  });
  EXPECT_EQ(pretended().destroyed, 2);
}

TEST_F(NcclTest, TheDestructorFinishes) {
  { NcclGroup group(functions(), make_unique_id(functions()), 0, 1, Device::simt()); }
  EXPECT_EQ(pretended().destroyed, 1);
  EXPECT_EQ(pretended().aborted, 0);
}

// --- The library --------------------------------------------------------------------------------------------------

TEST_F(NcclTest, TheLibrarySaysItsVersion) { EXPECT_EQ(testing::pretended_library().version, "NCCL 2.30.7"); }

TEST(NcclLibrary, SaysWhyItCannotBeUsed) {
  const NcclLibrary none = load_nccl({"/nowhere/libnccl.so.2", "/nowhere/else/libnccl.so.2"});
  EXPECT_EQ(none.functions, nullptr);
  EXPECT_EQ(none.why_unusable, "there is no libnccl.so.2 (/nowhere/libnccl.so.2: cannot open shared object file: No "
                               "such file or directory)");
  EXPECT_EQ(load_nccl({"libm.so.6"}).why_unusable, "libnccl.so.2 has no function ncclGetVersion");
  const std::vector<std::string> places = nccl_places();
  ASSERT_EQ(places.size(), 2u);
  EXPECT_EQ(places[0], "libnccl.so.2");
  EXPECT_TRUE(places[1].ends_with("/lib64/libnccl.so.2")) << places[1];
}

}  // namespace
}  // namespace sinter::train
