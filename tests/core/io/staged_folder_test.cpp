#include "core/io/staged_folder.h"

#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <fstream>

#include "tests/core/expect_error.h"
#include "tests/core/io/scratch_folder.h"

namespace sinter {
namespace {

namespace fs = std::filesystem;
using testing::entries;
using testing::expect_error;
using testing::ScratchFolder;

void save(const fs::path& target, std::string_view weights) {
  StagedFolder folder(target);
  folder.write("model.safetensors", weights);
  folder.write("config.json", "{}");
  folder.commit(Json::object({{"step", 500}}));
}

void overwrite(const fs::path& path, std::string_view bytes) {
  std::ofstream(path, std::ios::binary) << bytes;
}

TEST(StagedFolder, CommitsFilesWithAManifest) {
  const ScratchFolder scratch;
  save(scratch / "runs/checkpoint-500/", "weights");
  EXPECT_EQ(entries(scratch / "runs"), 1);
  const Json manifest = Json::load(scratch / "runs/checkpoint-500/manifest.json");
  EXPECT_EQ(manifest.get<std::int64_t>("step"), 500);
  EXPECT_EQ(manifest.get<std::int64_t>("format_version"), 1);
  const Json& first = manifest.at("files").elements()[0];
  EXPECT_EQ(first.get<std::string>("name"), "model.safetensors");
  EXPECT_EQ(first.get<std::int64_t>("size"), 7);
  EXPECT_EQ(first.get<std::string>("sha256"), sha256("weights"));
  EXPECT_TRUE(verify_manifest(scratch / "runs/checkpoint-500").empty());
}

TEST(StagedFolder, WithoutCommitNothingStays) {
  const ScratchFolder scratch;
  save(scratch / "c", "old");
  {
    StagedFolder folder(scratch / "c");
    folder.write("model.safetensors", "new");
    EXPECT_THROW(folder.write("b", [](OutputFile& out) { out.write("half"); throw std::runtime_error("stop"); }),
                 std::runtime_error);
    EXPECT_EQ(entries(scratch.path()), 2);
  }
  EXPECT_EQ(entries(scratch.path()), 1);
  EXPECT_EQ(read_file(scratch / "c/model.safetensors", 10), "old");
}

TEST(StagedFolder, ExchangesAFolderOfItsOwn) {
  const ScratchFolder scratch;
  fs::create_directory(scratch / "c");
  save(scratch / "c", "old");
  save(scratch / "c", "newer");
  EXPECT_EQ(read_file(scratch / "c/model.safetensors", 10), "newer");
  EXPECT_EQ(entries(scratch.path()), 1);
}

TEST(StagedFolder, NeverReplacesForeignFiles) {
  const ScratchFolder scratch;
  save(scratch / "c", "old");
  overwrite(scratch / "c/thesis.tex", "years of work");
  expect_error([&] { save(scratch / "c", "new"); }, ErrorCode::usage, "thesis.tex");
  fs::create_directories(scratch / "home/documents");
  expect_error([&] { save(scratch / "home", "new"); }, ErrorCode::usage, "documents");
  overwrite(scratch / "file", "x");
  expect_error([&] { save(scratch / "file", "new"); }, ErrorCode::usage, "is not a folder");
  EXPECT_EQ(read_file(scratch / "c/thesis.tex", 100), "years of work");
  EXPECT_EQ(entries(scratch.path()), 3);
}

TEST(StagedFolder, TakesPlainNamesOnce) {
  const ScratchFolder scratch;
  StagedFolder folder(scratch / "c");
  for (const char* name : {"", ".", "..", "../x", "a/b", "/etc/x", "manifest.json"})
    expect_error([&] { folder.write(name, "x"); }, ErrorCode::usage, "is no name for a file");
  folder.write("a", "x");
  expect_error([&] { folder.write("a", "x"); }, ErrorCode::io, "File exists");
}

// A process that dies at any point of a save leaves the old folder or the new one, whole, and leftovers that go away.
TEST(StagedFolder, KilledSavesLeaveAWholeFolder) {
  const ScratchFolder scratch;
  save(scratch / "c", "old");
  for (int point = 0; point < 4; ++point) {
    const pid_t child = ::fork();
    ASSERT_GE(child, 0);
    if (child == 0) {
      StagedFolder folder(scratch / "c");
      if (point == 0) ::_exit(0);
      folder.write("model.safetensors", "new");
      if (point == 1) ::_exit(0);
      if (point == 2) folder.write("half", [](OutputFile& out) { out.write("half"); ::_exit(0); });
      folder.commit();
      ::_exit(0);
    }
    ASSERT_EQ(::waitpid(child, nullptr, 0), child);
    EXPECT_TRUE(verify_manifest(scratch / "c").empty()) << point;
    EXPECT_EQ(read_file(scratch / "c/model.safetensors", 10), point == 3 ? "new" : "old");
    EXPECT_EQ(remove_leftovers(scratch.path()), point == 3 ? 0 : 1);
    EXPECT_EQ(entries(scratch.path()), 1);
  }
}

// Containers give the same process number again and again.
TEST(StagedFolder, ALeftoverWithOurProcessNumberIsNoObstacle) {
  const ScratchFolder scratch;
  fs::create_directory(scratch / (".tmp-c." + std::to_string(::getpid())));
  save(scratch / "c", "x");
  EXPECT_TRUE(verify_manifest(scratch / "c").empty());
  EXPECT_EQ(remove_leftovers(scratch.path()), 1);
}

TEST(StagedFolder, OnlyUnfinishedNamesAreLeftovers) {
  for (const char* name : {".tmp-c.12", ".tmp-checkpoint-8.12-1", ".tmp-model.safetensors.77", ".tmp-c.12.old"})
    EXPECT_TRUE(is_leftover(name)) << name;
  for (const char* name : {".tmp-mine", ".tmp-.12", ".tmp-a.b", ".tmp-c.", "c.12", ".lock", ".tmp"})
    EXPECT_FALSE(is_leftover(name)) << name;
}

TEST(StagedFolder, IsRemovedOnlyWithoutForeignEntries) {
  const ScratchFolder scratch;
  save(scratch / "c", "x");
  write_file_atomically(scratch / "c/thesis.tex", "mine");
  EXPECT_NE(remove_staged(scratch / "c").find("holds thesis.tex"), std::string::npos);
  fs::create_directory_symlink(scratch / "c", scratch / "link");
  EXPECT_NE(remove_staged(scratch / "link").find("is not a folder"), std::string::npos);
  EXPECT_TRUE(fs::exists(scratch / "c/model.safetensors"));
  fs::remove(scratch / "link");
  fs::remove(scratch / "c/thesis.tex");
  EXPECT_EQ(remove_staged(scratch / "c"), "");
  EXPECT_EQ(entries(scratch.path()), 0);
  EXPECT_NE(remove_staged(scratch / "c"), "");
}

TEST(Manifest, EveryFlippedBitOfAFileIsFound) {
  const ScratchFolder scratch;
  const std::string weights = "some weights to flip";
  save(scratch / "c", weights);
  for (std::size_t bit = 0; bit < weights.size() * 8; ++bit) {
    std::string flipped = weights;
    flipped[bit / 8] = static_cast<char>(flipped[bit / 8] ^ (1 << (bit % 8)));
    overwrite(scratch / "c/model.safetensors", flipped);
    const auto faults = verify_manifest(scratch / "c");
    ASSERT_EQ(faults.size(), 1u) << bit;
    EXPECT_EQ(faults[0], "model.safetensors was changed: its SHA-256 is not the manifest's");
  }
}

// A flip in the manifest itself is found too, or is one that changes neither a name, a size nor a digest.
TEST(Manifest, FlippedBitsOfTheManifestNeverCrash) {
  const ScratchFolder scratch;
  save(scratch / "c", "weights");
  const std::string manifest = read_file(scratch / "c/manifest.json", 10'000);
  int harmless = 0;
  for (std::size_t bit = 0; bit < manifest.size() * 8; ++bit) {
    std::string flipped = manifest;
    flipped[bit / 8] = static_cast<char>(flipped[bit / 8] ^ (1 << (bit % 8)));
    overwrite(scratch / "c/manifest.json", flipped);
    if (verify_manifest(scratch / "c").empty()) ++harmless;
  }
  // "step" and its 500 are facts of the caller: 7 bytes. White space may become other white space.
  EXPECT_LT(harmless, 120) << "of " << manifest.size() * 8;
}

TEST(Manifest, NamesEachFault) {
  const ScratchFolder scratch;
  save(scratch / "c", "weights");
  overwrite(scratch / "c/config.json", "{}x");
  fs::remove(scratch / "c/model.safetensors");
  auto faults = verify_manifest(scratch / "c");
  ASSERT_EQ(faults.size(), 2u);
  EXPECT_EQ(faults[0], "model.safetensors is missing");
  EXPECT_EQ(faults[1], "config.json has 3 bytes, the manifest says 2");
  fs::create_symlink("/etc/hostname", scratch / "c/model.safetensors");
  EXPECT_EQ(verify_manifest(scratch / "c")[0], "model.safetensors is not a regular file");
  overwrite(scratch / "c/manifest.json",
            R"({"format_version": 1, "files": [{"name": "../x", "size": 1, "sha256": ""}]})");
  EXPECT_EQ(verify_manifest(scratch / "c")[0], "the manifest lists \"../x\", which is no plain file name");
  overwrite(scratch / "c/manifest.json", R"({"format_version": 2, "files": []})");
  EXPECT_EQ(verify_manifest(scratch / "c").size(), 1u);
  fs::remove(scratch / "c/manifest.json");
  faults = verify_manifest(scratch / "c");
  ASSERT_EQ(faults.size(), 1u);
  EXPECT_NE(faults[0].find("manifest.json"), std::string::npos);
}

}  // namespace
}  // namespace sinter
