#include "core/runtime/gemm_tuning.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <map>

#include "core/io/files.h"
#include "core/log.h"
#include "core/runtime/runtime.h"
#include "tests/core/expect_error.h"
#include "tests/core/gemm_tables.h"
#include "tests/core/io/scratch_folder.h"

namespace sinter {
namespace {

namespace fs = std::filesystem;
using kernels::GemmChoice;

/// A backend's table that takes whatever has an even m.
struct Pretended {
  bool open = false, records = false;
  std::map<kernels::GemmProblem, GemmChoice> choices;
  const char* library = "pretended 1.0";
};
Pretended backend;

constexpr int kIndex = 3;

const kernels::GemmTuner kTuner = {
    .abi = kernels::kGemmTunerAbi,
    .why_none = [] { return ""; },
    .library = [] { return backend.library; },
    .gpu = [](int) { return "GPU 3"; },
    .open =
        [](int device) {
          EXPECT_EQ(device, kIndex);
          backend.open = true;
          backend.choices.clear();
        },
    .close = [](int) { backend.open = backend.records = false; },
    .record = [](int, bool on) { backend.records = on; },
    .add =
        [](int, const GemmChoice& choice) {
          if (choice.problem.m % 2 != 0) return kernels::unsupported("m is odd");
          backend.choices[choice.problem] = choice;
          return kernels::Status{};
        },
    .choices =
        [](int, GemmChoice* out, std::size_t capacity) {
          std::size_t i = 0;
          for (const auto& [problem, choice] : backend.choices)
            if (i < capacity) out[i++] = choice;
          return backend.choices.size();
        },
    .not_timed = [](int) { return std::size_t{0}; },
};

class GemmTuningTest : public ::testing::Test {
 protected:
  GemmTuningTest() {
    backend = {};
    set_log_sink([this](const std::string& sentence) { lines_.push_back(sentence); });
  }
  ~GemmTuningTest() override { set_log_sink({}); }

  /// The cache's file, with `choices` for this library and GPU.
  fs::path write(std::vector<GemmChoice> choices, const std::string& library = "pretended 1.0",
                 const std::string& gpu = "GPU 3") const {
    const fs::path file = gemm_cache_file(cache_, "pretended 1.0", "GPU 3");
    create_folders(cache_);
    GemmTable{.library = library, .gpu = gpu, .choices = std::move(choices)}.to_json().save(file);
    return file;
  }
  std::string only_line() const {
    EXPECT_EQ(lines_.size(), 1u);
    return lines_.empty() ? "" : lines_[0];
  }

  testing::ScratchFolder scratch_;
  fs::path cache_ = scratch_.path() / "cache";
  std::vector<std::string> lines_;
};

TEST_F(GemmTuningTest, TheTableIsOpenAsLongAsItLives) {
  {
    GemmTuning tuning(kTuner, kIndex);
    EXPECT_TRUE(backend.open);
    EXPECT_FALSE(backend.records);
    tuning.record(true);
    EXPECT_TRUE(backend.records);
  }
  EXPECT_FALSE(backend.open);
}

TEST_F(GemmTuningTest, TheCacheGoesFromRunToRun) {
  {
    GemmTuning first(kTuner, kIndex);
    first.read_cache(cache_);             // there is none, which is no fault
    EXPECT_EQ(first.size(), 0u);
    first.write_cache(cache_);            // nothing to keep
    EXPECT_FALSE(fs::exists(cache_));
    backend.choices[testing::gemm_choice(2).problem] = testing::gemm_choice(2);
    first.write_cache(cache_);
  }
  GemmTuning second(kTuner, kIndex);
  EXPECT_EQ(second.size(), 0u);
  second.read_cache(cache_);
  EXPECT_EQ(second.table().choices, std::vector{testing::gemm_choice(2)});
  EXPECT_EQ(second.table().library, "pretended 1.0");
  EXPECT_EQ(second.table().gpu, "GPU 3");
  const fs::path file = gemm_cache_file(cache_, "pretended 1.0", "GPU 3");
  fs::remove(file);
  second.write_cache(cache_);             // it holds nothing that was not read
  EXPECT_FALSE(fs::exists(file));
  backend.choices[testing::gemm_choice(4).problem] = testing::gemm_choice(4);
  second.write_cache(cache_);
  EXPECT_EQ(GemmTable::from_json(Json::load(file)).choices.size(), 2u);
  EXPECT_EQ(std::distance(fs::directory_iterator(cache_), {}), 1);   // no half-written file beside it
  EXPECT_TRUE(lines_.empty());
}

// A run that took its table from elsewhere, a checkpoint say, leaves what other runs find there.
TEST_F(GemmTuningTest, WhatStandsInTheCacheStays) {
  const fs::path cached = write({testing::gemm_choice(2)});
  GemmTuning tuning(kTuner, kIndex);
  kernels::GemmChoice other = testing::gemm_choice(2);
  other.algorithm[0] += 1;
  for (const kernels::GemmChoice& choice : {other, testing::gemm_choice(4)}) backend.choices[choice.problem] = choice;
  tuning.write_cache(cache_);
  EXPECT_EQ(GemmTable::from_json(Json::load(cached)).choices,
            (std::vector{testing::gemm_choice(2), testing::gemm_choice(4)}));
  EXPECT_EQ(tuning.table().choices, (std::vector{other, testing::gemm_choice(4)}));
}

TEST_F(GemmTuningTest, RefusedEntriesAreLeftOutAndTold) {
  const fs::path file = write({testing::gemm_choice(1), testing::gemm_choice(2), testing::gemm_choice(3)});
  GemmTuning tuning(kTuner, kIndex);
  EXPECT_TRUE(tuning.read(file));
  EXPECT_EQ(tuning.table().choices, std::vector{testing::gemm_choice(2)});
  EXPECT_EQ(only_line(), file.string() + ": 2 of 3 entries are ignored, the first because m is odd");
}

TEST_F(GemmTuningTest, AnotherLibrarysOrGpusIsIgnoredInOneLine) {
  for (const auto& [library, gpu] : {std::pair{"pretended 1.1", "GPU 3"}, std::pair{"pretended 1.0", "GPU 4"}}) {
    lines_.clear();
    const fs::path file = write({testing::gemm_choice(2)}, library, gpu);
    GemmTuning tuning(kTuner, kIndex);
    EXPECT_FALSE(tuning.read(file));
    EXPECT_EQ(tuning.size(), 0u);
    EXPECT_EQ(only_line(), file.string() + " is ignored: it is for " + library + " on " + gpu +
                               ", and this is pretended 1.0 on GPU 3");
  }
}

TEST_F(GemmTuningTest, ABrokenCacheIsIgnoredInOneLineAndABrokenFileIsAnError) {
  const fs::path file = write({});
  for (const char* text : {"", "{", "[]", "{\"format\": 2}"}) {
    lines_.clear();
    write_file_atomically(file, text);
    GemmTuning tuning(kTuner, kIndex);
    tuning.read_cache(cache_);
    EXPECT_EQ(tuning.size(), 0u);
    EXPECT_EQ(only_line().find("the cache of tuned products is ignored: " + file.string()), 0u) << only_line();
    testing::expect_error([&] { tuning.read(file); }, ErrorCode::bad_input, file.string());
  }
}

TEST_F(GemmTuningTest, ACacheThatCannotBeWrittenIsOneLine) {
  write_file_atomically(scratch_.path() / "file", "");
  GemmTuning tuning(kTuner, kIndex);
  backend.choices[testing::gemm_choice(2).problem] = testing::gemm_choice(2);
  tuning.write_cache(scratch_.path() / "file/cache");   // not even root makes a folder there
  EXPECT_EQ(only_line().find("tuned products are not kept for other runs: "), 0u) << only_line();
  tuning.write_cache({});                               // there is no home
  EXPECT_EQ(lines_.size(), 1u);
}

TEST_F(GemmTuningTest, SaysWhereThereIsNothingToTune) {
  EXPECT_EQ(GemmTuning::why_none(Device::cpu()), "its kernels for products are sinter's own, which have no settings");
  testing::expect_error([] { GemmTuning tuning(Device::cpu()); }, ErrorCode::unsupported,
                        "there are no products to tune on cpu: its kernels");
  if (!Runtime::instance().why_unusable(Device::simt()).empty()) return;
  EXPECT_EQ(GemmTuning::why_none(Device::simt()), GemmTuning::why_none(Device::cpu()));
}

}  // namespace
}  // namespace sinter
