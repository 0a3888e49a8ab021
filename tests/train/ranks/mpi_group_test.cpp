// MpiGroup over ranks that are threads, and what load_mpi() says where there is no MPI. tests/train/ranks/mpi.sh runs
// the same checks over MPI itself.
#include "train/ranks/mpi/mpi_group.h"

#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <string>
#include <tuple>

#include "tests/core/expect_error.h"
#include "tests/core/io/scratch_folder.h"
#include "tests/train/ranks/group_checks.h"
#include "tests/train/ranks/mpi_threads.h"

namespace sinter::train {
namespace {

namespace fs = std::filesystem;
using sinter::testing::expect_error;
using sinter::testing::expect_usage_error;

class MpiGroupOfThreads : public ::testing::TestWithParam<std::tuple<testing::GroupCheck, int>> {};

TEST_P(MpiGroupOfThreads, Check) {
  const auto& [check, ranks] = GetParam();
  testing::run_threads(ranks, [&check = check] {
    // Pieces of a few elements: most tensors have several, and some elements fill a piece alone.
    MpiGroup group(testing::threads_table(), {.piece_bytes = 400});
    check.run(group);
    group.finish();
  });
}

INSTANTIATE_TEST_SUITE_P(All, MpiGroupOfThreads,
                         ::testing::Combine(::testing::ValuesIn(testing::group_checks().begin(),
                                                                testing::group_checks().end()),
                                            ::testing::Values(1, 2, 3, 5)),
                         [](const auto& of) {
                           return std::string(std::get<0>(of.param).name) + "_" +
                                  std::to_string(std::get<1>(of.param)) + "_ranks";
                         });

TEST(MpiGroup, TensorsOfManyPieces) {
  for (const std::size_t piece_bytes : {std::size_t{1}, std::size_t{4096}, std::size_t{1} << 20})
    testing::run_threads(3, [&] {
      MpiGroup group(testing::threads_table(), {.piece_bytes = piece_bytes});
      testing::check_numel(group, piece_bytes == 1 ? 301 : 3 * 4096 + 5);
      testing::check_numel(group, piece_bytes == 1 ? 300 : 3 * 4096);
    });
}

TEST(MpiGroup, ARankThatEndsEarly) {
  for (const int ranks : {2, 3})
    testing::run_threads(ranks, [] {
      MpiGroup group(testing::threads_table());
      testing::check_early_end(group, [](ProcessGroup& g) { dynamic_cast<MpiGroup&>(g).finish(); });
      expect_usage_error([&] { group.barrier(); }, "rank");
    });
}

TEST(MpiGroup, ARankThatThrowsEndsTheWaitOfTheOthers) {
  testing::run_threads(3, [] {
    std::string said;
    try {
      MpiGroup group(testing::threads_table());
      if (group.rank() == 1) fail(ErrorCode::bad_input, "rank 1 met a bad row");
      group.all_reduce(Tensor::zeros({4}));
    } catch (const Error& error) {
      said = error.what();
    }
    EXPECT_TRUE(said == "rank 1 met a bad row" || said.starts_with("rank 1 returned while rank ")) << said;
  });
}

TEST(MpiGroup, NothingFollowsTheEnd) {
  testing::run_threads(2, [] {
    MpiGroup group(testing::threads_table());
    group.finish();
    group.finish();
    expect_usage_error([&] { group.barrier(); }, "barrier in a group that has finished");
  });
}

TEST(MpiGroup, AFailureOfMpiBreaksTheGroup) {
  const auto fails = [](const char* function, const std::string& operation, auto&& call) {
    testing::be_alone(function);
    MpiGroup group(testing::threads_table());
    const std::string says = operation + " failed on rank 0 in MPI: MPI_Test: the cable is cut";
    expect_error([&] { call(group); }, ErrorCode::io, says);
    // The first failure is said again, and what fails is not called again.
    expect_error([&] { group.broadcast(Tensor::zeros({3})); }, ErrorCode::io, says);
    expect_error([&] { group.finish(); }, ErrorCode::io, says);
  };
  const auto all_reduce = [](MpiGroup& group) { group.all_reduce(Tensor::zeros({4})); };
  const auto all_gather = [](MpiGroup& group) { group.all_gather(Tensor::zeros({4}), Tensor::zeros({4})); };
  fails("all_gather", "all_reduce", all_reduce);
  fails("begin_exchange", "all_reduce", all_reduce);
  fails("wait", "all_reduce", all_reduce);
  fails("begin_exchange", "all_gather", all_gather);
  fails("wait", "all_gather", all_gather);
  fails("broadcast", "broadcast", [](MpiGroup& group) { group.broadcast(Tensor::zeros({4})); });
  fails("all_gather", "barrier", [](MpiGroup& group) { group.barrier(); });
  fails("all_gather", "the end of the group", [](MpiGroup& group) { group.finish(); });
  fails("finish", "the end of the group", [](MpiGroup& group) { group.finish(); });
  testing::be_alone("start");
  expect_error([] { MpiGroup group(testing::threads_table()); }, ErrorCode::io,
               "MPI does not start: MPI_Test: the cable is cut");
}

void expect_unusable(const fs::path& folder, const std::string& words) {
  const MpiLibrary library = load_mpi({folder});
  EXPECT_EQ(library.table, nullptr);
  EXPECT_NE(library.why_unusable.find(words), std::string::npos) << library.why_unusable;
}

TEST(MpiLibrary, SaysWhyItCannotBeUsed) {
  const sinter::testing::ScratchFolder scratch;
  const fs::path& folder = scratch.path();
  expect_unusable(folder, "it was not built: there is no libsinter_mpi.so in " + folder.string());
  std::ofstream(folder / "libsinter_mpi.so") << "no library";
  expect_unusable(folder, "its library cannot be loaded (");
  const fs::path libraries = SINTER_TEST_MPI_LIBRARIES;
  expect_unusable(libraries / "other_version", "libsinter_mpi.so belongs to another version of sinter (its interface "
                                               "has number 999, this program's " + std::to_string(kMpiAbi) + ")");
  expect_unusable(libraries / "no_module", "libsinter_mpi.so is no MPI module of sinter (");
}

}  // namespace
}  // namespace sinter::train
