#include "core/io/files.h"

#include <gtest/gtest.h>
#include <sys/resource.h>
#include <sys/stat.h>

#include <csignal>
#include <stdexcept>

#include "core/io/folder_lock.h"
#include "tests/core/expect_error.h"
#include "tests/core/io/scratch_folder.h"

namespace sinter {
namespace {

namespace fs = std::filesystem;
using testing::entries;
using testing::expect_error;
using testing::ScratchFolder;

TEST(Files, ReadsWithALimit) {
  const ScratchFolder folder;
  write_file_atomically(folder / "a", "12345");
  EXPECT_EQ(read_file(folder / "a", 5), "12345");
  expect_error([&] { read_file(folder / "a", 4); }, ErrorCode::bad_input, "has 5 bytes, at most 4 are read");
  expect_error([&] { read_file(folder / "b", 4); }, ErrorCode::not_found, "No such file");
  expect_error([&] { read_file(folder.path(), 4); }, ErrorCode::bad_input, "is a folder");
  ASSERT_EQ(::mkfifo((folder / "pipe").c_str(), 0600), 0);
  expect_error([&] { read_file(folder / "pipe", 4); }, ErrorCode::bad_input, "a device or a pipe");
  const InputFile file(folder / "a");
  char buffer[8];
  expect_error([&] { file.read(2, buffer, 8); }, ErrorCode::bad_input, "ends at byte 5");
}

TEST(Files, AtomicWriteReplacesOrLeavesTheOldFile) {
  const ScratchFolder folder;
  write_file_atomically(folder / "a", "old");
  write_file_atomically(folder / "a", "new");
  EXPECT_EQ(read_file(folder / "a", 10), "new");
  EXPECT_THROW(write_file_atomically(folder / "a", [](OutputFile& out) {
    out.write("half");
    throw std::runtime_error("stop");
  }), std::runtime_error);
  EXPECT_EQ(read_file(folder / "a", 10), "new");
  EXPECT_EQ(entries(folder.path()), 1);
  expect_error([&] { write_file_atomically(folder / "absent/a", "x"); }, ErrorCode::not_found, "absent");
}

// A link in the place of the target is replaced, and what it points to is not written.
TEST(Files, NeverWritesThroughALink) {
  const ScratchFolder folder;
  write_file_atomically(folder / "victim", "precious");
  fs::create_symlink(folder / "victim", folder / "link");
  expect_error([&] { OutputFile out(folder / "link"); }, ErrorCode::io, "cannot create");
  write_file_atomically(folder / "link", "x");
  EXPECT_EQ(read_file(folder / "victim", 10), "precious");
  EXPECT_FALSE(fs::is_symlink(folder / "link"));
}

TEST(Files, AFailedWriteNamesPathAndReasonAndLeavesNothing) {
  const ScratchFolder folder;
  rlimit old = {};
  ASSERT_EQ(::getrlimit(RLIMIT_FSIZE, &old), 0);
  const auto handler = std::signal(SIGXFSZ, SIG_IGN);
  const rlimit small = {4096, old.rlim_max};
  ASSERT_EQ(::setrlimit(RLIMIT_FSIZE, &small), 0);
  expect_error([&] { write_file_atomically(folder / "a", std::string(10'000, 'x')); }, ErrorCode::io, "File too large");
  EXPECT_EQ(::setrlimit(RLIMIT_FSIZE, &old), 0);
  std::signal(SIGXFSZ, handler);
  EXPECT_EQ(entries(folder.path()), 0);
}

TEST(Files, AFullDiskSaysHowMuchWasWantedAndFree) {
  errno = ENOSPC;
  expect_error([] { fail_system("write", "/tmp/m", 123); }, ErrorCode::io,
               "cannot write /tmp/m: No space left on device (123 bytes to write, ");
}

TEST(Files, ProbeCreatesTheFolderAndLeavesItEmpty) {
  const ScratchFolder folder;
  probe_writable(folder / "runs/a/");
  EXPECT_EQ(entries(folder / "runs/a"), 0);
  write_file_atomically(folder / "file", "x");
  EXPECT_THROW(probe_writable(folder / "file"), Error);
  EXPECT_THROW(probe_writable("/proc/sinter"), Error);
}

TEST(FolderLock, ASecondHolderIsTurnedAwayByNumber) {
  const ScratchFolder folder;
  {
    const FolderLock first(folder.path());
    expect_error([&] { const FolderLock second(folder.path()); }, ErrorCode::usage,
                 "is in use by process " + std::to_string(getpid()));
  }
  const FolderLock again(folder.path());
}

}  // namespace
}  // namespace sinter
