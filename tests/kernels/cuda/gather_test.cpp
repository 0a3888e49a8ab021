#include "kernels/gather.h"

#include "tests/kernels/cuda/device_case.h"

namespace sinter::kernels::testing {
namespace {

struct Sizes {
  std::int64_t outer, n, inner, m;
};

/// Rows of a few bytes, of vectors with and without a tail, longer than a warp's range; more work than one block has.
constexpr Sizes kSizes[] = {{1, 5, 7, 3},  {1, 30, 96, 40}, {3, 4, 1, 9}, {2, 3, 33, 70}, {0, 3, 4, 2}, {2, 3, 0, 4},
                            {2, 3, 4, 0},  {1, 1, 1, 1},    {1, 9, 1, 601}, {40, 2, 2, 11}, {2, 5, 144, 33}};
constexpr Dtype kEveryDtype[] = {Dtype::f32, Dtype::f64, Dtype::f16, Dtype::bf16,
                                 Dtype::i64, Dtype::i32, Dtype::u8,  Dtype::boolean};
constexpr Dtype kNumbers[] = {Dtype::f32, Dtype::f64, Dtype::f16, Dtype::bf16, Dtype::i64, Dtype::i32};

template <class P>
P params_of(Dtype dtype, const Sizes& s) {
  P p;
  p.dtype = dtype;
  p.outer = s.outer;
  p.n = s.n;
  p.inner = s.inner;
  p.m = s.m;
  return p;
}

/// IndexSelect and Gather: the same bytes as the reference. `misaligned`: which of src, index, dst.
template <class P>
void check_moves(Dtype dtype, const Sizes& s, std::int64_t indices, int misaligned = -1) {
  SCOPED_TRACE(std::string(name(dtype)) + ", inner " + std::to_string(s.inner) + ", m " + std::to_string(s.m));
  DeviceCase<P> c(params_of<P>(dtype, s));
  c.input_elements(c.params.src, dtype, any_elements(dtype, s.outer * s.n * s.inner, 1));
  if (misaligned == 0) c.misalign(size_of(dtype));
  c.input(c.params.index, Dtype::i64, whole_values(indices, 0, s.n, 2));
  if (misaligned == 1) c.misalign(8);
  c.output(c.params.dst, dtype, s.outer * s.m * s.inner, {.ulps = 0});
  if (misaligned == 2) c.misalign(size_of(dtype));
  c.check();
}

TEST(GatherOnDevice, IndexSelectMatchesReference) {
  for (const Dtype dtype : kEveryDtype) {
    for (const Sizes& s : kSizes) check_moves<IndexSelect>(dtype, s, s.m);
    for (const int misaligned : {0, 1, 2}) check_moves<IndexSelect>(dtype, {2, 3, 16, 5}, 5, misaligned);
  }
  EXPECT_EQ(selected_variant(params_of<IndexSelect>(Dtype::f16, {1, 3, 8, 5})), "by_vector");
  EXPECT_EQ(selected_variant(params_of<IndexSelect>(Dtype::f16, {1, 3, 7, 5})), "by_element");
}

TEST(GatherOnDevice, GatherMatchesReference) {
  for (const Dtype dtype : kEveryDtype) {
    for (const Sizes& s : kSizes) check_moves<Gather>(dtype, s, s.outer * s.m * s.inner);
    for (const int misaligned : {0, 1, 2}) check_moves<Gather>(dtype, {2, 3, 16, 5}, 160, misaligned);
  }
  EXPECT_EQ(selected_variant(params_of<Gather>(Dtype::f16, {1, 3, 7, 5})), "by_vector");
  EXPECT_EQ(selected_variant(params_of<Gather>(Dtype::f64, {1, 3, 7, 5})), "by_element");
}

/// IndexAdd and ScatterAdd. f32, f64 and integers are added in the reference's order with its roundings; 16-bit sums
/// are chains of at most m + 1 in f32.
template <class P>
void check_adds(Dtype dtype, const P& p, const std::vector<double>& index, int misaligned = -1) {
  SCOPED_TRACE(std::string(name(dtype)) + ", inner " + std::to_string(p.inner) + ", m " + std::to_string(p.m));
  const bool is_16_bit = size_of(dtype) == 2;
  const auto values = [&](std::int64_t n, unsigned seed) {
    return is_floating(dtype) ? normal_values(n, seed) : whole_values(n, -1000, 1000, seed);
  };
  DeviceCase<P> c(p);
  c.input(c.params.src, dtype, values(p.outer * p.m * p.inner, 3));
  if (misaligned == 0) c.misalign(size_of(dtype));
  c.input(c.params.index, Dtype::i64, index);
  c.in_out(c.params.dst, dtype, values(p.outer * p.n * p.inner, 4),
           {.ulps = is_16_bit ? static_cast<double>(p.m) + 1 : 0});
  if (misaligned == 2) c.misalign(size_of(dtype));
  c.check();
}

TEST(GatherOnDevice, IndexAddMatchesReference) {
  for (const Dtype dtype : kNumbers) {
    for (const Sizes& s : kSizes)
      for (const std::int64_t skip : {-1, 1}) {
        IndexAdd p = params_of<IndexAdd>(dtype, s);
        p.skip = skip;
        check_adds(dtype, p, whole_values(s.m, 0, s.n, 5));
      }
    for (const int misaligned : {0, 2})
      check_adds(dtype, params_of<IndexAdd>(dtype, {2, 3, 16, 5}), whole_values(5, 0, 3, 5), misaligned);
    IndexAdd p = params_of<IndexAdd>(dtype, {1, 2, 3, 4});
    p.skip = -100;   // out of range, and skipped all the same
    check_adds(dtype, p, {1, -100, 0, -100});
  }
  EXPECT_EQ(selected_variant(params_of<IndexAdd>(Dtype::f32, {1, 10, 8, 32768})), "by_row");
  EXPECT_EQ(selected_variant(params_of<IndexAdd>(Dtype::f32, {1, 10, 8, 32769})), "by_column");
  EXPECT_EQ(selected_variant(params_of<IndexAdd>(Dtype::bf16, {1, 10, 8, 32769})), "by_row");
}

TEST(GatherOnDevice, ScatterAddMatchesReference) {
  for (const Dtype dtype : kNumbers)
    for (const Sizes& s : kSizes)
      check_adds(dtype, params_of<ScatterAdd>(dtype, s), whole_values(s.outer * s.m * s.inner, 0, s.n, 6));
  EXPECT_EQ(selected_variant(params_of<ScatterAdd>(Dtype::f32, {1, 10, 8, 4096})), "by_element");
  EXPECT_EQ(selected_variant(params_of<ScatterAdd>(Dtype::f32, {1, 10, 8, 4097})), "by_column");
  EXPECT_EQ(selected_variant(params_of<ScatterAdd>(Dtype::f32, {256, 10, 256, 3})), "by_column");
  EXPECT_EQ(selected_variant(params_of<ScatterAdd>(Dtype::f16, {256, 10, 256, 3})), "by_element");
}

/// One bad index, wherever it stands, stops the kernel.
template <class P>
void check_bad_index(std::int64_t indices, std::int64_t src_size, std::int64_t dst_size) {
  for (const double bad : {-1.0, 5.0, -0x1p63, 0x1p62})
    for (const std::int64_t place : {std::int64_t{0}, indices / 2, indices - 1}) {
      std::vector<double> index = whole_values(indices, 0, 5, 7);
      index[static_cast<std::size_t>(place)] = bad;
      DeviceCase<P> c(params_of<P>(Dtype::f32, {2, 5, 4, 20}));
      c.input(c.params.src, Dtype::f32, normal_values(src_size, 1));
      c.input(c.params.index, Dtype::i64, index);
      c.in_out(c.params.dst, Dtype::f32, normal_values(dst_size, 2), {});
      c.check_stops("an index lies outside [0, n)");
    }
}

TEST(GatherOnDevice, EveryKernelStopsAtAnIndexOutOfRange) {
  check_bad_index<IndexSelect>(20, 2 * 5 * 4, 2 * 20 * 4);
  check_bad_index<IndexAdd>(20, 2 * 20 * 4, 2 * 5 * 4);
  check_bad_index<Gather>(160, 2 * 5 * 4, 2 * 20 * 4);
  check_bad_index<ScatterAdd>(160, 2 * 20 * 4, 2 * 5 * 4);
}

TEST(GatherOnDevice, AddingBytesIsRefused) {
  for (const Dtype dtype : {Dtype::u8, Dtype::boolean}) {
    expect_refused(params_of<IndexAdd>(dtype, {0, 1, 1, 0}), "adding needs");
    expect_refused(params_of<ScatterAdd>(dtype, {0, 1, 1, 0}), "adding needs");
  }
  expect_refused(params_of<Gather>(Dtype::f32, {-1, 1, 1, 0}), "must not be negative");
}

}  // namespace
}  // namespace sinter::kernels::testing
