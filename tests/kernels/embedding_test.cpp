#include "kernels/embedding.h"

#include "tests/kernels/kernel_test.h"
#include "tests/kernels/row_cases.h"

namespace sinter::kernels::testing {
namespace {

constexpr std::int64_t kVocab = 40, kTypes = 2, kPositions = 24, kPadding = 3;

template <class T>
struct Operands {
  std::int64_t tokens, cols;
  std::vector<std::int64_t> ids, type_ids, position_ids;
  Buffer<T> word, type, position, gamma, beta, dy;

  explicit Operands(RowShape shape)
      : tokens(shape.rows), cols(shape.cols), word(random_buffer<T>(kVocab * cols, 1)),
        type(random_buffer<T>(kTypes * cols, 2)), position(random_buffer<T>(kPositions * cols, 3)),
        gamma(random_buffer<T>(cols, 4, 1, 0.2)), beta(random_buffer<T>(cols, 5)),
        dy(random_buffer<T>(tokens * cols, 6)) {
    std::mt19937 generator(7);
    for (std::int64_t t = 0; t < tokens; ++t) {
      ids.push_back(static_cast<std::int64_t>(generator() % kVocab));
      type_ids.push_back(static_cast<std::int64_t>(generator() % kTypes));
      position_ids.push_back(t % kPositions);
    }
  }
};

template <class T>
struct Forward {
  Buffer<T> z, y, mean, rstd;
  explicit Forward(const Operands<T>& in)
      : z(in.tokens * in.cols), y(in.tokens * in.cols), mean(in.tokens), rstd(in.tokens) {}

  EmbeddingLayerNorm params(const Operands<T>& in, Dropout16 dropout, RowMap map = {}) {
    EmbeddingLayerNorm p{dtype_of<T>, in.tokens, in.cols, kVocab, kTypes, kPositions, 1e-12, dropout, map};
    p.ids = in.ids.data();
    p.type_ids = in.type_ids.data();
    p.position_ids = in.position_ids.data();
    p.word = in.word.data();
    p.type = in.type.data();
    p.position = in.position.data();
    p.gamma = in.gamma.data();
    p.beta = in.beta.data();
    p.z = z.data();
    p.y = y.data();
    p.mean = mean.data();
    p.rstd = rstd.data();
    return p;
  }
};

template <class T>
struct Backward {
  Buffer<T> dword, dtype_table, dposition, dgamma, dbeta, workspace;
  explicit Backward(const Operands<T>& in)
      : dword(random_buffer<T>(kVocab * in.cols, 11)), dtype_table(random_buffer<T>(kTypes * in.cols, 12)),
        dposition(random_buffer<T>(kPositions * in.cols, 13)), dgamma(in.cols), dbeta(in.cols),
        workspace((in.tokens + 2 * ((in.tokens + 63) / 64)) * in.cols + kVocab + kTypes + kPositions + 3 * in.tokens) {}

  EmbeddingLayerNormBackward params(const Operands<T>& in, const Forward<T>& forward, Dropout16 dropout) {
    EmbeddingLayerNormBackward p{dtype_of<T>, in.tokens, in.cols, kVocab, kTypes, kPositions, kPadding, dropout, {}};
    p.ids = in.ids.data();
    p.type_ids = in.type_ids.data();
    p.position_ids = in.position_ids.data();
    p.dy = in.dy.data();
    p.z = forward.z.data();
    p.mean = forward.mean.data();
    p.rstd = forward.rstd.data();
    p.gamma = in.gamma.data();
    p.dword = dword.data();
    p.dtype_table = dtype_table.data();
    p.dposition = dposition.data();
    p.dgamma = dgamma.data();
    p.dbeta = dbeta.data();
    p.workspace = workspace.data();
    return p;
  }
};

template <class T>
class EmbeddingTest : public ::testing::Test {};
using Types = ::testing::Types<float, double>;
TYPED_TEST_SUITE(EmbeddingTest, Types);

const std::vector<RowShape> kShapes = {{0, 7},    {1, 7},     {63, 33},  {64, 100},
                                       {65, 128}, {200, 384}, {65, 770}, {3, 1030}};

TYPED_TEST(EmbeddingTest, ForwardMatchesReference) {
  using T = TypeParam;
  const DropoutSite site;
  for (const RowShape shape : kShapes)
    for (const double p : {0.0, 0.1}) {
      SCOPED_TRACE(std::to_string(shape.rows) + " x " + std::to_string(shape.cols) + " p " + std::to_string(p));
      const Operands<T> in(shape);
      Forward<T> expected(in);
      ASSERT_TRUE(run_ok(ref_module(), expected.params(in, site.dropout(p))));
      for_each_cpu([&](const BackendModule& cpu) {
        Forward<T> actual(in), inference(in);
        ASSERT_TRUE(run_ok(cpu, actual.params(in, site.dropout(p))));
        // The row's sums as in layer_norm_test, the inputs rounded twice more.
        const double tolerance = (static_cast<double>(in.cols) / 16 + 18) * kUlp<T>;
        expect_close(actual.z.span(), expected.z.span(), 2 * kUlp<T>, "z");
        expect_close(actual.y.span(), expected.y.span(), tolerance, "y", 1);
        expect_close(actual.mean.span(), expected.mean.span(), tolerance, "mean", 1);
        expect_close(actual.rstd.span(), expected.rstd.span(), tolerance, "rstd");
        EmbeddingLayerNorm params = inference.params(in, site.dropout(p));
        params.z = params.mean = params.rstd = nullptr;
        ASSERT_TRUE(run_ok(cpu, params));
        expect_same_bits(inference.y, actual.y, "y without z, mean and rstd");
      });
    }
}

// What a row holds is an earlier call's sum: both add up as two processes' gradients do.
TYPED_TEST(EmbeddingTest, ARowAddsTheSumOfItsTokensToWhatItHolds) {
  using T = TypeParam;
  const DropoutSite site;
  const Operands<T> in({200, 33});
  for_each_cpu([&](const BackendModule& cpu) {
    Forward<T> forward(in);
    ASSERT_TRUE(run_ok(cpu, forward.params(in, site.dropout(0.1))));
    Backward<T> fresh(in), held(in);
    const Backward<T> before(in);
    for (Buffer<T>* table : {&fresh.dword, &fresh.dtype_table, &fresh.dposition})
      std::fill_n(table->data(), table->span().size(), T{0});
    ASSERT_TRUE(run_ok(cpu, fresh.params(in, forward, site.dropout(0.1))));
    ASSERT_TRUE(run_ok(cpu, held.params(in, forward, site.dropout(0.1))));
    const auto expect_sums = [](const auto& old, const auto& sums, const auto& found) {
      for (std::size_t i = 0; i < sums.span().size(); ++i)
        ASSERT_EQ(found.span()[i], old.span()[i] + sums.span()[i]) << "element " << i;
    };
    expect_sums(before.dword, fresh.dword, held.dword);
    expect_sums(before.dtype_table, fresh.dtype_table, held.dtype_table);
    expect_sums(before.dposition, fresh.dposition, held.dposition);
  });
}

TYPED_TEST(EmbeddingTest, BackwardMatchesReference) {
  using T = TypeParam;
  const DropoutSite site;
  for (const RowShape shape : kShapes)
    for (const double p : {0.0, 0.1}) {
      SCOPED_TRACE(std::to_string(shape.rows) + " x " + std::to_string(shape.cols) + " p " + std::to_string(p));
      const Operands<T> in(shape);
      Forward<T> forward(in);
      ASSERT_TRUE(run_ok(ref_module(), forward.params(in, site.dropout(p))));
      Backward<T> expected(in);
      ASSERT_TRUE(run_ok(ref_module(), expected.params(in, forward, site.dropout(p))));
      const double tokens = static_cast<double>(in.tokens);
      // dz as in layer_norm_test; a table row then adds up to all tokens in one chain.
      const double rounding = (static_cast<double>(in.cols) / 4 + 16 + tokens) * kUlp<T>;
      const double columns = (64 + tokens / 64 + 8) * kUlp<T>;
      for_each_cpu([&](const BackendModule& cpu) {
        Backward<T> actual(in);
        ASSERT_TRUE(run_ok(cpu, actual.params(in, forward, site.dropout(p))));
        expect_close(actual.dword.span(), expected.dword.span(), rounding, "dword", 1);
        expect_close(actual.dtype_table.span(), expected.dtype_table.span(), rounding, "dtype", 1);
        expect_close(actual.dposition.span(), expected.dposition.span(), rounding, "dposition", 1);
        expect_close(actual.dgamma.span(), expected.dgamma.span(), columns, "dgamma", tokens);
        expect_close(actual.dbeta.span(), expected.dbeta.span(), columns, "dbeta", tokens);
      });
    }
}

TYPED_TEST(EmbeddingTest, RowsWithoutTokensAndThePaddingRowKeepTheirBits) {
  using T = TypeParam;
  Operands<T> in({65, 33});
  for (std::int64_t& id : in.ids) id = id % 2 == 0 ? kPadding : 5;
  Forward<T> forward(in);
  ASSERT_TRUE(run_ok(ref_module(), forward.params(in, {})));
  for_each_cpu([&](const BackendModule& cpu) {
    Backward<T> actual(in);
    const Backward<T> before(in);
    ASSERT_TRUE(run_ok(cpu, actual.params(in, forward, {})));
    for (std::int64_t row = 0; row < kVocab; ++row) {
      const int difference =
          std::memcmp(actual.dword.data() + row * in.cols, before.dword.data() + row * in.cols, sizeof(T) * 33);
      EXPECT_EQ(difference != 0, row == 5) << row;
    }
  });
}

TYPED_TEST(EmbeddingTest, AnIndexOutOfRangeWritesNothing) {
  using T = TypeParam;
  const Operands<T> good({65, 33});
  Forward<T> forward(good);
  ASSERT_TRUE(run_ok(ref_module(), forward.params(good, {})));
  const auto expect_refused = [&](const BackendModule& module, std::vector<std::int64_t> Operands<T>::*indices,
                                  std::int64_t index) {
    Operands<T> in({65, 33});
    (in.*indices)[64] = index;
    Forward<T> outputs(in);
    const Forward<T> untouched(in);
    EXPECT_EQ(run(module, outputs.params(in, {})).code, StatusCode::invalid_argument);
    expect_same_bits(outputs.z, untouched.z, "z");
    expect_same_bits(outputs.y, untouched.y, "y");
    expect_same_bits(outputs.mean, untouched.mean, "mean");
    Backward<T> gradients(in);
    const Backward<T> before(in);
    EXPECT_EQ(run(module, gradients.params(in, forward, {})).code, StatusCode::invalid_argument);
    expect_same_bits(gradients.dword, before.dword, "dword");
    expect_same_bits(gradients.dtype_table, before.dtype_table, "dtype");
    expect_same_bits(gradients.dposition, before.dposition, "dposition");
    expect_same_bits(gradients.dgamma, before.dgamma, "dgamma");
  };
  const auto check_module = [&](const BackendModule& module) {
    for (const std::int64_t index : {std::int64_t{-1}, kVocab, std::numeric_limits<std::int64_t>::min()}) {
      expect_refused(module, &Operands<T>::ids, index);
      expect_refused(module, &Operands<T>::type_ids, index);
      expect_refused(module, &Operands<T>::position_ids, index);
    }
    expect_refused(module, &Operands<T>::type_ids, kTypes);
    expect_refused(module, &Operands<T>::position_ids, kPositions);
  };
  check_module(ref_module());
  for_each_cpu(check_module);
}

TYPED_TEST(EmbeddingTest, ThreadsDoNotChangeBits) {
  using T = TypeParam;
  const DropoutSite site;
  const Operands<T> in({200, 770});
  for_each_cpu([&](const BackendModule& cpu) {
    Forward<T> forward(in);
    Backward<T> one(in);
    ASSERT_TRUE(run_ok(cpu, forward.params(in, site.dropout(0.1))));
    ASSERT_TRUE(run_ok(cpu, one.params(in, forward, site.dropout(0.1))));
    for (const int threads : {1, 2, 4}) {
      ThreadPool pool(threads);
      Forward<T> again(in);
      Backward<T> many(in);
      ASSERT_TRUE(run_ok(cpu, again.params(in, site.dropout(0.1)), pool.stream()));
      ASSERT_TRUE(run_ok(cpu, many.params(in, forward, site.dropout(0.1)), pool.stream()));
      expect_same_bits(again.y, forward.y, "y");
      expect_same_bits(many.dword, one.dword, "dword");
      expect_same_bits(many.dtype_table, one.dtype_table, "dtype");
      expect_same_bits(many.dposition, one.dposition, "dposition");
      expect_same_bits(many.dgamma, one.dgamma, "dgamma");
      expect_same_bits(many.dbeta, one.dbeta, "dbeta");
    }
  });
}

TYPED_TEST(EmbeddingTest, OptionalGradients) {
  using T = TypeParam;
  const Operands<T> in({65, 33});
  for_each_cpu([&](const BackendModule& cpu) {
    Forward<T> forward(in);
    ASSERT_TRUE(run_ok(cpu, forward.params(in, {})));
    Backward<T> all(in), part(in);
    ASSERT_TRUE(run_ok(cpu, all.params(in, forward, {})));
    EmbeddingLayerNormBackward params = part.params(in, forward, {});
    params.dtype_table = params.dposition = params.dgamma = params.dbeta = nullptr;
    ASSERT_TRUE(run_ok(cpu, params));
    expect_same_bits(part.dword, all.dword, "dword alone");
  });
}

}  // namespace
}  // namespace sinter::kernels::testing
