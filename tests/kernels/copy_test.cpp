#include "kernels/copy.h"

#include "tests/kernels/strided_case.h"

namespace sinter::kernels {
namespace {

using namespace testing;

const std::vector<Extents>& shapes() {
  static const std::vector<Extents> all = {
      make_extents({}),          make_extents({1}),          make_extents({7}),
      make_extents({100}),       make_extents({0}),          make_extents({3, 0, 2}),
      make_extents({33, 65}),    make_extents({1, 40}),      make_extents({3, 5, 7}),
      make_extents({2, 3, 1, 5}), make_extents({2, 3, 2, 2, 3}), make_extents({2, 2, 3, 2, 1, 4}),
  };
  return all;
}

AnyBuffer copied(const BackendModule& module, Copy p, const AnyBuffer& src, const AnyBuffer& background,
                 Stream stream = {}) {
  AnyBuffer dst(p.dst_dtype, background.size());
  dst.assign(background);
  p.src = src.data();
  p.dst = dst.data();
  EXPECT_TRUE(run_ok(module, p, stream));
  return dst;
}

TEST(Copy, EveryPairOfDtypesLayoutAndRankMatchesTheReference) {
  for (const Dtype from : kAllDtypes)
    for (const Dtype to : kAllDtypes)
      for (const Extents& extents : shapes())
        for (const Layout src_layout : kAllLayouts)
          for (const Layout dst_layout : kWritableLayouts) {
            SCOPED_TRACE(std::string(name(from)) + " " + name(src_layout) + " to " + name(to) + " " + name(dst_layout) +
                         ", rank " + std::to_string(extents.rank));
            Copy p{.extents = extents, .src_strides = make_strides(extents, src_layout),
                   .dst_strides = make_strides(extents, dst_layout), .src_dtype = from, .dst_dtype = to};
            const AnyBuffer src = random_any(from, span_of(extents, p.src_strides), 7, true);
            const AnyBuffer background = random_any(to, span_of(extents, p.dst_strides), 8);
            const AnyBuffer expected = copied(ref_module(), p, src, background);
            for_each_cpu([&](const BackendModule& cpu) {
              ASSERT_TRUE(copied(cpu, p, src, background).same(expected));
            });
            if (HasFatalFailure()) return;
          }
}

TEST(Copy, EveryHalfAndBfloat16CodeConvertsAsDtypeHeaderSays) {
  for_each_cpu([](const BackendModule& cpu) {
    const Extents extents = make_extents({65536});
    Buffer<std::uint16_t> codes(65536);
    Buffer<float> wide(65536), bwide(65536);
    for (int i = 0; i < 65536; ++i) codes[i] = static_cast<std::uint16_t>(i);
    Copy p{.extents = extents, .src_strides = contiguous_strides(extents), .dst_strides = contiguous_strides(extents),
           .src_dtype = Dtype::f16, .dst_dtype = Dtype::f32, .src = codes.data(), .dst = wide.data()};
    ASSERT_TRUE(run_ok(cpu, p));
    p.src_dtype = Dtype::bf16;
    p.dst = bwide.data();
    ASSERT_TRUE(run_ok(cpu, p));
    for (int i = 0; i < 65536; ++i) {
      const std::uint16_t code = static_cast<std::uint16_t>(i);
      ASSERT_EQ(std::bit_cast<std::uint32_t>(wide[i]), std::bit_cast<std::uint32_t>(to_float(f16{code}))) << i;
      ASSERT_EQ(std::bit_cast<std::uint32_t>(bwide[i]), std::bit_cast<std::uint32_t>(to_float(bf16{code}))) << i;
    }
  });
}

TEST(Copy, FloatRoundsToHalfAndBfloat16AsDtypeHeaderSays) {
  // Every exponent and sign, with mantissas around the ties of both formats, and random ones.
  constexpr std::int64_t n = 512 * 64;
  Buffer<float> values(n);
  std::mt19937 generator(3);
  for (std::int64_t i = 0; i < n; ++i) {
    std::uint32_t mantissa = generator() & 0x7fffffu;
    if (i % 4 == 1) mantissa = (mantissa & 0x7fe000u) | 0x1000u;
    if (i % 4 == 2) mantissa = ((mantissa & 0x7f0000u) | 0x8000u) + (generator() % 3) - 1;
    values[i] = std::bit_cast<float>(static_cast<std::uint32_t>(i % 512) << 23 | mantissa);
  }
  for_each_cpu([&](const BackendModule& cpu) {
    const Extents extents = make_extents({n});
    Buffer<f16> half(n);
    Buffer<bf16> brain(n);
    Copy p{.extents = extents, .src_strides = contiguous_strides(extents), .dst_strides = contiguous_strides(extents),
           .src_dtype = Dtype::f32, .dst_dtype = Dtype::f16, .src = values.data(), .dst = half.data()};
    ASSERT_TRUE(run_ok(cpu, p));
    p.dst_dtype = Dtype::bf16;
    p.dst = brain.data();
    ASSERT_TRUE(run_ok(cpu, p));
    for (std::int64_t i = 0; i < n; ++i) {
      ASSERT_EQ(half[i].bits, to_f16(values[i]).bits) << std::bit_cast<std::uint32_t>(values[i]);
      ASSERT_EQ(brain[i].bits, to_bf16(values[i]).bits) << std::bit_cast<std::uint32_t>(values[i]);
    }
  });
}

TEST(Copy, FloatingToIntegerTruncatesAndSaturates) {
  const double values[] = {1.9, -1.9, NAN, 300, -300, 2147483647.0, 2147483648.0, -2147483649.0, 1e300, -1e300};
  const std::int64_t as_i32[] = {1, -1, 0, 300, -300, INT32_MAX, INT32_MAX, INT32_MIN, INT32_MAX, INT32_MIN};
  const std::int64_t as_u8[] = {1, 0, 0, 255, 0, 255, 255, 0, 255, 0};
  const Extents extents = make_extents({10});
  for_each_cpu([&](const BackendModule& cpu) {
    Buffer<std::int32_t> i32(10);
    Buffer<std::uint8_t> u8(10);
    Copy p{.extents = extents, .src_strides = contiguous_strides(extents), .dst_strides = contiguous_strides(extents),
           .src_dtype = Dtype::f64, .dst_dtype = Dtype::i32, .src = values, .dst = i32.data()};
    ASSERT_TRUE(run_ok(cpu, p));
    p.dst_dtype = Dtype::u8;
    p.dst = u8.data();
    ASSERT_TRUE(run_ok(cpu, p));
    for (int i = 0; i < 10; ++i) {
      EXPECT_EQ(i32[i], as_i32[i]) << values[i];
      EXPECT_EQ(u8[i], as_u8[i]) << values[i];
    }
  });
}

TEST(Copy, LargeCopiesAreTheSameForEveryNumberOfThreads) {
  for (const Extents& extents : {make_extents({70001}), make_extents({301, 257}), make_extents({3, 129, 2, 130})})
    for (const Layout layout : kAllLayouts)
      for (const Dtype to : {Dtype::f32, Dtype::f16}) {
        Copy p{.extents = extents, .src_strides = make_strides(extents, layout),
               .dst_strides = contiguous_strides(extents), .src_dtype = Dtype::f32, .dst_dtype = to};
        const AnyBuffer src = random_any(Dtype::f32, span_of(extents, p.src_strides), 11, true);
        const AnyBuffer background(to, extents.count());
        const AnyBuffer expected = copied(ref_module(), p, src, background);
        for_each_cpu([&](const BackendModule& cpu) {
          for (const int threads : {1, 2, 4}) {
            ThreadPool pool(threads);
            ASSERT_TRUE(copied(cpu, p, src, background, pool.stream()).same(expected)) << name(layout) << " " << threads;
          }
        });
      }
}

TEST(Fill, EveryDtypeAndLayoutMatchesTheReference) {
  for (const Dtype dtype : kAllDtypes)
    for (const double value : {0.0, 1.0, -2.25, 1e9, static_cast<double>(NAN)})
      for (const Extents& extents : shapes())
        for (const Layout layout : kWritableLayouts) {
          Fill p{.extents = extents, .dst_strides = make_strides(extents, layout), .dtype = dtype, .value = value,
                 .integer = std::isnan(value) ? 7 : static_cast<std::int64_t>(value)};
          const AnyBuffer background = random_any(dtype, span_of(extents, p.dst_strides), 5);
          const auto filled = [&](const BackendModule& module) {
            AnyBuffer dst(dtype, background.size());
            dst.assign(background);
            p.dst = dst.data();
            EXPECT_TRUE(run_ok(module, p));
            return dst;
          };
          const AnyBuffer expected = filled(ref_module());
          for_each_cpu([&](const BackendModule& cpu) { ASSERT_TRUE(filled(cpu).same(expected)) << name(dtype); });
        }
}

TEST(Fill, LargeOnesThatStartAnywhereWriteTheirElementsAlone) {
  constexpr std::int64_t kBytes = (std::int64_t{16} << 20) + 200, kMargin = 64;
  for (const Dtype dtype : {Dtype::u8, Dtype::f16, Dtype::f32, Dtype::f64})
    for (const std::int64_t first : {0, 1, 3, 5}) {
      const auto size = static_cast<std::int64_t>(size_of(dtype));
      const std::int64_t n = kBytes / size;
      for_each_cpu([&](const BackendModule& cpu) {
        std::vector<std::uint8_t> memory(static_cast<std::size_t>(kBytes + 2 * kMargin), 0xa5);
        Fill p{.extents = make_extents({n}), .dst_strides = contiguous_strides(make_extents({n})), .dtype = dtype};
        p.dst = memory.data() + first * size;
        ThreadPool pool(2);
        EXPECT_TRUE(run(cpu, p, pool.stream()).ok());
        std::int64_t zeros = 0, others = 0;
        for (const std::uint8_t byte : memory) ++(byte == 0 ? zeros : others);
        EXPECT_EQ(zeros, n * size) << name(dtype) << " from element " << first;
        EXPECT_EQ(others, kBytes + 2 * kMargin - n * size);
        EXPECT_TRUE(memory[static_cast<std::size_t>(first * size)] == 0 &&
                    memory[static_cast<std::size_t>((first + n) * size - 1)] == 0);
      });
    }
}

TEST(Copy, BadShapesAreRefused) {
  Copy p;
  p.extents.rank = 7;
  EXPECT_EQ(run(cpu_module(), p).code, StatusCode::invalid_argument);
  p.extents = make_extents({-1});
  EXPECT_EQ(run(cpu_module(), p).code, StatusCode::invalid_argument);
}

}  // namespace
}  // namespace sinter::kernels
