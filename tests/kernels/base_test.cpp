#include <atomic>

#include "kernels/base/philox.h"
#include "tests/kernels/device_api_cases.h"
#include "tests/kernels/kernel_test.h"

namespace sinter::kernels {
namespace {

TEST(Dtype, HalfRoundTripsEveryCode) {
  for (std::uint32_t code = 0; code < 65536; ++code) {
    const f16 half{static_cast<std::uint16_t>(code)};
    const float value = to_float(half);
    if (std::isnan(value)) {
      EXPECT_TRUE(std::isnan(to_float(to_f16(value))));
      continue;
    }
    EXPECT_EQ(to_f16(value).bits, half.bits) << code;
  }
}

TEST(Dtype, HalfRoundsToNearestEven) {
  EXPECT_EQ(to_f16(65504.0f).bits, 0x7bff);
  EXPECT_EQ(to_f16(65519.996f).bits, 0x7bff);
  EXPECT_EQ(to_f16(65520.0f).bits, 0x7c00);
  EXPECT_EQ(to_f16(1.0f + 1.0f / 2048).bits, 0x3c00);        // tie, to even
  EXPECT_EQ(to_f16(1.0f + 3.0f / 2048).bits, 0x3c02);        // tie, to even
  EXPECT_EQ(to_f16(std::ldexp(1.0f, -25)).bits, 0);          // half of the smallest subnormal: tie, to even
  EXPECT_EQ(to_f16(std::ldexp(1.5f, -25)).bits, 1);
  EXPECT_EQ(to_f16(-std::ldexp(1.0f, -24)).bits, 0x8001);
}

TEST(Dtype, Bfloat16RoundsToNearestEven) {
  EXPECT_EQ(to_bf16(1.0f).bits, 0x3f80);
  EXPECT_EQ(to_bf16(std::bit_cast<float>(0x3f808000u)).bits, 0x3f80);
  EXPECT_EQ(to_bf16(std::bit_cast<float>(0x3f818000u)).bits, 0x3f82);
  EXPECT_TRUE(std::isnan(to_float(to_bf16(std::bit_cast<float>(0x7f800001u)))));
}

// Known answers of the Random123 distribution (kat_vectors, philox4x32 10 rounds).
TEST(Philox, KnownAnswers) {
  const auto expect = [](Philox4x32 r, std::uint32_t a, std::uint32_t b, std::uint32_t c, std::uint32_t d) {
    EXPECT_EQ(r.word[0], a);
    EXPECT_EQ(r.word[1], b);
    EXPECT_EQ(r.word[2], c);
    EXPECT_EQ(r.word[3], d);
  };
  expect(philox4x32_10(0, 0, 0, 0, 0), 0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8);
  expect(philox4x32_10(~0ull, ~0u, ~0u, ~0u, ~0u), 0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd);
  expect(philox4x32_10(0x299f31d0a4093822ull, 0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344), 0xd16cfe09, 0x94fdcceb,
         0x5001e420, 0x24126ea1);
}

TEST(DeviceApi, OfTheCpu) {
  check_device_api(cpu_module(), Graphs::not_there);
  check_device_api(ref_module(), Graphs::not_there);
}

TEST(ThreadPool, RunsEveryTaskOnce) {
  for (const int threads : {1, 2, 4}) {
    ThreadPool pool(threads);
    for (int round = 0; round < 200; ++round) {
      std::vector<std::atomic<int>> hits(static_cast<std::size_t>(round));
      parallel_tasks(pool.stream(), round, [&](std::int64_t i) { hits[static_cast<std::size_t>(i)].fetch_add(1); });
      for (const auto& hit : hits) ASSERT_EQ(hit.load(), 1);
    }
  }
}

TEST(ThreadPool, FlushesDenormalsOnEveryThread) {
  ThreadPool pool(4);
  std::atomic<int> kept{0};
  parallel_tasks(pool.stream(), 64, [&](std::int64_t) {
    volatile float tiny = 1e-38f;
    volatile float result = tiny * 1e-3f;
    if (result != 0) kept.fetch_add(1);
  });
  EXPECT_EQ(kept.load(), 0);
}

}  // namespace
}  // namespace sinter::kernels
