// Names and folders of pretrained models, in a cache laid out as HF's tools lay it out.
#include "core/io/hub_cache.h"

#include <gtest/gtest.h>

#include <chrono>
#include <cstdlib>
#include <map>
#include <optional>

#include "core/io/files.h"
#include "tests/core/expect_error.h"
#include "tests/core/io/scratch_folder.h"

namespace sinter {
namespace {

namespace fs = std::filesystem;
using testing::expect_error;
using testing::ScratchFolder;

class HubCache : public ::testing::Test {
 protected:
  /// A snapshot with one file, which is a link to a blob as in HF's cache. Returns the snapshot.
  fs::path snapshot(const std::string& repository, const std::string& commit, const std::string& file) const {
    const fs::path root = cache() / repository;
    const fs::path folder = root / "snapshots" / commit;
    create_folders(root / "blobs");
    create_folders(folder);
    const std::string blob = commit + "-" + file;
    write_file_atomically(root / "blobs" / blob, "x");
    fs::create_symlink("../../blobs/" + blob, folder / file);
    return folder;
  }
  void main_is(const std::string& repository, std::string_view content) const {
    create_folders(cache() / repository / "refs");
    write_file_atomically(cache() / repository / "refs/main", content);
  }
  fs::path resolve(const std::string& name, std::string_view file = "config.json") const {
    return resolve_pretrained(name, file, cache());
  }
  void expect_missing(const std::string& name, const std::string& says) const {
    expect_error([&] { resolve(name); }, ErrorCode::not_found, says);
  }
  fs::path cache() const { return scratch_ / "hub"; }

  ScratchFolder scratch_;
};

TEST_F(HubCache, AFolderIsTakenAsItStands) {
  create_folders(scratch_ / "model");
  const std::string folder = (scratch_ / "model").string();
  expect_missing(folder, "the folder " + folder + " has no config.json");
  write_file_atomically(scratch_ / "model/config.json", "{}");
  EXPECT_EQ(resolve(folder), folder);
  EXPECT_EQ(resolve(folder + "/"), folder + "/");
  expect_error([&] { resolve_pretrained(folder, {"vocab.txt", "tokenizer.json"}, cache()); }, ErrorCode::not_found,
               "has no vocab.txt or tokenizer.json");
  EXPECT_EQ(resolve_pretrained(folder, {"vocab.txt", "config.json"}, cache()), folder);
  expect_error([&] { resolve(folder + "/config.json"); }, ErrorCode::bad_input, "is a file, it must be the folder");
  expect_error([&] { resolve(""); }, ErrorCode::usage, "the name of the model is empty");
}

TEST_F(HubCache, RefsMainChoosesTheSnapshot) {
  const fs::path wanted = snapshot("models--org--name", "0a1b", "config.json");
  const fs::path other = snapshot("models--org--name", "ffff", "config.json");
  fs::last_write_time(other, fs::last_write_time(wanted) + std::chrono::hours(1));
  for (const char* content : {"0a1b", "0a1b\n"}) {
    main_is("models--org--name", content);
    EXPECT_EQ(resolve("org/name"), wanted);
  }
}

// refs/main is missing after "hf download --revision", or was lost, or names what is not there.
TEST_F(HubCache, WithoutRefsMainTheNewestSnapshotThatHasTheFileIsTaken) {
  const std::string repository = "models--org--name";
  const fs::path only = snapshot(repository, "bbbb", "config.json");
  EXPECT_EQ(resolve("org/name"), only);
  const fs::path older = snapshot(repository, "cccc", "config.json");
  const fs::path newest = snapshot(repository, "aaaa", "vocab.txt");
  fs::last_write_time(older, fs::last_write_time(only) - std::chrono::hours(1));
  fs::last_write_time(newest, fs::last_write_time(only) + std::chrono::hours(1));
  EXPECT_EQ(resolve("org/name"), only);
  EXPECT_EQ(resolve("org/name", "vocab.txt"), newest);
  for (const char* content : {"", "dddd", "../../../etc", "..", "/", "cccc/../cccc", "\0"}) {
    SCOPED_TRACE(content);
    main_is(repository, content);
    EXPECT_EQ(resolve("org/name"), only);
  }
}

TEST_F(HubCache, AnIncompleteDownloadIsNotReplacedByAnOlderSnapshot) {
  snapshot("models--org--name", "aaaa", "config.json");
  const fs::path main = snapshot("models--org--name", "bbbb", "vocab.txt");
  main_is("models--org--name", "bbbb");
  const std::string command = R"(; fetch it with: hf download org/name "*.json" "*.txt" "*.safetensors")";
  expect_missing("org/name", "org/name in HF's cache has no config.json (looked in " +
                                 (cache() / "models--org--name/snapshots").string() + ")" + command);
  fs::create_symlink("../../blobs/gone", main / "config.json");
  expect_missing("org/name", "has no config.json");
}

TEST_F(HubCache, NamesWithoutAnOrgAreLookedUpUnderGoogleBertToo) {
  expect_missing("bert-base-uncased",
                 "there is no folder bert-base-uncased, and HF's cache has no such model (looked for "
                 "models--bert-base-uncased and models--google-bert--bert-base-uncased in " +
                     cache().string() +
                     R"(); fetch it with: hf download bert-base-uncased "*.json" "*.txt" "*.safetensors")");
  const fs::path moved = snapshot("models--google-bert--bert-base-uncased", "aaaa", "config.json");
  EXPECT_EQ(resolve("bert-base-uncased"), moved);
  EXPECT_EQ(resolve("google-bert/bert-base-uncased"), moved);
  const fs::path tokenizer_only = snapshot("models--bert-base-uncased", "bbbb", "vocab.txt");
  EXPECT_EQ(resolve("bert-base-uncased"), moved);
  EXPECT_EQ(resolve("bert-base-uncased", "vocab.txt"), tokenizer_only);
  const fs::path plain = snapshot("models--bert-base-uncased", "cccc", "config.json");
  EXPECT_EQ(resolve("bert-base-uncased"), plain);
}

// A path can never be a name, so no command could fetch it.
TEST_F(HubCache, WhatCannotBeANameIsAPath) {
  for (const char* path : {"/nowhere/model", "./model", "../model", "a/b/c", "a//b", "a/", "/", "a b", "a--b", "a..b",
                           "-a", "a.", "org/-x", "a\\b", "naïve"}) {
    if (fs::is_directory(path)) continue;
    SCOPED_TRACE(path);
    try {
      resolve(path);
      ADD_FAILURE() << "found";
    } catch (const Error& error) {
      EXPECT_EQ(error.what(), std::string("there is no folder ") + path);
      EXPECT_EQ(error.code(), ErrorCode::not_found);
    }
  }
  expect_missing(std::string(97, 'a'), "there is no folder aaa");
}

/// Sets environment variables for a scope; an empty optional removes one.
class Environment {
 public:
  explicit Environment(const std::map<std::string, std::optional<std::string>>& variables) {
    for (const auto& [name, value] : variables) {
      const char* old = std::getenv(name.c_str());
      old_[name] = old == nullptr ? std::nullopt : std::optional<std::string>(old);
      set(name, value);
    }
  }
  ~Environment() {
    for (const auto& [name, value] : old_) set(name, value);
  }
  Environment(const Environment&) = delete;
  Environment& operator=(const Environment&) = delete;

 private:
  static void set(const std::string& name, const std::optional<std::string>& value) {
    value ? ::setenv(name.c_str(), value->c_str(), 1) : ::unsetenv(name.c_str());
  }
  std::map<std::string, std::optional<std::string>> old_;
};

TEST_F(HubCache, TheEnvironmentPlacesTheCache) {
  using Value = std::optional<std::string>;
  const struct {
    Value hub, hf_home, xdg, home;
    const char* folder;
  } cases[] = {{"/a", "/b", "/c", "/d", "/a"},
               {{}, "/b", "/c", "/d", "/b/hub"},
               {{}, {}, "/c", "/d", "/c/huggingface/hub"},
               {{}, {}, {}, "/d", "/d/.cache/huggingface/hub"},
               {"", "", "", "/d", "/d/.cache/huggingface/hub"},
               {"~/hub", {}, {}, "/d", "/d/hub"},
               {{}, "~", {}, "/d", "/d/hub"},
               {{}, {}, {}, {}, ""}};
  for (const auto& c : cases) {
    const Environment scope(
        {{"HF_HUB_CACHE", c.hub}, {"HF_HOME", c.hf_home}, {"XDG_CACHE_HOME", c.xdg}, {"HOME", c.home}});
    EXPECT_EQ(hub_cache_folder(), c.folder);
  }
  const Environment scope({{"HF_HUB_CACHE", {}}, {"HF_HOME", {}}, {"XDG_CACHE_HOME", {}}, {"HOME", {}}});
  expect_error([] { resolve_pretrained("bert", "config.json"); }, ErrorCode::not_found,
               "in no folder: HOME is not set");
}

TEST_F(HubCache, TheDefaultCacheIsTheEnvironments) {
  const fs::path wanted = snapshot("models--org--name", "aaaa", "config.json");
  const Environment scope({{"HF_HUB_CACHE", cache().string()}});
  EXPECT_EQ(resolve_pretrained("org/name", "config.json"), wanted);
}

}  // namespace
}  // namespace sinter
