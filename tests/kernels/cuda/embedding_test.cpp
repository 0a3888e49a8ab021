#include "kernels/embedding.h"

#include "kernels/ref/element.h"
#include "tests/kernels/cuda/device_case.h"
#include "tests/kernels/cuda/dropout_operands.h"
#include "tests/kernels/row_cases.h"

namespace sinter::kernels::testing {
namespace {

constexpr std::int64_t kVocab = 40, kTypes = 2, kPositions = 24, kPadding = 3;

/// Around 8 columns a lane, 32, 96 and 128 lanes, and what no register form takes; tokens around blocks of 64.
constexpr RowShape kShapes[] = {{0, 7},   {0, 16},  {1, 1},   {3, 7},   {9, 8},    {65, 16},   {64, 9},
                                {5, 264}, {5, 768}, {2, 776}, {2, 770}, {3, 1024}, {2, 1032}};

/// Roundings behind an element: sums of cols / 32 terms a lane and a tree of at most 10, and the arithmetic around.
Tolerance row_tolerance(std::int64_t cols) { return {.ulps = static_cast<double>(cols) / 32 + 28, .floor = 1}; }
/// dz carries the error of two means, one of them multiplied by xhat, which stays below 6 here; a row may add up that
/// of all tokens.
Tolerance table_tolerance(RowShape shape) {
  return {.ulps = static_cast<double>(shape.rows) * (7 * row_tolerance(shape.cols).ulps + 1), .floor = 1};
}
/// Chains of 64 rows and of 16 lanes over terms of about 1 that were rounded some times.
Tolerance column_tolerance(std::int64_t rows) {
  return {.ulps = 64 + static_cast<double>(rows) / 1024 + 16 + 8, .floor = static_cast<double>(rows)};
}

struct Options {
  double p = 0;
  bool first_sample = true, mapped = true;
  int misaligned = -1;                  ///< number of the matrix, in the order in which the case names them
  bool statistics = true;               ///< forward: z, mean and rstd are wanted
  bool tables = true, columns = true;   ///< backward: gradients of the tables, of gamma and beta
  double rstd = 0.7;                    ///< backward: mean of the rows' rstd
  std::int64_t vocab = kVocab, types = kTypes, positions = kPositions;
};

class EmbeddingOnDevice : public ::testing::TestWithParam<Dtype> {
 protected:
  Dtype dtype_ = GetParam(), vector_dtype_ = computed_dtype(dtype_);

  template <class P>
  static P params_of(Dtype dtype, RowShape shape, const Options& options) {
    P p;
    p.dtype = dtype;
    p.tokens = shape.rows;
    p.cols = shape.cols;
    p.vocab = options.vocab;
    p.types = options.types;
    p.positions = options.positions;
    p.dropout = site_on_device(options.p);
    return p;
  }
  template <class P>
  static void add_indices(DeviceCase<P>& c, std::vector<double> ids, std::vector<double> types,
                          std::vector<double> positions) {
    c.input(c.params.ids, Dtype::i64, ids);
    c.input(c.params.type_ids, Dtype::i64, types);
    c.input(c.params.position_ids, Dtype::i64, positions);
  }
  static bool fits_registers(RowShape shape, const Options& options) {
    return shape.cols % 8 == 0 && shape.cols <= 1024 && options.misaligned < 0;
  }

  void add_forward(DeviceCase<EmbeddingLayerNorm>& c, RowShape shape, const Options& options) const {
    const auto [tokens, cols] = shape;
    int matrix = 0;
    const auto place = [&] {
      if (matrix++ == options.misaligned) c.misalign(size_of(dtype_));
    };
    c.input(c.params.word, dtype_, normal_values(kVocab * cols, 1));
    place();
    c.input(c.params.type, dtype_, normal_values(kTypes * cols, 2));
    place();
    c.input(c.params.position, dtype_, normal_values(kPositions * cols, 3));
    place();
    c.output(c.params.y, dtype_, tokens * cols, row_tolerance(cols));
    place();
    if (options.statistics) {
      c.output(c.params.z, dtype_, tokens * cols, {.ulps = 4});   // two roundings of sums of up to twice the size
      place();
      c.output(c.params.mean, vector_dtype_, tokens, row_tolerance(cols));
      c.output(c.params.rstd, vector_dtype_, tokens, row_tolerance(cols));
    }
    c.input(c.params.gamma, vector_dtype_, normal_values(cols, 4, 1, 0.2));
    if (options.misaligned == 5) c.misalign(size_of(vector_dtype_));
    c.input(c.params.beta, vector_dtype_, normal_values(cols, 5));
    if (options.misaligned == 6) c.misalign(size_of(vector_dtype_));
    if (options.p > 0) add_dropout(c, tokens, options.first_sample, options.mapped);
  }

  void check_forward(RowShape shape, const Options& options) const {
    SCOPED_TRACE(std::to_string(shape.rows) + " x " + std::to_string(shape.cols));
    DeviceCase<EmbeddingLayerNorm> c(params_of<EmbeddingLayerNorm>(dtype_, shape, options));
    add_indices(c, whole_values(shape.rows, 0, kVocab, 6), whole_values(shape.rows, 0, kTypes, 7),
                whole_values(shape.rows, 0, kPositions, 8));
    add_forward(c, shape, options);
    c.check_with(fits_registers(shape, options) ? "by_warp" : "by_block");
  }

  void add_backward(DeviceCase<EmbeddingLayerNormBackward>& c, RowShape shape, const Options& options) const {
    const auto [tokens, cols] = shape;
    int matrix = 0;
    const auto place = [&] {
      if (matrix++ == options.misaligned) c.misalign(size_of(dtype_));
    };
    c.params.padding_idx = kPadding;
    c.input(c.params.dy, dtype_, normal_values(tokens * cols, 1));
    place();
    c.input(c.params.z, dtype_, normal_values(tokens * cols, 2, 0.3, 1.5));
    place();
    c.input(c.params.mean, vector_dtype_, normal_values(tokens, 3, 0.3, 0.1));
    c.input(c.params.rstd, vector_dtype_, normal_values(tokens, 4, options.rstd, options.rstd / 14));
    if (options.tables) {
      c.in_out(c.params.dword, dtype_, normal_values(options.vocab * cols, 11), table_tolerance(shape));
      place();
      c.in_out(c.params.dtype_table, dtype_, normal_values(options.types * cols, 12), table_tolerance(shape));
      place();
      c.in_out(c.params.dposition, dtype_, normal_values(options.positions * cols, 13), table_tolerance(shape));
      place();
    }
    c.input(c.params.gamma, vector_dtype_, normal_values(cols, 5, 1, 0.2));
    if (options.misaligned == 5) c.misalign(size_of(vector_dtype_));
    if (options.columns) {
      c.output(c.params.dgamma, vector_dtype_, cols, column_tolerance(tokens));
      c.output(c.params.dbeta, vector_dtype_, cols, column_tolerance(tokens));
    }
    c.workspace(c.params.workspace);
    if (options.p > 0) add_dropout(c, tokens, options.first_sample, options.mapped);
  }

  void check_backward(RowShape shape, const Options& options) const {
    SCOPED_TRACE(std::to_string(shape.rows) + " x " + std::to_string(shape.cols));
    DeviceCase<EmbeddingLayerNormBackward> c(params_of<EmbeddingLayerNormBackward>(dtype_, shape, options));
    add_indices(c, whole_values(shape.rows, 0, options.vocab, 6), whole_values(shape.rows, 0, options.types, 7),
                whole_values(shape.rows, 0, options.positions, 8));
    add_backward(c, shape, options);
    c.check_with(fits_registers(shape, options) ? "in_registers" : "by_block");
  }
};

INSTANTIATE_TEST_SUITE_P(Dtypes, EmbeddingOnDevice, ::testing::ValuesIn(kDeviceDtypes),
                         [](const auto& tested) { return name(tested.param); });

TEST_P(EmbeddingOnDevice, ForwardMatchesReference) {
  for (const RowShape shape : kShapes) check_forward(shape, {});
  for (const RowShape shape : {RowShape{7, 9}, {13, 16}, {5, 264}}) check_forward(shape, {.p = 0.25});
}

TEST_P(EmbeddingOnDevice, ForwardOptions) {
  for (const RowShape shape : {RowShape{3, 9}, {5, 16}}) {
    check_forward(shape, {.p = 0.25, .first_sample = false, .mapped = false});
    check_forward(shape, {.p = 0.25, .statistics = false});
    check_forward(shape, {.statistics = false});
  }
  for (int operand = 0; operand < 7; ++operand) check_forward({3, 16}, {.misaligned = operand});
}

TEST_P(EmbeddingOnDevice, BackwardMatchesReference) {
  for (const RowShape shape : kShapes) check_backward(shape, {});
  for (const RowShape shape : {RowShape{7, 9}, {13, 16}, {5, 264}}) check_backward(shape, {.p = 0.25});
}

TEST_P(EmbeddingOnDevice, BackwardOptions) {
  for (const RowShape shape : {RowShape{3, 9}, {5, 16}}) {
    check_backward(shape, {.p = 0.25, .first_sample = false, .mapped = false});
    check_backward(shape, {.tables = false});
    check_backward(shape, {.columns = false});
  }
  for (int operand = 0; operand < 6; ++operand) check_backward({3, 16}, {.misaligned = operand});
}

// More equal rows than a warp looks at together, and than it reads together.
TEST_P(EmbeddingOnDevice, RowsWithManyTokens) {
  for (const std::int64_t cols : {7, 16}) {
    const RowShape shape = {75, cols};
    DeviceCase<EmbeddingLayerNormBackward> c(params_of<EmbeddingLayerNormBackward>(dtype_, shape, {}));
    std::vector<double> ids(75, 5.0), types(75, 0.0), positions = whole_values(75, 0, 3, 8);
    for (std::size_t t = 0; t < ids.size(); ++t) ids[t] = t % 9 == 0 ? static_cast<double>(kPadding) : 5.0;
    types[40] = 1;
    add_indices(c, ids, types, positions);
    add_backward(c, shape, {});
    c.check();
  }
}

// Tables of 1 to 8 rows are summed in two stages, by blocks of 64 tokens; more than 16 of these go several to a lane.
TEST_P(EmbeddingOnDevice, TablesOfFewRows) {
  for (const RowShape shape : {RowShape{1, 7}, {64, 9}, {65, 16}, {70, 264}, {131, 33}}) {
    check_backward(shape, {.vocab = 5, .types = 1, .positions = 8});
    check_backward(shape, {.vocab = 8, .types = 9, .positions = 7});
  }
  check_backward({1030, 8}, {.vocab = 5, .types = 1, .positions = 8});
  check_backward({70, 16}, {.tables = false, .vocab = 5, .types = 9, .positions = 8});
}

// In a table of many rows as in one of few: rows without tokens, and that of padding_idx, keep their very bits.
TEST_P(EmbeddingOnDevice, RowsWithoutTokensAreNotTouched) {
  const std::int64_t tokens = 70, cols = 16, untouched[] = {kPadding, 1, 2};
  for (const bool few : {true, false}) {
    const std::int64_t size = few ? 4 : 9;
    DeviceCase<EmbeddingLayerNormBackward> c(params_of<EmbeddingLayerNormBackward>(
        dtype_, {tokens, cols}, {.vocab = size, .types = size, .positions = size}));
    std::vector<double> index[3];
    for (std::size_t table = 0; table < 3; ++table) {
      index[table] = whole_values(tokens, 0, 4, 6 + static_cast<unsigned>(table));
      for (double& i : index[table])   // padding_idx stays among the ids
        if (table > 0 && i == static_cast<double>(untouched[table])) i = 0;
    }
    add_indices(c, index[0], index[1], index[2]);
    add_backward(c, {tokens, cols}, {.tables = false, .rstd = 0});
    // dz is 0, so that rows with tokens keep their values. As integers all are compared by their bits.
    void** const gradients[] = {&c.params.dword, &c.params.dtype_table, &c.params.dposition};
    for (std::size_t table = 0; table < 3; ++table) {
      std::vector<double> values = normal_values(size * cols, 11 + static_cast<unsigned>(table));
      for (std::int64_t i = 0; i < cols; ++i) values[static_cast<std::size_t>(untouched[table] * cols + i)] = -0.0;
      std::vector<std::byte> bytes(values.size() * size_of(dtype_));
      for (std::size_t i = 0; i < values.size(); ++i)
        ref::store(dtype_, bytes.data(), static_cast<std::int64_t>(i), values[i]);
      c.in_out_elements(*gradients[table], Dtype::i32, bytes, {});
    }
    c.check();
  }
}

TEST_P(EmbeddingOnDevice, AnIndexOutOfRangeStopsTheKernel) {
  const char* const sentences[] = {"ids: every index", "type_ids: every index", "position_ids: every index"};
  const std::int64_t sizes[] = {kVocab, kTypes, kPositions};
  for (const bool tables : {true, false})
    for (std::size_t which = 0; which < 3; ++which)
      for (const double bad : {-1.0, static_cast<double>(sizes[which]), -0x1p63}) {
        std::vector<double> index[3];
        for (std::size_t k = 0; k < 3; ++k) index[k] = whole_values(5, 0, sizes[k], 6);
        index[which][4] = bad;
        DeviceCase<EmbeddingLayerNorm> f(params_of<EmbeddingLayerNorm>(dtype_, {5, 16}, {}));
        add_indices(f, index[0], index[1], index[2]);
        add_forward(f, {5, 16}, {});
        f.check_stops(sentences[which]);
        DeviceCase<EmbeddingLayerNormBackward> b(params_of<EmbeddingLayerNormBackward>(dtype_, {5, 16}, {}));
        add_indices(b, index[0], index[1], index[2]);
        add_backward(b, {5, 16}, {.tables = tables});
        b.check_stops(sentences[which]);
      }
}

TEST_P(EmbeddingOnDevice, ATableWithoutRowsStopsTheKernel) {
  const Options options{.types = 0};
  DeviceCase<EmbeddingLayerNormBackward> c(params_of<EmbeddingLayerNormBackward>(dtype_, {5, 16}, options));
  add_indices(c, whole_values(5, 0, kVocab, 6), std::vector<double>(5, 0.0), whole_values(5, 0, kPositions, 8));
  add_backward(c, {5, 16}, options);
  c.check_stops("type_ids: every index");
}

TEST(EmbeddingOnDeviceChecks, RefuseWhatTheContractForbids) {
  expect_refused(EmbeddingLayerNorm{.dtype = Dtype::i32, .cols = 1}, "the dtype must be");
  expect_refused(EmbeddingLayerNorm{.tokens = 1, .cols = 0}, "at least one element");
  expect_refused(EmbeddingLayerNorm{.cols = 8, .dropout = site_on_device(0.5)}, "global step");
  static float one;
  expect_refused(EmbeddingLayerNormBackward{.cols = 8, .dgamma = &one}, "both or neither");
}

}  // namespace
}  // namespace sinter::kernels::testing
