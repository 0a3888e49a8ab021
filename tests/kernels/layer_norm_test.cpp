#include "kernels/layer_norm.h"

#include <tuple>

#include "tests/kernels/kernel_test.h"
#include "tests/kernels/row_cases.h"

namespace sinter::kernels::testing {
namespace {

/// Rounding of a row: its sums run over 4 accumulators of at least 4 lanes, then a tree; 16 for the arithmetic around.
template <class T>
double row_tolerance(std::int64_t cols) {
  return (static_cast<double>(cols) / 16 + 16) * kUlp<T>;
}
/// Rounding of a column: chains of 64 rows and of the blocks, each term rounded a few times.
template <class T>
double column_tolerance(std::int64_t rows) {
  return (64 + static_cast<double>(rows) / 64 + 8) * kUlp<T>;
}

template <class T>
struct Operands {
  std::int64_t rows, cols;
  Buffer<T> x, residual, dy, bias, gamma, beta;

  explicit Operands(RowShape shape)
      : rows(shape.rows), cols(shape.cols), x(random_buffer<T>(rows * cols, 1, 0.3, 1.5)),
        residual(random_buffer<T>(rows * cols, 2)), dy(random_buffer<T>(rows * cols, 3)),
        bias(random_buffer<T>(cols, 4)), gamma(random_buffer<T>(cols, 5, 1, 0.2)), beta(random_buffer<T>(cols, 6)) {}
};

template <class T>
struct ForwardOutputs {
  Buffer<T> z, y, mean, rstd;
  explicit ForwardOutputs(const Operands<T>& in)
      : z(in.rows * in.cols), y(in.rows * in.cols), mean(in.rows), rstd(in.rows) {}

  LayerNorm plain(const Operands<T>& in) {
    return {dtype_of<T>, in.rows, in.cols, 1e-12, in.x.data(), in.gamma.data(), in.beta.data(), y.data(), mean.data(),
            rstd.data()};
  }
  BiasDropoutResidualLayerNorm residual(const Operands<T>& in, Dropout16 dropout, RowMap map = {}) {
    return {dtype_of<T>, in.rows, in.cols, 1e-12, dropout, map, in.x.data(), in.bias.data(), in.residual.data(),
            in.gamma.data(), in.beta.data(), z.data(), y.data(), mean.data(), rstd.data()};
  }
};

template <class T>
struct BackwardOutputs {
  Buffer<T> dx, dresidual, dbias, dgamma, dbeta, workspace;
  explicit BackwardOutputs(const Operands<T>& in)
      : dx(in.rows * in.cols), dresidual(in.rows * in.cols), dbias(in.cols), dgamma(in.cols), dbeta(in.cols),
        workspace(3 * ((in.rows + 63) / 64) * in.cols) {}

  LayerNormBackward plain(const Operands<T>& in, const ForwardOutputs<T>& forward) {
    return {dtype_of<T>, in.rows, in.cols, in.dy.data(), in.x.data(), forward.mean.data(), forward.rstd.data(),
            in.gamma.data(), dx.data(), dgamma.data(), dbeta.data(), workspace.data()};
  }
  BiasDropoutResidualLayerNormBackward residual(const Operands<T>& in, const ForwardOutputs<T>& forward,
                                                Dropout16 dropout, RowMap map = {}) {
    return {dtype_of<T>, in.rows, in.cols, dropout, map, in.dy.data(), forward.z.data(), forward.mean.data(),
            forward.rstd.data(), in.gamma.data(), dx.data(), dresidual.data(), dbias.data(), dgamma.data(),
            dbeta.data(), workspace.data()};
  }
};

template <class T>
class LayerNormTest : public ::testing::Test {};
using Types = ::testing::Types<float, double>;
TYPED_TEST_SUITE(LayerNormTest, Types);

TYPED_TEST(LayerNormTest, ForwardMatchesReference) {
  using T = TypeParam;
  for (const RowShape shape : kRowShapes) {
    SCOPED_TRACE(std::to_string(shape.rows) + " x " + std::to_string(shape.cols));
    const Operands<T> in(shape);
    ForwardOutputs<T> expected(in);
    ASSERT_TRUE(run_ok(ref_module(), expected.plain(in)));
    for_each_cpu([&](const BackendModule& cpu) {
      ForwardOutputs<T> actual(in);
      ASSERT_TRUE(run_ok(cpu, actual.plain(in)));
      expect_close(actual.y.span(), expected.y.span(), row_tolerance<T>(in.cols), "y", 1);
      expect_close(actual.mean.span(), expected.mean.span(), row_tolerance<T>(in.cols), "mean", 1);
      expect_close(actual.rstd.span(), expected.rstd.span(), row_tolerance<T>(in.cols), "rstd");
    });
  }
}

TYPED_TEST(LayerNormTest, BackwardMatchesReference) {
  using T = TypeParam;
  for (const RowShape shape : kRowShapes) {
    SCOPED_TRACE(std::to_string(shape.rows) + " x " + std::to_string(shape.cols));
    const Operands<T> in(shape);
    ForwardOutputs<T> forward(in);
    ASSERT_TRUE(run_ok(ref_module(), forward.plain(in)));
    BackwardOutputs<T> expected(in);
    ASSERT_TRUE(run_ok(ref_module(), expected.plain(in, forward)));
    const double rows = static_cast<double>(in.rows);
    for_each_cpu([&](const BackendModule& cpu) {
      BackwardOutputs<T> actual(in);
      ASSERT_TRUE(run_ok(cpu, actual.plain(in, forward)));
      // One chain of additions a row here: four times the length of the forward's.
      expect_close(actual.dx.span(), expected.dx.span(), row_tolerance<T>(4 * in.cols), "dx", 1);
      expect_close(actual.dgamma.span(), expected.dgamma.span(), column_tolerance<T>(in.rows), "dgamma", rows);
      expect_close(actual.dbeta.span(), expected.dbeta.span(), column_tolerance<T>(in.rows), "dbeta", rows);
    });
  }
}

TYPED_TEST(LayerNormTest, ResidualForwardMatchesReference) {
  using T = TypeParam;
  const DropoutSite site;
  for (const RowShape shape : kRowShapes)
    for (const double p : {0.0, 0.1}) {
      SCOPED_TRACE(std::to_string(shape.rows) + " x " + std::to_string(shape.cols) + " p " + std::to_string(p));
      const Operands<T> in(shape);
      ForwardOutputs<T> expected(in);
      ASSERT_TRUE(run_ok(ref_module(), expected.residual(in, site.dropout(p))));
      for_each_cpu([&](const BackendModule& cpu) {
        ForwardOutputs<T> actual(in);
        ASSERT_TRUE(run_ok(cpu, actual.residual(in, site.dropout(p))));
        expect_close(actual.z.span(), expected.z.span(), 4 * kUlp<T>, "z", 1);
        if (in.cols == 1) return;  // the variance is the rounding of z there
        expect_close(actual.y.span(), expected.y.span(), row_tolerance<T>(in.cols), "y", 1);
        expect_close(actual.mean.span(), expected.mean.span(), row_tolerance<T>(in.cols), "mean", 1);
        expect_close(actual.rstd.span(), expected.rstd.span(), row_tolerance<T>(in.cols), "rstd");
      });
    }
}

TYPED_TEST(LayerNormTest, ResidualBackwardMatchesReference) {
  using T = TypeParam;
  const DropoutSite site;
  for (const RowShape shape : kRowShapes)
    for (const double p : {0.0, 0.1}) {
      SCOPED_TRACE(std::to_string(shape.rows) + " x " + std::to_string(shape.cols) + " p " + std::to_string(p));
      const Operands<T> in(shape);
      ForwardOutputs<T> forward(in);
      ASSERT_TRUE(run_ok(ref_module(), forward.residual(in, site.dropout(p))));
      BackwardOutputs<T> expected(in);
      ASSERT_TRUE(run_ok(ref_module(), expected.residual(in, forward, site.dropout(p))));
      const double rows = static_cast<double>(in.rows);
      for_each_cpu([&](const BackendModule& cpu) {
        BackwardOutputs<T> actual(in);
        BiasDropoutResidualLayerNormBackward params = actual.residual(in, forward, site.dropout(p));
        if (p == 0) params.dx = nullptr;
        ASSERT_TRUE(run_ok(cpu, params));
        expect_close(actual.dresidual.span(), expected.dresidual.span(), row_tolerance<T>(4 * in.cols), "dz", 1);
        if (p > 0) expect_close(actual.dx.span(), expected.dx.span(), row_tolerance<T>(4 * in.cols), "dx", 1);
        expect_close(actual.dgamma.span(), expected.dgamma.span(), column_tolerance<T>(in.rows), "dgamma", rows);
        expect_close(actual.dbeta.span(), expected.dbeta.span(), column_tolerance<T>(in.rows), "dbeta", rows);
        expect_close(actual.dbias.span(), expected.dbias.span(), column_tolerance<T>(in.rows), "dbias", rows);
      });
    }
}

TEST(LayerNormStores, LargeResultsHaveTheBitsOfTheirRows) {
  // 17 MiB: above the size from which the CPU writes around its caches; in place or off a cache line it does not.
  const Operands<float> in({5802, 768});
  for_each_cpu([&](const BackendModule& cpu) {
    ThreadPool pool(2);
    ForwardOutputs<float> large(in), in_place(in);
    ASSERT_TRUE(run_ok(cpu, large.plain(in), pool.stream()));
    in_place.y.assign(in.x);
    LayerNorm params = in_place.plain(in);
    params.x = params.y;
    ASSERT_TRUE(run_ok(cpu, params));
    expect_same_bits(large.y, in_place.y, "y");

    BackwardOutputs<float> gradients(in), cached(in);
    ASSERT_TRUE(run_ok(cpu, gradients.plain(in, large), pool.stream()));
    Buffer<float> off_the_line(gradients.dx.size() + 1), dx(gradients.dx.size());
    LayerNormBackward backward = cached.plain(in, large);
    backward.dx = off_the_line.data() + 1;
    ASSERT_TRUE(run_ok(cpu, backward));
    std::copy_n(off_the_line.data() + 1, dx.size(), dx.data());
    expect_same_bits(gradients.dx, dx, "dx");
    expect_same_bits(gradients.dgamma, cached.dgamma, "dgamma");
    expect_same_bits(gradients.dbeta, cached.dbeta, "dbeta");
  });
}

TYPED_TEST(LayerNormTest, ThreadsDoNotChangeBits) {
  using T = TypeParam;
  const DropoutSite site;
  const Operands<T> in({200, 770});
  for_each_cpu([&](const BackendModule& cpu) {
    ForwardOutputs<T> forward(in), forward_one(in);
    BackwardOutputs<T> one(in);
    ASSERT_TRUE(run_ok(cpu, forward_one.residual(in, site.dropout(0.1))));
    ASSERT_TRUE(run_ok(cpu, one.residual(in, forward_one, site.dropout(0.1))));
    for (const int threads : {1, 2, 4}) {
      ThreadPool pool(threads);
      BackwardOutputs<T> many(in);
      ASSERT_TRUE(run_ok(cpu, forward.residual(in, site.dropout(0.1)), pool.stream()));
      ASSERT_TRUE(run_ok(cpu, many.residual(in, forward, site.dropout(0.1)), pool.stream()));
      expect_same_bits(forward.y, forward_one.y, "y");
      expect_same_bits(many.dx, one.dx, "dx");
      expect_same_bits(many.dgamma, one.dgamma, "dgamma");
      expect_same_bits(many.dbeta, one.dbeta, "dbeta");
      expect_same_bits(many.dbias, one.dbias, "dbias");
    }
  });
}

TYPED_TEST(LayerNormTest, ARowDoesNotDependOnItsNeighbours) {
  using T = TypeParam;
  const Operands<T> in({7, 100});
  for_each_cpu([&](const BackendModule& cpu) {
    ForwardOutputs<T> forward(in);
    BackwardOutputs<T> all(in);
    ASSERT_TRUE(run_ok(cpu, forward.plain(in)));
    ASSERT_TRUE(run_ok(cpu, all.plain(in, forward)));
    for (std::int64_t r = 0; r < in.rows; ++r) {
      Buffer<T> y(in.cols), mean(1), rstd(1), dx(in.cols);
      LayerNorm row = forward.plain(in);
      row.rows = 1;
      row.x = in.x.data() + r * in.cols;
      row.y = y.data();
      row.mean = mean.data();
      row.rstd = rstd.data();
      ASSERT_TRUE(run_ok(cpu, row));
      ASSERT_EQ(std::memcmp(y.data(), forward.y.data() + r * in.cols, sizeof(T) * 100), 0) << r;
      LayerNormBackward back = all.plain(in, forward);
      back.rows = 1;
      back.dy = in.dy.data() + r * in.cols;
      back.x = row.x;
      back.mean = mean.data();
      back.rstd = rstd.data();
      back.dx = dx.data();
      back.dgamma = back.dbeta = back.workspace = nullptr;
      ASSERT_TRUE(run_ok(cpu, back));
      ASSERT_EQ(std::memcmp(dx.data(), all.dx.data() + r * in.cols, sizeof(T) * 100), 0) << r;
    }
  });
}

TYPED_TEST(LayerNormTest, OptionalOperands) {
  using T = TypeParam;
  const Operands<T> in({65, 33});
  for_each_cpu([&](const BackendModule& cpu) {
    ForwardOutputs<T> full(in), less(in);
    BackwardOutputs<T> all(in), part(in);
    ASSERT_TRUE(run_ok(cpu, full.residual(in, {})));
    BiasDropoutResidualLayerNorm params = less.residual(in, {});
    params.z = params.mean = params.rstd = nullptr;
    ASSERT_TRUE(run_ok(cpu, params));
    expect_same_bits(less.y, full.y, "y without z, mean and rstd");

    ForwardOutputs<T> expected(in), actual(in);
    params = expected.residual(in, {});
    params.bias = nullptr;
    ASSERT_TRUE(run_ok(ref_module(), params));
    params = actual.residual(in, {});
    params.bias = nullptr;
    ASSERT_TRUE(run_ok(cpu, params));
    expect_close(actual.y.span(), expected.y.span(), row_tolerance<T>(in.cols), "y without bias", 1);

    ASSERT_TRUE(run_ok(cpu, full.plain(in)));
    ASSERT_TRUE(run_ok(cpu, all.plain(in, full)));
    LayerNormBackward back = part.plain(in, full);
    back.dx = nullptr;
    ASSERT_TRUE(run_ok(cpu, back));
    expect_same_bits(part.dgamma, all.dgamma, "dgamma without dx");
    expect_same_bits(part.dbeta, all.dbeta, "dbeta without dx");
    back = part.plain(in, full);
    back.dgamma = back.dbeta = back.workspace = nullptr;
    ASSERT_TRUE(run_ok(cpu, back));
    expect_same_bits(part.dx, all.dx, "dx without dgamma and dbeta");

    ASSERT_TRUE(run_ok(cpu, full.residual(in, {})));
    BiasDropoutResidualLayerNormBackward residual = all.residual(in, full, {});
    residual.dx = nullptr;
    ASSERT_TRUE(run_ok(cpu, residual));
    residual = part.residual(in, full, {});
    residual.dx = residual.dresidual;
    residual.dbias = nullptr;
    ASSERT_TRUE(run_ok(cpu, residual));
    expect_same_bits(part.dresidual, all.dresidual, "dresidual where dx is the same memory");
  });
}

TYPED_TEST(LayerNormTest, PackedRowsDrawWhatPaddedRowsDraw) {
  using T = TypeParam;
  const std::vector<std::int32_t> lengths = {5, 1, 9, 3};
  constexpr std::int64_t kLength = 9, kCols = 33;
  const DropoutSite site;
  const PackedRows packed(lengths), padded(std::vector<std::int32_t>(lengths.size(), kLength));
  const Operands<T> padded_in({padded.rows(), kCols});
  Operands<T> packed_in({packed.rows(), kCols});
  const auto place = [&](std::int64_t r) {
    const auto i = static_cast<std::size_t>(r);
    return (packed.sample[i] * kLength + packed.position[i]) * kCols;
  };
  for (std::int64_t r = 0; r < packed.rows(); ++r)
    for (std::int64_t c = 0; c < kCols; ++c) {
      packed_in.x[r * kCols + c] = padded_in.x[place(r) + c];
      packed_in.residual[r * kCols + c] = padded_in.residual[place(r) + c];
    }
  for_each_cpu([&](const BackendModule& cpu) {
    ForwardOutputs<T> a(padded_in), b(packed_in);
    ASSERT_TRUE(run_ok(cpu, a.residual(padded_in, site.dropout(0.5), padded.map())));
    ASSERT_TRUE(run_ok(cpu, b.residual(packed_in, site.dropout(0.5), packed.map())));
    for (std::int64_t r = 0; r < packed.rows(); ++r)
      ASSERT_EQ(std::memcmp(b.y.data() + r * kCols, a.y.data() + place(r), sizeof(T) * kCols), 0) << "row " << r;
  });
}

TEST(LayerNormChecks, RefuseWhatTheContractForbids) {
  LayerNormBackward backward;
  float value = 0;
  backward.dgamma = &value;
  EXPECT_EQ(run(cpu_module(), backward).code, StatusCode::invalid_argument);
  LayerNorm forward;
  forward.rows = 1;
  EXPECT_EQ(run(cpu_module(), forward).code, StatusCode::invalid_argument);
  forward.cols = -1;
  EXPECT_EQ(run(cpu_module(), forward).code, StatusCode::invalid_argument);
  forward = {};
  forward.dtype = Dtype::bf16;
  EXPECT_EQ(run(cpu_module(), forward).code, StatusCode::unsupported);
  const DropoutSite site;
  BiasDropoutResidualLayerNormBackward residual;
  residual.dropout = site.dropout(0.1);
  residual.rows = residual.cols = 1;
  EXPECT_EQ(run(cpu_module(), residual).code, StatusCode::invalid_argument);
}

}  // namespace
}  // namespace sinter::kernels::testing
