// A table whose gradient is followed row by row: zero outside the marked rows, whatever writes to it.
#include "core/row_tracker.h"

#include <gtest/gtest.h>

#include "core/autograd/engine.h"
#include "core/autograd/mode.h"
#include "core/flat_parameters.h"
#include "core/ops/elementwise.h"
#include "core/ops/embedding.h"
#include "core/ops/gather.h"
#include "core/ops/matmul.h"
#include "core/ops/reduce.h"
#include "core/random.h"
#include "optim/clip.h"
#include "tests/core/expect_error.h"
#include "tests/core/other_devices.h"

namespace sinter {
namespace {

using testing::expect_usage_error;

class RowTracking : public ::testing::TestWithParam<Device> {
 protected:
  void SetUp() override {
    if (const std::string why = testing::why_not_on(device_); !why.empty()) GTEST_SKIP() << why;
  }

  Parameter parameter(const std::string& name, const Shape& shape) const {
    Tensor x = Tensor::empty(shape, {Dtype::f64, device_});
    normal_(x, 0, 1, 3, site_id(name));
    return {name, x.set_requires_grad()};
  }
  Tensor ids(const std::vector<std::int64_t>& rows) const {
    return Tensor::from(rows, {static_cast<std::int64_t>(rows.size())}).to(device_);
  }

  const Device device_ = GetParam();
};

INSTANTIATE_TEST_SUITE_P(Devices, RowTracking, ::testing::Values(Device::cpu(), Device::simt(), Device::cuda()),
                         testing::name_of);

std::vector<double> values(const Tensor& x) { return x.detach().to_vector<double>(); }

std::vector<std::int64_t> marked(const RowTracker& rows) {
  const std::vector<std::int32_t> marks = rows.marks().to_vector<std::int32_t>();
  std::vector<std::int64_t> found;
  for (std::size_t r = 0; r < marks.size(); ++r)
    if (marks[r] != 0) found.push_back(static_cast<std::int64_t>(r));
  return found;
}

/// Every element that is not zero lies in a marked row.
void expect_zero_elsewhere(const Tensor& gradient, const RowTracker& rows) {
  const std::vector<double> all = values(gradient);
  const std::vector<std::int32_t> marks = rows.marks().to_vector<std::int32_t>();
  const std::size_t cols = all.size() / marks.size();
  for (std::size_t i = 0; i < all.size(); ++i)
    if (marks[i / cols] == 0) {
      ASSERT_EQ(all[i], 0) << i;
    }
}

using Rows = std::vector<std::int64_t>;

TEST_P(RowTracking, EmbeddingsMarkTheirRowsAndZeroGradTakesThemBack) {
  const Parameter table = parameter("table", {50, 6}), plain = parameter("table", {50, 6}), w = parameter("w", {3});
  FlatParameters flat = FlatParameters::adopt({{w, table}}), untracked = FlatParameters::adopt({{plain}});
  sum(table.tensor).backward();   // an old gradient, which tracking ends
  RowTracker& rows = flat.track_rows("table");
  const Tensor gradient = flat.view(*flat.find("table"), flat.gradients());
  EXPECT_TRUE(table.tensor.grad().defined());
  EXPECT_EQ(values(gradient), std::vector<double>(300, 0.0));
  for (int step = 0; step < 3; ++step) {
    flat.zero_grad();
    EXPECT_EQ(marked(rows), Rows{});
    EXPECT_EQ(values(gradient), std::vector<double>(300, 0.0));
    untracked.zero_grad();
    // Two micro-batches with the padding row 2.
    const Rows first = {4, 49, 4, 2}, second = {0, 4, 17 + step};
    for (const Parameter* p : {&table, &plain}) {
      sum(embedding(p->tensor, ids(first), 2) * 2.0).backward();
      sum(embedding(p->tensor, ids(second), 2) * embedding(p->tensor, ids(second), 2)).backward();
    }
    EXPECT_EQ(values(gradient), values(plain.tensor.grad()));
    EXPECT_EQ(marked(rows), (Rows{0, 2, 4, 17 + step, 49}));
    expect_zero_elsewhere(gradient, rows);
  }
}

TEST_P(RowTracking, BertsEmbeddingLayerMarksTheWordsAlone) {
  const Parameter word = parameter("word", {40, 8}), type = parameter("type", {2, 8}), place = parameter("p", {9, 8});
  const Parameter gamma = parameter("gamma", {8}), beta = parameter("beta", {8});
  FlatParameters flat = FlatParameters::adopt({{word, type, place, gamma, beta}});
  RowTracker& rows = flat.track_rows("word");
  flat.zero_grad();
  sum(embedding_layer_norm({word.tensor, type.tensor, place.tensor}, ids({5, 39, 5}), ids({0, 1, 1}), ids({0, 1, 2}),
                           gamma.tensor, beta.tensor, 1e-12, 0, 1) *
      2.0)
      .backward();
  EXPECT_EQ(marked(rows), (Rows{5, 39}));
  const Tensor gradient = flat.view(*flat.find("word"), flat.gradients());
  expect_zero_elsewhere(gradient, rows);
  EXPECT_NE(values(gradient)[5 * 8], 0);
}

// Ops that know nothing of rows, hooks and programs may write anywhere: then every row counts.
TEST_P(RowTracking, OtherWritesMarkEveryRow) {
  const auto everything = [&](const std::function<void(Parameter&)>& write) {
    Parameter table = parameter("table", {7, 3});
    FlatParameters flat = FlatParameters::adopt({{table}});
    RowTracker& rows = flat.track_rows("table");
    write(table);
    EXPECT_EQ(marked(rows).size(), 7u);
    flat.zero_grad();
    EXPECT_EQ(marked(rows), Rows{});
    EXPECT_EQ(values(flat.gradients()), std::vector<double>(static_cast<std::size_t>(flat.numel()), 0.0));
  };
  const Tensor x = parameter("x", {2, 3}).tensor.detach();
  everything([&](Parameter& p) { sum(linear(x, p.tensor)).backward(); });
  everything([&](Parameter& p) { sum(p.tensor * p.tensor).backward(); });
  everything([&](Parameter& p) { sum(index_select(p.tensor, 0, ids({1}))).backward(); });
  everything([&](Parameter& p) { p.tensor.set_grad(Tensor::ones({7, 3}, p.tensor.options())); });
  everything([&](Parameter& p) {
    p.tensor.register_hook([](const Tensor& gradient) { return gradient + 1.0; });
    sum(embedding(p.tensor, ids({1}))).backward();
  });
  everything([&](Parameter& p) {   // tied: one op knows its rows, the other does not
    (sum(embedding(p.tensor, ids({1}))) + sum(linear(x, p.tensor))).backward();
  });
}

TEST_P(RowTracking, TheNormIsThatOfTheDenseGradient) {
  const Parameter table = parameter("table", {3000, 8}), w = parameter("w", {5});
  double norms[2];
  for (const bool tracked : {false, true}) {
    FlatParameters flat = FlatParameters::adopt({{w, table}});
    if (tracked) flat.track_rows("table");
    flat.zero_grad();
    (sum(embedding(table.tensor, ids({5, 2999}))) * 3.0 + sum(w.tensor)).backward();
    norms[tracked ? 1 : 0] = optim::clip_grad_norm(flat, 1).norm;
  }
  EXPECT_EQ(norms[0], norms[1]);
  EXPECT_EQ(norms[0], std::sqrt(2 * 8 * 9 + 5));
}

TEST_P(RowTracking, ZeroGradOfTheTensorZeroesToo) {
  const Parameter table = parameter("table", {7, 3});
  FlatParameters flat = FlatParameters::adopt({{table}});
  RowTracker& rows = flat.track_rows("table");
  sum(embedding(table.tensor, ids({3}))).backward();
  Tensor(table.tensor).zero_grad();
  EXPECT_EQ(marked(rows), Rows{});
  EXPECT_EQ(values(table.tensor.grad()), std::vector<double>(21, 0.0));
}

TEST_P(RowTracking, TableReadersAskForCurrentRows) {
  const Parameter table = parameter("table", {7, 8}), two = parameter("two", {2, 8}), g = parameter("g", {8});
  FlatParameters flat = FlatParameters::adopt({{table, two, g}});
  std::vector<Rows> asked;
  flat.track_rows("table").make_current = [&](const Tensor* rows) {
    asked.push_back(rows == nullptr ? Rows{-1} : rows->to_vector<std::int64_t>());
  };
  embedding(table.tensor, Tensor::from<std::int64_t>({3, 1}));   // of the CPU
  {
    const autograd::SecondOrderGuard twins;
    embedding(table.tensor, ids({2}));
  }
  embedding_layer_norm({table.tensor, two.tensor, two.tensor}, ids({6}), ids({0}), ids({1}), g.tensor, g.tensor, 1e-12,
                       0, 1);
  FlatParameters again = FlatParameters::adopt({{table, two, g}});
  EXPECT_EQ(asked, (std::vector<Rows>{{3, 1}, {2}, {6}, {-1}}));
  embedding(table.tensor, ids({3}));   // belongs to the new buffers, which track nothing
  EXPECT_EQ(asked.size(), 4u);
  EXPECT_EQ(again.tracked_rows(), nullptr);
}

TEST_P(RowTracking, RefusesWhatIsNoTable) {
  FlatParameters flat = FlatParameters::adopt(
      {{parameter("table", {7, 3}), parameter("other", {4, 3}), parameter("bias", {7})}});
  expect_usage_error([&] { flat.track_rows("tabel"); }, "there is no trained parameter tabel");
  expect_usage_error([&] { flat.track_rows("bias"); }, "parameter bias is [7]; rows are tracked of a table");
  RowTracker& rows = flat.track_rows("table");
  EXPECT_EQ(&flat.track_rows("table"), &rows);
  expect_usage_error([&] { flat.track_rows("other"); }, "the rows of table are tracked already");
}

}  // namespace
}  // namespace sinter
