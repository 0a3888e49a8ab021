#include "kernels/reduce.h"

#include "tests/kernels/strided_case.h"

namespace sinter::kernels {
namespace {

using namespace testing;

constexpr Dtype kNumbers[] = {Dtype::f32, Dtype::f64, Dtype::i64, Dtype::i32};
constexpr ReduceOp kOps[] = {ReduceOp::sum, ReduceOp::max, ReduceOp::min};

std::int64_t outputs_of(const Reduce& p) {
  std::int64_t n = 1;
  for (int d = 0; d < p.extents.rank; ++d)
    if ((p.reduced >> d & 1u) == 0) n *= p.extents.size[d];
  return n;
}

Dtype result_dtype(Dtype dtype) { return dtype == Dtype::boolean ? Dtype::i64 : dtype; }

AnyBuffer computed(const BackendModule& module, Reduce p, const AnyBuffer& in, Stream stream = {}) {
  AnyBuffer out(result_dtype(p.dtype), outputs_of(p));
  p.in = in.data();
  p.out = out.data();
  EXPECT_TRUE(run_ok(module, p, stream));
  return out;
}

/// Worst error of a sum of n floats in the documented tree, as a multiple of the sum of magnitudes: one unit roundoff
/// for each addition on the longest path, 16 in a lane, 4 in the fold, log2 of the number of blocks, and the result's;
/// and n roundings of the reference, which adds one element after the other in f64.
double tree_error(Dtype dtype, std::int64_t n) {
  const double unit = dtype == Dtype::f32 ? 0x1p-24 : 0x1p-53, inputs = static_cast<double>(n);
  return unit * (21 + std::log2(1 + inputs / 256)) + 0x1p-53 * inputs;
}

/// Sums within the tree's error of `magnitudes` (the sums of |x|); everything else exact, NaN equal to NaN.
::testing::AssertionResult matches(const Reduce& p, const AnyBuffer& actual, const AnyBuffer& expected,
                                   const AnyBuffer& magnitudes) {
  if (p.op != ReduceOp::sum || !is_floating(p.dtype)) return actual.same(expected);
  const double error = tree_error(p.dtype, p.extents.count() / std::max<std::int64_t>(1, outputs_of(p)));
  for (std::int64_t i = 0; i < actual.size(); ++i) {
    const double x = actual.get(i), y = expected.get(i);
    if (x == y || (std::isnan(x) && std::isnan(y)) || std::abs(x - y) <= error * magnitudes.get(i)) continue;
    return ::testing::AssertionFailure() << "output " << i << " is " << x << ", expected " << y;
  }
  return ::testing::AssertionSuccess();
}

/// |x| of every element; NaN and infinities stay.
AnyBuffer magnitudes_of(const AnyBuffer& in) {
  AnyBuffer result(in.dtype(), in.size());
  result.assign(in);
  if (is_floating(in.dtype()))
    for (std::int64_t i = 0; i < in.size(); ++i) result.set(i, std::abs(in.get(i)));
  return result;
}

/// Every op and both instruction sets against the reference for one shape, layout and set of dimensions.
void expect_reference(Reduce p, const AnyBuffer& in, Stream stream = {}) {
  for (const ReduceOp op : kOps) {
    p.op = op;
    if (!check(p).ok()) {
      EXPECT_EQ(run(cpu_module(), p).code, StatusCode::invalid_argument);
      continue;
    }
    const AnyBuffer expected = computed(ref_module(), p, in);
    const AnyBuffer scale = computed(ref_module(), p, magnitudes_of(in));
    for_each_cpu([&](const BackendModule& cpu) {
      ASSERT_TRUE(matches(p, computed(cpu, p, in, stream), expected, scale)) << "op " << static_cast<int>(op);
    });
  }
}

TEST(Reduce, EverySetOfDimensionsDtypeAndLayoutMatchesTheReference) {
  const Extents shapes[] = {
      make_extents({}),        make_extents({1}),          make_extents({7}),          make_extents({300}),
      make_extents({0}),       make_extents({3, 0, 2}),    make_extents({5, 33}),      make_extents({33, 17}),
      make_extents({3, 5, 7}), make_extents({2, 9, 1, 8}), make_extents({2, 3, 2, 2, 3}),
      make_extents({2, 2, 3, 2, 1, 4}),
  };
  for (const Dtype dtype : kNumbers)
    for (const Extents& extents : shapes)
      for (const Layout layout : kAllLayouts)
        for (std::uint32_t reduced = 0; reduced < 1u << extents.rank; ++reduced)
          for (const bool specials : {false, true}) {
            SCOPED_TRACE(std::string(name(dtype)) + " " + name(layout) + " rank " + std::to_string(extents.rank) +
                         " reduced " + std::to_string(reduced));
            Reduce p{.dtype = dtype, .extents = extents, .in_strides = make_strides(extents, layout),
                     .reduced = reduced};
            expect_reference(p, random_any(dtype, span_of(extents, p.in_strides), 61, specials));
            if (HasFatalFailure()) return;
          }
}

TEST(Reduce, LongReductionsMatchTheReferenceForEveryNumberOfThreads) {
  struct Case { Extents extents; std::uint32_t reduced; Layout layout; };
  const Case cases[] = {
      {make_extents({100003}), 1, Layout::contiguous},      {make_extents({70001}), 1, Layout::sliced},
      {make_extents({257, 1023}), 2, Layout::contiguous},   {make_extents({1025, 300}), 1, Layout::contiguous},
      {make_extents({2000, 77}), 1, Layout::contiguous},    {make_extents({9000, 9}), 1, Layout::contiguous},
      {make_extents({70000, 3}), 1, Layout::contiguous},    {make_extents({3, 1300, 40}), 2, Layout::contiguous},
      {make_extents({40, 33, 65}), 5, Layout::contiguous},  {make_extents({200, 513}), 3, Layout::transposed},
      {make_extents({5, 40000}), 2, Layout::contiguous},    {make_extents({511, 130}), 1, Layout::transposed},
  };
  for (const Case& c : cases)
    for (const Dtype dtype : {Dtype::f32, Dtype::f64, Dtype::i32}) {
      Reduce p{.dtype = dtype, .extents = c.extents, .in_strides = make_strides(c.extents, c.layout),
               .reduced = c.reduced};
      const AnyBuffer in = random_any(dtype, span_of(c.extents, p.in_strides), 62);
      expect_reference(p, in);
      for_each_cpu([&](const BackendModule& cpu) {
        const AnyBuffer serial = computed(cpu, p, in);
        ASSERT_TRUE(computed(cpu, p, in).same(serial));
        for (const int threads : {1, 2, 4}) {
          ThreadPool pool(threads);
          ASSERT_TRUE(computed(cpu, p, in, pool.stream()).same(serial)) << threads;
        }
      });
      if (HasFatalFailure()) return;
    }
}

/// The documented tree, written out once more.
float tree_sum(const std::vector<float>& x) {
  std::vector<std::pair<int, float>> runs;  // (level, sum), longest first
  for (std::size_t first = 0; first < x.size(); first += 256) {
    float lane[16] = {};
    for (std::size_t i = first; i < std::min(x.size(), first + 256); ++i) lane[i % 16] += x[i];
    for (int half = 8; half > 0; half /= 2)
      for (int l = 0; l < half; ++l) lane[l] += lane[l + half];
    runs.push_back({0, lane[0]});
    while (runs.size() > 1 && runs[runs.size() - 2].first == runs.back().first) {
      const auto last = runs.back();
      runs.pop_back();
      runs.back() = {last.first + 1, runs.back().second + last.second};
    }
  }
  if (runs.empty()) return 0;
  float sum = runs.back().second;
  for (std::size_t i = runs.size() - 1; i > 0; --i) sum = runs[i - 1].second + sum;
  return sum;
}

TEST(Reduce, SumIsTheDocumentedTreeAlongRowsAcrossColumnsAloneAndAmongOthers) {
  for (const std::int64_t n : {1, 15, 16, 17, 255, 256, 257, 1000, 1024, 1300, 5000, 33000, 70000, 140000}) {
    std::mt19937 generator(static_cast<unsigned>(n));
    std::normal_distribution<float> normal;
    std::vector<float> x(static_cast<std::size_t>(n));
    for (float& value : x) value = normal(generator);
    const float expected = tree_sum(x);
    for_each_cpu([&](const BackendModule& cpu) {
      ThreadPool pool(2);
      const auto sum_of = [&](const Extents& extents, const Strides& strides, std::uint32_t reduced, const float* in,
                              std::int64_t output) {
        Reduce p{.dtype = Dtype::f32, .extents = extents, .in_strides = strides, .reduced = reduced, .in = in};
        Buffer<float> out(outputs_of(p));
        p.out = out.data();
        EXPECT_TRUE(run_ok(cpu, p, pool.stream()));
        return out[output];
      };
      EXPECT_EQ(sum_of(make_extents({n}), {{1}}, 1, x.data(), 0), expected) << n;
      for (const std::int64_t columns : {3, 9, 70, 200}) {
        if (n * columns > 2000000) continue;
        Buffer<float> in(n * columns);
        in.fill(1);
        const std::int64_t mine = columns - 2;
        for (std::int64_t i = 0; i < n; ++i) in[i * columns + mine] = x[static_cast<std::size_t>(i)];
        EXPECT_EQ(sum_of(make_extents({n, columns}), {{columns, 1}}, 1, in.data(), mine), expected) << n << " " << columns;
        EXPECT_EQ(sum_of(make_extents({columns, n}), {{1, columns}}, 2, in.data(), mine), expected) << n << " " << columns;
        for (std::int64_t i = 0; i < n; ++i) in[mine * n + i] = x[static_cast<std::size_t>(i)];
        EXPECT_EQ(sum_of(make_extents({columns, n}), {{n, 1}}, 2, in.data(), mine), expected) << n << " " << columns;
      }
    });
  }
}

TEST(Reduce, BooleansAreCountedInto64Bits) {
  for (const Extents& extents : {make_extents({70003}), make_extents({300, 40})})
    for (const std::uint32_t reduced : {1u, 0u}) {
      Reduce p{.dtype = Dtype::boolean, .extents = extents, .in_strides = contiguous_strides(extents),
               .reduced = reduced};
      const AnyBuffer in = random_any(Dtype::boolean, extents.count(), 63);
      const AnyBuffer expected = computed(ref_module(), p, in);
      for_each_cpu([&](const BackendModule& cpu) { ASSERT_TRUE(computed(cpu, p, in).same(expected)); });
      p.op = ReduceOp::max;
      EXPECT_EQ(run(cpu_module(), p).code, StatusCode::unsupported);
    }
}

TEST(Reduce, NanWinsWhereverItStands) {
  for (const std::int64_t n : {1, 20, 300, 2000})
    for (std::int64_t place = 0; place < n; place += 1 + n / 13) {
      Buffer<float> in(n);
      in.fill(3);
      in[place] = NAN;
      for_each_cpu([&](const BackendModule& cpu) {
        for (const ReduceOp op : {ReduceOp::max, ReduceOp::min}) {
          float out = 0;
          ASSERT_TRUE(run_ok(cpu, Reduce{.op = op, .dtype = Dtype::f32, .extents = make_extents({n}),
                                         .in_strides = {{1}}, .reduced = 1, .in = in.data(), .out = &out}));
          ASSERT_TRUE(std::isnan(out)) << n << " " << place;
        }
      });
    }
}

TEST(Reduce, MaximumOfNothingAndBadDimensionsAreRefused) {
  Reduce p{.op = ReduceOp::max, .dtype = Dtype::f32, .extents = make_extents({2, 0}), .in_strides = {}, .reduced = 2};
  EXPECT_EQ(run(cpu_module(), p).code, StatusCode::invalid_argument);
  p.reduced = 1;  // no outputs: nothing to refuse
  EXPECT_TRUE(run_ok(cpu_module(), p));
  p.reduced = 4;
  EXPECT_EQ(run(cpu_module(), p).code, StatusCode::invalid_argument);
}

TEST(ArgReduce, MatchesTheReferenceWithTiesAndNan) {
  for (const Dtype dtype : kNumbers)
    for (const std::int64_t outer : {0, 1, 3, 40})
      for (const std::int64_t n : {1, 2, 17, 300, 1000})
        for (const std::int64_t inner : {1, 2, 33, 200})
          for (const bool specials : {false, true}) {
            if (outer * n * inner > 300000) continue;
            ArgReduce p{.dtype = dtype, .outer = outer, .n = n, .inner = inner};
            AnyBuffer in = random_any(dtype, outer * n * inner, 64, specials);
            if (is_floating(dtype) && !specials)  // few distinct values: ties
              for (std::int64_t i = 0; i < in.size(); ++i) in.set(i, std::round(in.get(i)));
            const auto places = [&](const BackendModule& module, Stream stream) {
              AnyBuffer out(Dtype::i64, outer * inner);
              p.in = in.data();
              p.out = static_cast<std::int64_t*>(out.data());
              EXPECT_TRUE(run_ok(module, p, stream));
              return out;
            };
            const AnyBuffer expected = places(ref_module(), {});
            ThreadPool pool(2);
            for_each_cpu([&](const BackendModule& cpu) {
              ASSERT_TRUE(places(cpu, pool.stream()).same(expected)) << outer << " " << n << " " << inner;
            });
            if (HasFatalFailure()) return;
          }
}

}  // namespace
}  // namespace sinter::kernels
