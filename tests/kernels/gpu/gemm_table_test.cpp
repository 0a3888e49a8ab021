// The table of tuned products, beside a cuBLASLt whose algorithms take the time that a test says.
#include "kernels/gemm_table.h"

#include <gtest/gtest.h>

#include <cstring>
#include <vector>

#include "kernels/cuda/cublaslt.h"
#include "kernels/cuda/cublaslt_abi.h"
#include "kernels/cuda/cublaslt_tuning.h"
#include "tests/kernels/cuda/device_case.h"
#include "tests/kernels/gpu/pretended_cublaslt.h"
#include "tests/kernels/gpu/pretended_trials.h"

namespace sinter::kernels::testing {
namespace {

const GemmTuner& tuner() { return cuda::cublaslt_tuner(); }

/// A table that is closed behind the test, which leaves one algorithm on offer.
class GemmTable : public ::testing::Test {
 protected:
  GemmTable() {
    EXPECT_STREQ(tuner().why_none(), "");
    trials() = {};
    tuner().open(0);
    tuner().record(0, true);
  }
  ~GemmTable() override {
    tuner().close(0);
    offer({Offer{}});
    set_version(130100);
  }
};

/// c = a b of 3 x 4 x 50, whose bits every algorithm of the pretended library rounds in its own way.
struct Product {
  static constexpr std::int64_t kM = 3, kN = 4, kK = 50;
  std::vector<float> a = as_floats(normal_values(kM * kK, 1)), b = as_floats(normal_values(kK * kN, 2)),
                     c = std::vector<float>(kM * kN);
  std::vector<std::byte> workspace = std::vector<std::byte>(cuda::kCublasLtWorkspace);
  Gemm params;

  /// `lda` tells the tests' problems apart: the library is asked about each once in a process.
  explicit Product(std::int64_t spare) {
    a.resize(static_cast<std::size_t>(kM * (kK + spare)), 1);
    params = {.m = kM, .n = kN, .k = kK, .a = a.data(), .b = b.data(), .c = c.data(), .lda = kK + spare, .ldb = kN,
              .ldc = kN, .workspace = workspace.data()};
  }
  std::vector<float> run() {
    const Status status = cuda::gemm_by_cublaslt(params, {});
    EXPECT_TRUE(status.ok()) << status.what;
    return c;
  }
  static std::vector<float> as_floats(const std::vector<double>& values) { return {values.begin(), values.end()}; }
};

std::vector<GemmChoice> choices() {
  std::vector<GemmChoice> all(tuner().choices(0, nullptr, 0));
  EXPECT_EQ(tuner().choices(0, all.data(), all.size()), all.size());
  return all;
}

/// Which offer stands in the table for the one product.
std::uint64_t chosen() {
  const std::vector<GemmChoice> all = choices();
  EXPECT_EQ(all.size(), 1u);
  return all.empty() ? ~0ull : all[0].algorithm[2];
}

std::vector<float> bits_of_heuristic(Product& product) {
  tuner().close(0);
  const std::vector<float> bits = product.run();
  tuner().open(0);
  tuner().record(0, true);
  return bits;
}

TEST_F(GemmTable, SaysWhatItsChoicesDependOn) {
  EXPECT_EQ(tuner().abi, kGemmTunerAbi);
  EXPECT_STREQ(tuner().library(), "cuBLASLt 13.1.0");
  EXPECT_STREQ(tuner().gpu(0), "pretended GPU 0");
  EXPECT_STREQ(tuner().gpu(1), "pretended GPU 1");
}

TEST_F(GemmTable, TheFastestIsChosen) {
  offer({{.milliseconds = 3}, {.milliseconds = 2}, {.milliseconds = 1}, {.milliseconds = 4}});
  Product product(0);
  const std::vector<float> slow = bits_of_heuristic(product);
  const std::vector<float> tuned = product.run();
  EXPECT_EQ(chosen(), 2u);
  EXPECT_NE(tuned, slow);                      // the product was computed by it
  EXPECT_EQ(trials().timed, 4);
  EXPECT_EQ(product.run(), tuned);
  EXPECT_EQ(trials().timed, 4);                // once
  EXPECT_EQ(tuner().not_timed(0), 0u);
  tuner().close(0);
  EXPECT_EQ(product.run(), slow);              // the table is no longer asked
}

TEST_F(GemmTable, OfEqualTimesTheEarlierIsChosen) {
  offer({{.milliseconds = 2}, {.milliseconds = 1}, {.milliseconds = 1}});
  Product product(1);
  product.run();
  EXPECT_EQ(chosen(), 1u);
}

TEST_F(GemmTable, WhatBreaksARuleIsNotTried) {
  offer({{.milliseconds = 9},
         {.milliseconds = 1, .reductions = 1},                            // in C, where parts are rounded to its dtype
         {.milliseconds = 2, .reductions = 4},
         {.milliseconds = 3, .workspace = cuda::kCublasLtWorkspace + 1},
         {.milliseconds = 4, .refused = true},
         {.milliseconds = 5, .fails = true},
         {.milliseconds = 6, .reductions = 2, .workspace = cuda::kCublasLtWorkspace},
         {.milliseconds = 7}});
  Product product(2);
  product.run();
  EXPECT_EQ(chosen(), 6u);
  EXPECT_EQ(trials().timed, 4);   // 0, 5, 6, 7
}

TEST_F(GemmTable, TriesAtMost32) {
  std::vector<Offer> many(40, Offer{.milliseconds = 2});
  many[cuda::lt::kMostProposals].milliseconds = 1;
  offer(many);
  Product product(3);
  product.run();
  EXPECT_EQ(chosen(), 0u);
  EXPECT_EQ(trials().timed, cuda::lt::kMostProposals);
}

TEST_F(GemmTable, CopiesOfTheOperandsFillTheCache) {
  offer({Offer{}, Offer{}});
  Product small(4), large(5);
  trials().cache_bytes = 1 << 20;
  small.run();
  EXPECT_EQ(trials().launches, 64);            // as many as there are at most
  // One copy has 640, 800 and 48 bytes, each rounded up, and behind a gap that aligns it as the original.
  constexpr int kFewest = 768 + 1024 + 256, kMost = kFewest + 3 * 256, kCache = 10 * kFewest;
  trials().cache_bytes = kCache;
  large.run();
  EXPECT_GE(trials().launches * kMost, kCache * 3 / 2);
  EXPECT_LE((trials().launches - 1) * kFewest, kCache * 3 / 2);
}

TEST_F(GemmTable, TheCallersMemoryIsOnlyRead) {
  offer({{.milliseconds = 2}, {.milliseconds = 1}});
  Product product(6);
  product.params.accumulate = true;
  std::fill(product.c.begin(), product.c.end(), 1000.f);
  const std::vector<float> a = product.a, b = product.b;
  product.run();
  EXPECT_EQ(product.a, a);
  EXPECT_EQ(product.b, b);
  EXPECT_EQ(chosen(), 1u);
  const float rounding = 1000 * 0x1p-23f;   // of one sum near 1000, and the product's own, which is far smaller
  for (std::int64_t i = 0; i < Product::kM; ++i)
    for (std::int64_t j = 0; j < Product::kN; ++j) {
      double once = 1000;
      for (std::int64_t k = 0; k < Product::kK; ++k)
        once += double{a[static_cast<std::size_t>(i * product.params.lda + k)]} *
                double{b[static_cast<std::size_t>(k * Product::kN + j)]};
      EXPECT_NEAR(product.c[static_cast<std::size_t>(i * Product::kN + j)], once, double{rounding});
    }
}

TEST_F(GemmTable, NothingIsTunedBeforeItRecordsAndAfterIt) {
  offer({{.milliseconds = 2}, {.milliseconds = 1}});
  Product product(7);
  tuner().record(0, false);
  const std::vector<float> first = product.run();
  EXPECT_TRUE(choices().empty());
  tuner().record(0, true);
  const std::vector<float> tuned = product.run();   // met before, and met for the first time by the table
  EXPECT_NE(tuned, first);
  tuner().record(0, false);
  EXPECT_EQ(product.run(), tuned);
  EXPECT_EQ(choices().size(), 1u);
}

TEST_F(GemmTable, AClosedTableRecordsNothing) {
  offer({{.milliseconds = 2}, {.milliseconds = 1}});
  Product product(14);
  tuner().close(0);
  tuner().record(0, true);
  product.run();
  EXPECT_EQ(trials().timed, 0);
  EXPECT_TRUE(choices().empty());
}

TEST_F(GemmTable, ACaptureTunesNothingAndItsProductsKeepTheHeuristicsAlgorithm) {
  offer({{.milliseconds = 2}, {.milliseconds = 1}});
  Product product(8);
  trials().forbidden = true;
  const std::vector<float> captured = product.run();
  EXPECT_EQ(trials().timed, 0);
  trials().forbidden = false;
  EXPECT_EQ(product.run(), captured);   // a replay and an eager step agree
  EXPECT_EQ(chosen(), 0u);
  EXPECT_EQ(tuner().not_timed(0), 1u);
}

TEST_F(GemmTable, WithoutMemoryForCopiesTheHeuristicsAlgorithmStays) {
  offer({{.milliseconds = 2}, {.milliseconds = 1}});
  Product product(9);
  trials().out_of_memory = true;
  product.run();
  EXPECT_EQ(chosen(), 0u);
  EXPECT_EQ(tuner().not_timed(0), 1u);
}

TEST_F(GemmTable, BitsRepeatWithTheChoicesOfAnotherTable) {
  offer({{.milliseconds = 3}, {.milliseconds = 2}, {.milliseconds = 1}});
  Product one(10), two(11);
  const std::vector<float> first = one.run(), second = two.run();
  const std::vector<GemmChoice> saved = choices();
  ASSERT_EQ(saved.size(), 2u);
  offer({{.milliseconds = 1}, {.milliseconds = 2}, {.milliseconds = 3}});   // other times: another one would win
  tuner().open(0);
  tuner().record(0, true);
  EXPECT_TRUE(choices().empty());
  for (const GemmChoice& each : saved) EXPECT_TRUE(tuner().add(0, each).ok());
  EXPECT_EQ(choices(), saved);
  trials().timed = 0;
  EXPECT_EQ(one.run(), first);
  EXPECT_EQ(two.run(), second);
  EXPECT_EQ(trials().timed, 0);
}

TEST_F(GemmTable, RefusesAnAlgorithmThatMayNotComputeTheProduct) {
  offer({{.milliseconds = 3}, {.milliseconds = 1, .reductions = 2}});
  Product product(12);
  product.run();
  const GemmChoice good = choices().at(0);
  tuner().open(0);
  const auto refusal = [&](void (*change)(GemmChoice&)) {
    GemmChoice changed = good;
    change(changed);
    const Status status = tuner().add(0, changed);
    EXPECT_FALSE(status.ok());
    return std::string(status.what);
  };
  EXPECT_EQ(refusal([](GemmChoice& c) { c.algorithm[7] ^= 1; }), "the library refuses the algorithm");
  EXPECT_EQ(refusal([](GemmChoice& c) { c.algorithm[2] = 2; }), "the library refuses the algorithm");
  EXPECT_EQ(refusal([](GemmChoice& c) { c.algorithm[3] = 1; }),
            "the algorithm adds the parts of a split K in another way");
  EXPECT_EQ(refusal([](GemmChoice& c) { c.algorithm[4] = cuda::kCublasLtWorkspace + 1; }),
            "the algorithm needs more workspace");
  EXPECT_EQ(refusal([](GemmChoice& c) { c.problem.workspace = false; }), "the algorithm needs more workspace");
  for (const auto change : {+[](GemmChoice& c) { c.problem.alignment_a = 1; },
                            +[](GemmChoice& c) { c.problem.alignment_b = 1; },
                            +[](GemmChoice& c) { c.problem.alignment_c = 1; }})
    EXPECT_EQ(refusal(change), "the algorithm needs better aligned matrices");
  EXPECT_EQ(refusal([](GemmChoice& c) { c.problem.dtype = Dtype::f64; }),
            "the library does not compute this product");
  EXPECT_EQ(refusal([](GemmChoice& c) { c.problem.lda = 1; }), "the library does not compute this product");
  EXPECT_EQ(refusal([](GemmChoice& c) { c.problem.accumulate = true, c.problem.alignment_bias = 16; }),
            "bias cannot be combined with accumulate");
  EXPECT_TRUE(choices().empty());
  EXPECT_TRUE(tuner().add(0, good).ok());
  tuner().close(0);
  EXPECT_STREQ(tuner().add(0, good).what, "the table is closed");
}

TEST_F(GemmTable, ABiasBesideHalvesIsTunedAsTheProductThatIsAddedToIt) {
  offer({{.milliseconds = 2}, {.milliseconds = 1}});
  alignas(256) f16 a = to_f16(0x1p-11f), b = to_f16(1), c = to_f16(0);
  alignas(256) float bias = 2;
  const Gemm p{.dtype = Dtype::f16, .m = 1, .n = 1, .k = 1, .a = &a, .b = &b, .c = &c, .bias = &bias, .lda = 3,
               .ldb = 1, .ldc = 1};
  ASSERT_TRUE(cuda::gemm_by_cublaslt(p, {}).ok());
  EXPECT_EQ(to_float(c), 2);
  const GemmChoice tuned = choices().at(0);
  EXPECT_EQ(tuned.algorithm[2], 1u);
  EXPECT_TRUE(tuned.problem.accumulate);
  EXPECT_EQ(tuned.problem.alignment_bias, 0);
}

TEST_F(GemmTable, OfAnotherDeviceIsAnother) {
  offer({{.milliseconds = 2}, {.milliseconds = 1}});
  Product product(13);
  tuner().open(1);
  tuner().record(1, true);
  product.run();   // on device 0
  EXPECT_EQ(tuner().choices(0, nullptr, 0), 1u);
  EXPECT_EQ(tuner().choices(1, nullptr, 0), 0u);
  tuner().close(1);
}

}  // namespace
}  // namespace sinter::kernels::testing
