#include "core/io/gemm_table_file.h"

#include <gtest/gtest.h>

#include <cstdlib>
#include <functional>
#include <string>

#include "tests/core/expect_error.h"
#include "tests/core/gemm_tables.h"

namespace sinter {
namespace {

GemmTable table() {
  return {.library = "cuBLASLt 13.1.0",
          .gpu = "NVIDIA H200, compute capability 9.0",
          .choices = {testing::gemm_choice(0), testing::gemm_choice(1)}};
}

/// The file, read again from its text.
Json written() { return Json::parse(table().to_json().dump(), "table.json"); }

TEST(GemmTableFile, ComesBackAsItWas) {
  const GemmTable read = GemmTable::from_json(written());
  EXPECT_EQ(read.library, table().library);
  EXPECT_EQ(read.gpu, table().gpu);
  EXPECT_EQ(read.choices, table().choices);
  EXPECT_EQ(written().get<std::int64_t>("format"), 1);
  const Json entry = written().elements("entries")[1];
  EXPECT_EQ(entry.get<std::string>("dtype"), "bf16");
  EXPECT_EQ(entry.get<std::string>("algorithm").substr(0, 16), "9876543210abcdef");   // the first word
  const GemmTable empty{.library = "a", .gpu = "b", .choices = {}};
  EXPECT_TRUE(GemmTable::from_json(Json::parse(empty.to_json().dump(), "")).choices.empty());
}

/// The file with a member of its first entry changed.
Json with(const std::string& key, const Json& value) {
  Json json = written();
  Json entries = Json::array(json.elements("entries"));
  Json first = entries.elements()[0];
  first.set(key, value);
  Json changed = Json::array({first, entries.elements()[1]});
  json.set("entries", changed);
  return Json::parse(json.dump(), "table.json");
}

struct Bad {
  std::string says;
  std::function<Json()> file;
};

Json at_top(const std::string& key, const Json& value) {
  Json json = written();
  json.set(key, value);
  return Json::parse(json.dump(), "table.json");
}

const Bad kBad[] = {
    {"table.json: format is 2, it must be 1; this sinter reads no other", [] { return at_top("format", 2); }},
    {"format is missing", [] { return Json::parse("{}", "table.json"); }},
    {"library is \"\", it must have 1 to 300 bytes", [] { return at_top("library", ""); }},
    {"gpu is ", [] { return at_top("gpu", std::string(301, 'x')); }},
    {"library is 5", [] { return at_top("library", 5); }},
    {"entries is ", [] { return at_top("entries", Json::object()); }},
    {"more is 1, it must not be there", [] { return at_top("more", 1); }},
    {"table.json: entries[0].dtype is \"f64\", it must be f32, f16 or bf16", [] { return with("dtype", "f64"); }},
    {"entries[0].transpose_a is 1", [] { return with("transpose_a", 1); }},
    {"entries[0].m is 0, it must be an integer from 1", [] { return with("m", 0); }},
    {"entries[0].k is -1", [] { return with("k", -1); }},
    {"entries[0].n is 1099511627777", [] { return with("n", (std::int64_t{1} << 40) + 1); }},
    {"entries[0].batch is 2147483648", [] { return with("batch", std::int64_t{1} << 31); }},
    {"entries[0].batch_stride_b is -1", [] { return with("batch_stride_b", -1); }},
    {"entries[0].alignment_a is 512", [] { return with("alignment_a", 512); }},
    {"entries[0].alignment_b is 48, it must be a power of 2", [] { return with("alignment_b", 48); }},
    {"entries[0].alignment_c is 0", [] { return with("alignment_c", 0); }},
    {"entries[0].alignment_bias is 3, it must be a power of 2", [] { return with("alignment_bias", 3); }},
    {"entries[0].alignment_bias is 128, it must be 0, as accumulate is true", [] { return with("accumulate", true); }},
    {"entries[0].lda is 9, it must be at least a row of A", [] { return with("lda", 9); }},
    {"entries[0].ldb is 29, it must be at least a row of B", [] { return with("ldb", 29); }},
    {"entries[0].ldc is 19, it must be at least a row of C", [] { return with("ldc", 19); }},
    {"entries[0].n is 1.5", [] { return with("n", 1.5); }},
    {"entries[0].algorithm is \"00\", it must be 128 digits of 0-9 and a-f", [] { return with("algorithm", "00"); }},
    {"entries[0].algorithm is ", [] { return with("algorithm", std::string(128, 'G')); }},
    {"entries[0].algorithm is ", [] { return with("algorithm", std::string(129, '0')); }},
    {"entries[0].extra is true, it must not be there", [] { return with("extra", true); }},
    {"entries[1] is for a product that an earlier one is for",
     [] {
       Json json = written();
       const Json first = json.elements("entries")[0];
       json.set("entries", Json::array({first, first}));
       return json;
     }},
    {"there are 16385 entries, at most 16384 are allowed",
     [] {
       Json json = written();
       json.set("entries", Json::array(Json::Array(kernels::kMostGemmChoices + 1, json.elements("entries")[0])));
       return json;
     }},
};

TEST(GemmTableFile, WhatBreaksARuleIsRefused) {
  for (const Bad& row : kBad) {
    SCOPED_TRACE(row.says);
    testing::expect_error([&] { GemmTable::from_json(row.file()); }, ErrorCode::bad_input, row.says);
  }
}

TEST(GemmTableFile, EveryMemberMustBeThere) {
  const Json whole = written().elements("entries")[0];
  EXPECT_EQ(whole.size(), 20u);
  for (const auto& [key, value] : whole.items()) {
    Json entry = Json::object(), json = written();
    for (const auto& [name, member] : whole.items())
      if (name != key) entry.set(name, member);
    json.set("entries", Json::array({entry}));
    testing::expect_error([&] { GemmTable::from_json(Json::parse(json.dump(), "t")); }, ErrorCode::bad_input,
                          "t: entries[0]." + key + " is missing");
  }
}

/// A variable of the environment as it was, behind the test.
class Variable {
 public:
  explicit Variable(const char* name) : name_(name) {
    if (const char* value = std::getenv(name)) before_ = value;
  }
  ~Variable() { before_.empty() ? unsetenv(name_) : setenv(name_, before_.c_str(), 1); }
  void set(const char* value) const { setenv(name_, value, 1); }

 private:
  const char* name_;
  std::string before_;
};

TEST(GemmTableFile, TheCacheIsWhereCachesAre) {
  const Variable caches("XDG_CACHE_HOME"), home("HOME");
  caches.set("/caches");
  home.set("/home/ann");
  EXPECT_EQ(cache_folder(), "/caches/sinter");
  for (const char* none : {"", "relative"}) {
    caches.set(none);
    EXPECT_EQ(cache_folder(), "/home/ann/.cache/sinter");
  }
  home.set("");
  EXPECT_EQ(cache_folder(), "");
}

TEST(GemmTableFile, TheCachesFileNamesTheLibraryAndTheGpu) {
  EXPECT_EQ(gemm_cache_file("/c", "cuBLASLt 13.1.0", "NVIDIA H200, compute capability 9.0"),
            "/c/gemm-cublaslt-13.1.0-nvidia-h200-compute-capability-9.0.json");
  EXPECT_EQ(gemm_cache_file("/c", "../x", "a/../b"), "/c/gemm-..-x-a-..-b.json");
}

}  // namespace
}  // namespace sinter
