// One rank of an MPI job, started by tests/train/ranks/mpi.sh: the checks of every ProcessGroup over MPI itself.
//
//   mpi_ranks [--gtest_...] checks <piece_bytes> <message_bytes>   all checks, small tensors
//   mpi_ranks [--gtest_...] large                                  tensors of many pieces as they are by default
//   mpi_ranks aborts                                               the last rank ends all with exit code 7
//
// Exit code 77 and one line where MPI is not usable.
#include <gtest/gtest.h>

#include <chrono>
#include <cstdio>
#include <exception>
#include <string>
#include <string_view>
#include <thread>

#include "core/error.h"
#include "tests/core/expect_error.h"
#include "tests/train/ranks/group_checks.h"
#include "train/ranks/mpi/mpi_group.h"

namespace sinter::train {
namespace {

/// A GoogleTest that runs one function on the group.
class OnGroup : public ::testing::Test {
 public:
  OnGroup(MpiGroup& group, void (*act)(ProcessGroup&)) : group_(group), act_(act) {}
  void TestBody() override { act_(group_); }

 private:
  MpiGroup& group_;
  void (*act_)(ProcessGroup&);
};

void add(MpiGroup& group, const char* name, void (*act)(ProcessGroup&)) {
  ::testing::RegisterTest("MpiRanks", name, nullptr, nullptr, __FILE__, __LINE__,
                          [&group, act]() -> ::testing::Test* { return new OnGroup(group, act); });
}

void starts_only_once(ProcessGroup&) {
  sinter::testing::expect_error([] { MpiGroup second(*load_mpi().table); }, ErrorCode::io,
                                "MPI does not start: MPI_Init_thread: MPI was started in this process before");
}

void large(ProcessGroup& group) {
  for (const std::int64_t numel : {1'500'000, 3'000'017}) testing::check_numel(group, numel);
}

/// Runs last, because no operation can follow.
void early_end(ProcessGroup& group) {
  if (group.size() < 2) return;
  testing::check_early_end(group, [](ProcessGroup& g) { dynamic_cast<MpiGroup&>(g).finish(); });
}

int run(int argc, char** argv) {
  ::testing::InitGoogleTest(&argc, argv);
  const std::string_view what = argc > 1 ? argv[1] : "";
  const MpiLibrary mpi = load_mpi();
  if (mpi.table == nullptr) {
    std::printf("MPI is not usable: %s\n", mpi.why_unusable.c_str());
    return 77;
  }
  MpiOptions options;
  if (what == "checks" && argc == 4) options = {std::stoull(argv[2]), std::stoull(argv[3])};
  MpiGroup group(*mpi.table, options);
  if (group.rank() == 0) std::printf("%s, %d ranks\n", mpi.table->library(), group.size());
  if (what == "aborts") {
    if (group.rank() == group.size() - 1) group.abort(7);
    std::this_thread::sleep_for(std::chrono::minutes(10));
    return 1;
  }
  if (what == "large") {
    add(group, "large", large);
  } else {
    for (const testing::GroupCheck& check : testing::group_checks()) add(group, check.name, check.run);
    add(group, "starts_only_once", starts_only_once);
  }
  add(group, "early_end", early_end);
  return RUN_ALL_TESTS();
}

}  // namespace
}  // namespace sinter::train

int main(int argc, char** argv) {
  try {
    return sinter::train::run(argc, argv);
  } catch (const std::exception& error) {
    std::fprintf(stderr, "mpi_ranks: %s\n", error.what());
    return 1;
  }
}
