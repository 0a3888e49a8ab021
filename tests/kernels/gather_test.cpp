#include "kernels/gather.h"

#include "tests/kernels/strided_case.h"

namespace sinter::kernels {
namespace {

using namespace testing;

struct Sizes {
  std::int64_t outer, n, inner, m;
};

constexpr Sizes kSizes[] = {
    {1, 5, 7, 3},   {1, 30, 768, 200}, {3, 4, 1, 9},     {2, 3, 33, 100}, {0, 3, 4, 2},  {2, 3, 0, 4},
    {2, 3, 4, 0},   {1, 1, 1, 1},      {1, 1000, 1, 70001}, {300, 2, 2, 101}, {5, 7, 130, 60},
};

std::vector<std::int64_t> random_index(std::int64_t count, std::int64_t n, unsigned seed) {
  std::mt19937_64 generator(seed);
  std::vector<std::int64_t> index(static_cast<std::size_t>(count));
  for (std::int64_t& k : index) k = static_cast<std::int64_t>(generator() % static_cast<std::uint64_t>(n));
  return index;
}

template <class P>
P make_params(Dtype dtype, const Sizes& s) {
  P p;
  p.dtype = dtype;
  p.outer = s.outer;
  p.n = s.n;
  p.inner = s.inner;
  p.m = s.m;
  return p;
}

template <class P>
AnyBuffer computed(const BackendModule& module, P p, const AnyBuffer& src, const std::vector<std::int64_t>& index,
                   const AnyBuffer& before, Stream stream = {}) {
  AnyBuffer dst(p.dtype, before.size());
  dst.assign(before);
  p.src = src.data();
  p.index = index.data();
  p.dst = dst.data();
  EXPECT_TRUE(run_ok(module, p, stream));
  return dst;
}

/// Both instruction sets, 1, 2 and 4 threads, the same bytes as the reference.
template <class P>
void expect_reference(const P& p, const AnyBuffer& src, const std::vector<std::int64_t>& index, const AnyBuffer& before) {
  const AnyBuffer expected = computed(ref_module(), p, src, index, before);
  for_each_cpu([&](const BackendModule& cpu) {
    ASSERT_TRUE(computed(cpu, p, src, index, before).same(expected)) << name(p.dtype) << " inner " << p.inner;
    for (const int threads : {1, 2, 4}) {
      ThreadPool pool(threads);
      ASSERT_TRUE(computed(cpu, p, src, index, before, pool.stream()).same(expected)) << name(p.dtype) << " " << threads;
    }
  });
}

TEST(IndexSelect, MatchesTheReference) {
  for (const Dtype dtype : kAllDtypes)
    for (const Sizes& s : kSizes)
      expect_reference(make_params<IndexSelect>(dtype, s), random_any(dtype, s.outer * s.n * s.inner, 1, true),
                       random_index(s.m, s.n, 2), AnyBuffer(dtype, s.outer * s.m * s.inner));
}

TEST(IndexAdd, AddsInAscendingOrderAsTheReference) {
  for (const Dtype dtype : {Dtype::f32, Dtype::f64, Dtype::i64, Dtype::i32})
    for (const Sizes& s : kSizes)
      for (const std::int64_t skip : {-1, 0}) {
        IndexAdd p = make_params<IndexAdd>(dtype, s);
        p.skip = skip;
        expect_reference(p, random_any(dtype, s.outer * s.m * s.inner, 3), random_index(s.m, s.n, 4),
                         random_any(dtype, s.outer * s.n * s.inner, 5));
      }
}

TEST(IndexAdd, SkippedRowsMayLieOutOfRange) {
  const std::vector<std::int64_t> index = {1, -100, 0};
  IndexAdd p = make_params<IndexAdd>(Dtype::f32, {1, 2, 3, 3});
  p.skip = -100;
  expect_reference(p, random_any(Dtype::f32, 9, 6), index, random_any(Dtype::f32, 6, 7));
}

TEST(Gather, MatchesTheReference) {
  for (const Dtype dtype : kAllDtypes)
    for (const Sizes& s : kSizes)
      expect_reference(make_params<Gather>(dtype, s), random_any(dtype, s.outer * s.n * s.inner, 8, true),
                       random_index(s.outer * s.m * s.inner, s.n, 9), AnyBuffer(dtype, s.outer * s.m * s.inner));
}

TEST(ScatterAdd, AddsInAscendingOrderAsTheReference) {
  for (const Dtype dtype : {Dtype::f32, Dtype::f64, Dtype::i64, Dtype::i32})
    for (const Sizes& s : kSizes)
      expect_reference(make_params<ScatterAdd>(dtype, s), random_any(dtype, s.outer * s.m * s.inner, 10),
                       random_index(s.outer * s.m * s.inner, s.n, 11),
                       random_any(dtype, s.outer * s.n * s.inner, 12));
}

/// One bad index, wherever it stands, refuses the call and leaves dst as it was.
template <class P>
void expect_refusal(std::int64_t indices, std::int64_t src_size, std::int64_t dst_size) {
  for (const BackendModule* module : {&ref_module(), &cpu_module()})
    for (const std::int64_t bad : {std::int64_t{-1}, std::int64_t{5}, INT64_MIN, INT64_MAX})
      for (std::int64_t place = 0; place < indices; place += 1 + indices / 7) {
        std::vector<std::int64_t> index = random_index(indices, 5, 13);
        index[static_cast<std::size_t>(place)] = bad;
        P p = make_params<P>(Dtype::f32, {2, 5, 3, 20});
        const AnyBuffer src = random_any(Dtype::f32, src_size, 14), before = random_any(Dtype::f32, dst_size, 15);
        AnyBuffer dst(Dtype::f32, dst_size);
        dst.assign(before);
        p.src = src.data();
        p.index = index.data();
        p.dst = dst.data();
        EXPECT_EQ(run(*module, p).code, StatusCode::invalid_argument) << bad;
        EXPECT_TRUE(dst.same(before));
      }
}

TEST(Gather, EveryKernelChecksItsIndicesBeforeWriting) {
  expect_refusal<IndexSelect>(20, 2 * 5 * 3, 2 * 20 * 3);
  expect_refusal<IndexAdd>(20, 2 * 20 * 3, 2 * 5 * 3);
  expect_refusal<Gather>(120, 2 * 5 * 3, 2 * 20 * 3);
  expect_refusal<ScatterAdd>(120, 2 * 20 * 3, 2 * 5 * 3);
}

TEST(Gather, AddingOtherDtypesIsRefused) {
  for (const Dtype dtype : {Dtype::f16, Dtype::bf16, Dtype::u8, Dtype::boolean}) {
    EXPECT_EQ(run(cpu_module(), make_params<IndexAdd>(dtype, {0, 1, 1, 0})).code, StatusCode::unsupported);
    EXPECT_EQ(run(cpu_module(), make_params<ScatterAdd>(dtype, {0, 1, 1, 0})).code, StatusCode::unsupported);
  }
}

}  // namespace
}  // namespace sinter::kernels
