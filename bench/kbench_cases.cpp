#include "bench/kbench_cases.h"

#include <algorithm>
#include <cmath>
#include <random>
#include <string>
#include <utility>

#include "kernels/adamw.h"
#include "kernels/attention.h"
#include "kernels/bias_gelu.h"
#include "kernels/catch_up_rows.h"
#include "kernels/copy.h"
#include "kernels/cross_entropy.h"
#include "kernels/dropout.h"
#include "kernels/elementwise.h"
#include "kernels/embedding.h"
#include "kernels/gather.h"
#include "kernels/gemm.h"
#include "kernels/layer_norm.h"
#include "kernels/reduce.h"
#include "kernels/softmax.h"
#include "kernels/touched_rows.h"
#include "kernels/update.h"

namespace sinter::bench {

using namespace kernels;

namespace {

constexpr Dtype kDtype = Dtype::f16;
constexpr double kDropout = 0.1;

template <class P>
std::unique_ptr<Case<P>> make(const std::string& what, const P& p, const Goal& goal = {}) {
  return std::make_unique<Case<P>>(what, p, goal);
}
template <class P>
std::unique_ptr<KernelCase> done(std::unique_ptr<Case<P>> made) {
  made->done();
  return made;
}

template <class P>
void add_dropout(Case<P>& c) {
  static const std::vector<std::uint32_t> step = {1};
  c.params.dropout.threshold = dropout_threshold(kDropout);
  c.values(c.params.dropout.step, step);
}

std::string shape(std::int64_t rows, std::int64_t cols) { return std::to_string(rows) + " x " + std::to_string(cols); }

std::vector<std::int64_t> indices(std::int64_t n, std::int64_t below) {
  std::mt19937 generator(2);
  std::uniform_int_distribution<std::int64_t> draw(0, below - 1);
  std::vector<std::int64_t> out(static_cast<std::size_t>(n));
  for (auto& x : out) x = draw(generator);
  return out;
}

Extents extents(std::int64_t rows, std::int64_t cols) { return {.rank = 2, .size = {rows, cols}}; }

void add_elementwise(std::vector<MakeCase>& all, std::int64_t rows, std::int64_t cols) {
  const std::string what = shape(rows, cols);
  const Extents space = extents(rows, cols);
  const Strides plain = contiguous_strides(space);
  const std::int64_t n = rows * cols;
  for (const bool narrows : {true, false})   // what the embeddings give, and the gradient that they get
    all.push_back([=] {
      const Dtype from = narrows ? Dtype::f32 : kDtype, to = narrows ? kDtype : Dtype::f32;
      auto c = make<Copy>((narrows ? "f32 to f16 " : "f16 to f32 ") + what,
                          {.extents = space, .src_strides = plain, .dst_strides = plain, .src_dtype = from,
                           .dst_dtype = to}, {.of_copy = 0.9});
      c->normal(c->params.src, from, n);
      c->output(c->params.dst, to, n);
      return done(std::move(c));
    });
  all.push_back([=] {
    auto c = make<Copy>("transposed " + what, {.extents = space, .src_strides = {{1, rows}}, .dst_strides = plain,
                                               .src_dtype = kDtype, .dst_dtype = kDtype});
    c->normal(c->params.src, kDtype, n);
    c->output(c->params.dst, kDtype, n);
    return done(std::move(c));
  });
  all.push_back([=] {
    auto c = make<Fill>(what, {.extents = space, .dst_strides = plain, .dtype = kDtype});
    c->output(c->params.dst, kDtype, n);
    return done(std::move(c));
  });
  all.push_back([=] {
    auto c = make<Unary>("tanh " + what, {.op = UnaryOp::tanh, .dtype = kDtype, .extents = space, .in_strides = plain});
    c->normal(c->params.in, kDtype, n);
    c->output(c->params.out, kDtype, n);
    return done(std::move(c));
  });
  for (const bool broadcast : {false, true})
    all.push_back([=] {
      const Strides row = {{0, 1}};
      auto c = make<Binary>((broadcast ? "add a row " : "add ") + what,
                            {.dtype = kDtype, .extents = space, .a_strides = plain,
                             .b_strides = broadcast ? row : plain});
      c->normal(c->params.a, kDtype, n);
      c->normal(c->params.b, kDtype, broadcast ? cols : n);
      c->output(c->params.out, kDtype, n);
      return done(std::move(c));
    });
  all.push_back([=] {
    auto c = make<Where>(what, {.dtype = kDtype, .extents = space, .condition_strides = plain, .a_strides = plain,
                                .b_strides = plain});
    c->repeated(c->params.condition, n, std::vector<std::uint8_t>(1 << 16, 1));
    c->normal(c->params.a, kDtype, n);
    c->normal(c->params.b, kDtype, n);
    c->output(c->params.out, kDtype, n);
    return done(std::move(c));
  });
  for (const std::uint32_t reduced : {1u, 2u})
    all.push_back([=] {
      const Dtype dtype = reduced == 1 ? Dtype::f32 : kDtype;   // f32 columns: gradients of biases
      auto c = make<Reduce>((reduced == 1 ? "f32 columns " : "rows ") + what,
                            {.dtype = dtype, .extents = space, .in_strides = plain, .reduced = reduced});
      c->normal(c->params.in, dtype, n);
      c->output(c->params.out, dtype, reduced == 1 ? cols : rows);
      return done(std::move(c));
    });
  all.push_back([=] {
    auto c = make<ArgReduce>(what, {.dtype = kDtype, .outer = rows, .n = cols, .inner = 1});
    c->normal(c->params.in, kDtype, n);
    c->output(c->params.out, Dtype::i64, rows);
    return done(std::move(c));
  });
}

template <class P>
MakeCase gather_case(const Sizes& s, std::int64_t m, bool index_of_element, bool adds) {
  return [=] {
    auto c = make<P>(std::to_string(m) + " of " + shape(s.vocab, s.hidden),
                     {.dtype = kDtype, .outer = 1, .n = s.vocab, .inner = s.hidden, .m = m});
    const std::vector<std::int64_t> index = indices(index_of_element ? m * s.hidden : m, s.vocab);
    c->values(c->params.index, index);
    c->normal(c->params.src, kDtype, (adds ? m : s.vocab) * s.hidden);
    c->normal(c->params.dst, kDtype, (adds ? s.vocab : m) * s.hidden);
    return done(std::move(c));
  };
}

void add_gathers(std::vector<MakeCase>& all, const Sizes& s) {
  all.push_back(gather_case<IndexSelect>(s, s.small_tokens, false, false));
  all.push_back(gather_case<IndexAdd>(s, s.small_tokens, false, true));
  all.push_back(gather_case<Gather>(s, s.small_tokens, true, false));
  all.push_back(gather_case<ScatterAdd>(s, s.small_tokens, true, true));
}

MakeCase gemm_case(const std::string& what, Gemm p, const Goal& goal, bool bias = false) {
  return [=] {
    Gemm q = p;
    q.lda = q.transpose_a ? q.m : q.k;
    q.ldb = q.transpose_b ? q.k : q.n;
    q.ldc = q.n;
    auto c = make<Gemm>(what + " " + shape(q.m, q.n) + " x " + std::to_string(q.k), q, goal);
    c->normal(c->params.a, kDtype, q.m * q.k);
    c->normal(c->params.b, kDtype, q.k * q.n);
    if (bias) c->normal(c->params.bias, Dtype::f32, q.n);
    c->output(c->params.c, kDtype, q.m * q.n);
    return done(std::move(c));
  };
}

/// The products of a layer: forward X W^T, gradient of the input dY W, gradient of the weight dY^T X. "query" is
/// also key and value; the biases of the others are added by the kernels behind them.
void add_products(std::vector<MakeCase>& all, const Sizes& s) {
  for (const std::int64_t t : {s.tiny_tokens, s.small_tokens, s.tokens}) {
    const Goal goal = {.tflops = t == s.tokens ? 0.85 * 790 : t == s.small_tokens ? 0.6 * 790 : 0};
    const std::int64_t h = s.hidden, i = s.intermediate;
    all.push_back(gemm_case("query", {.dtype = kDtype, .transpose_b = true, .m = t, .n = h, .k = h}, goal, true));
    all.push_back(gemm_case("out", {.dtype = kDtype, .transpose_b = true, .m = t, .n = h, .k = h}, goal));
    all.push_back(gemm_case("ffn1", {.dtype = kDtype, .transpose_b = true, .m = t, .n = i, .k = h}, goal));
    all.push_back(gemm_case("ffn2", {.dtype = kDtype, .transpose_b = true, .m = t, .n = h, .k = i}, goal));
    all.push_back(gemm_case("ffn2 input", {.dtype = kDtype, .m = t, .n = i, .k = h}, goal));
    all.push_back(gemm_case("ffn2 weight", {.dtype = kDtype, .transpose_a = true, .m = h, .n = i, .k = t}, goal));
  }
}

void add_layer_norms(std::vector<MakeCase>& all, std::int64_t rows, std::int64_t cols) {
  const std::string what = shape(rows, cols);
  const std::int64_t n = rows * cols;
  all.push_back([=] {
    auto c = make<LayerNorm>(what, {.dtype = kDtype, .rows = rows, .cols = cols}, {.of_copy = 0.9});
    c->normal(c->params.x, kDtype, n);
    c->normal(c->params.gamma, Dtype::f32, cols);
    c->normal(c->params.beta, Dtype::f32, cols);
    c->output(c->params.y, kDtype, n);
    c->output(c->params.mean, Dtype::f32, rows);
    c->output(c->params.rstd, Dtype::f32, rows);
    return done(std::move(c));
  });
  all.push_back([=] {
    auto c = make<LayerNormBackward>(what, {.dtype = kDtype, .rows = rows, .cols = cols}, {.of_copy = 0.82});
    c->normal(c->params.dy, kDtype, n);
    c->normal(c->params.x, kDtype, n);
    c->normal(c->params.mean, Dtype::f32, rows);
    c->normal(c->params.rstd, Dtype::f32, rows);
    c->normal(c->params.gamma, Dtype::f32, cols);
    c->output(c->params.dx, kDtype, n);
    c->output(c->params.dgamma, Dtype::f32, cols);
    c->output(c->params.dbeta, Dtype::f32, cols);
    return done(std::move(c));
  });
  all.push_back([=] {
    auto c = make<BiasDropoutResidualLayerNorm>(what, {.dtype = kDtype, .rows = rows, .cols = cols}, {.of_copy = 0.9});
    add_dropout(*c);
    c->normal(c->params.x, kDtype, n);
    c->normal(c->params.bias, Dtype::f32, cols);
    c->normal(c->params.residual, kDtype, n);
    c->normal(c->params.gamma, Dtype::f32, cols);
    c->normal(c->params.beta, Dtype::f32, cols);
    c->output(c->params.z, kDtype, n);
    c->output(c->params.y, kDtype, n);
    c->output(c->params.mean, Dtype::f32, rows);
    c->output(c->params.rstd, Dtype::f32, rows);
    return done(std::move(c));
  });
  all.push_back([=] {
    auto c = make<BiasDropoutResidualLayerNormBackward>(what, {.dtype = kDtype, .rows = rows, .cols = cols},
                                                        {.of_copy = 0.82});
    add_dropout(*c);
    c->normal(c->params.dy, kDtype, n);
    c->normal(c->params.z, kDtype, n);
    c->normal(c->params.mean, Dtype::f32, rows);
    c->normal(c->params.rstd, Dtype::f32, rows);
    c->normal(c->params.gamma, Dtype::f32, cols);
    c->output(c->params.dx, kDtype, n);
    c->output(c->params.dresidual, kDtype, n);
    c->output(c->params.dbias, Dtype::f32, cols);
    c->output(c->params.dgamma, Dtype::f32, cols);
    c->output(c->params.dbeta, Dtype::f32, cols);
    return done(std::move(c));
  });
}

void add_rows(std::vector<MakeCase>& all, const Sizes& s, std::int64_t rows) {
  const std::int64_t cols = s.intermediate, n = rows * cols;
  all.push_back([=] {
    auto c = make<BiasGelu>(shape(rows, cols), {.dtype = kDtype, .rows = rows, .cols = cols}, {.of_copy = 0.92});
    c->normal(c->params.x, kDtype, n);
    c->normal(c->params.bias, Dtype::f32, cols);
    c->output(c->params.y, kDtype, n);
    return done(std::move(c));
  });
  all.push_back([=] {
    auto c = make<BiasGeluBackward>(shape(rows, cols), {.dtype = kDtype, .rows = rows, .cols = cols}, {.of_copy = 0.9});
    c->normal(c->params.dy, kDtype, n);
    c->normal(c->params.x, kDtype, n);
    c->normal(c->params.bias, Dtype::f32, cols);
    c->output(c->params.dx, kDtype, n);
    c->output(c->params.dbias, Dtype::f32, cols);
    return done(std::move(c));
  });
  all.push_back([=] {
    auto c = make<Dropout>(shape(rows, s.hidden), {.dtype = kDtype, .rows = rows, .cols = s.hidden});
    add_dropout(*c);
    c->normal(c->params.x, kDtype, rows * s.hidden);
    c->output(c->params.y, kDtype, rows * s.hidden);
    return done(std::move(c));
  });
  const std::int64_t scores = rows * 4, keys = s.sequence;
  all.push_back([=] {
    auto c = make<Softmax>(shape(scores, keys), {.dtype = kDtype, .rows = scores, .cols = keys}, {.of_copy = 0.9});
    c->normal(c->params.x, kDtype, scores * keys);
    c->output(c->params.y, kDtype, scores * keys);
    return done(std::move(c));
  });
  all.push_back([=] {
    auto c = make<SoftmaxBackward>(shape(scores, keys), {.dtype = kDtype, .rows = scores, .cols = keys},
                                   {.of_copy = 0.9});
    c->normal(c->params.dy, kDtype, scores * keys);
    c->normal(c->params.y, kDtype, scores * keys);
    c->output(c->params.dx, kDtype, scores * keys);
    return done(std::move(c));
  });
}

/// Ids that are as often as words are, the most frequent first: n-th with a share of about 1 / (n ln(vocab)). 0, the
/// padding, does not occur.
std::vector<std::int64_t> words(std::int64_t n, std::int64_t vocab) {
  std::mt19937 generator(3);
  std::uniform_real_distribution<double> draw(0, std::log(static_cast<double>(vocab)));
  std::vector<std::int64_t> out(static_cast<std::size_t>(n));
  for (auto& x : out) x = std::clamp<std::int64_t>(static_cast<std::int64_t>(std::exp(draw(generator))), 1, vocab - 1);
  return out;
}

/// Tokens of sequences of equal length that begin and end with a word of their own; all of one type, as in SST-2.
template <class P>
void add_ids(Case<P>& c, const Sizes& s, std::int64_t tokens) {
  add_dropout(c);
  std::vector<std::int64_t> ids = words(tokens, s.vocab), positions(ids.size());
  for (std::int64_t t = 0; t < tokens; ++t) {
    const std::int64_t position = t % s.sequence;
    positions[static_cast<std::size_t>(t)] = position;
    if (position == 0) ids[static_cast<std::size_t>(t)] = s.vocab - 1;
    if (position == s.sequence - 1) ids[static_cast<std::size_t>(t)] = s.vocab - 2;
  }
  c.values(c.params.ids, ids);
  c.values(c.params.type_ids, std::vector<std::int64_t>(ids.size(), 0));
  c.values(c.params.position_ids, positions);
}

/// In f32, as the tables are in mixed precision too.
void add_embeddings(std::vector<MakeCase>& all, const Sizes& s, std::int64_t tokens) {
  const std::int64_t h = s.hidden, n = tokens * h;
  all.push_back([=] {
    auto c = make<EmbeddingLayerNorm>(
        shape(tokens, h), {.dtype = Dtype::f32, .tokens = tokens, .cols = h, .vocab = s.vocab, .types = 2,
                           .positions = s.positions}, {.of_copy = 0.85});
    add_ids(*c, s, tokens);
    c->normal(c->params.word, Dtype::f32, s.vocab * h);
    c->normal(c->params.type, Dtype::f32, 2 * h);
    c->normal(c->params.position, Dtype::f32, s.positions * h);
    c->normal(c->params.gamma, Dtype::f32, h);
    c->normal(c->params.beta, Dtype::f32, h);
    c->output(c->params.z, Dtype::f32, n);
    c->output(c->params.y, Dtype::f32, n);
    c->output(c->params.mean, Dtype::f32, tokens);
    c->output(c->params.rstd, Dtype::f32, tokens);
    return done(std::move(c));
  });
  all.push_back([=] {
    auto c = make<EmbeddingLayerNormBackward>(
        shape(tokens, h), {.dtype = Dtype::f32, .tokens = tokens, .cols = h, .vocab = s.vocab, .types = 2,
                           .positions = s.positions, .padding_idx = 0}, {.of_copy = 0.75});
    add_ids(*c, s, tokens);
    c->normal(c->params.dy, Dtype::f32, n);
    c->normal(c->params.z, Dtype::f32, n);
    c->normal(c->params.mean, Dtype::f32, tokens);
    c->normal(c->params.rstd, Dtype::f32, tokens);
    c->normal(c->params.gamma, Dtype::f32, h);
    c->normal(c->params.dword, Dtype::f32, s.vocab * h);
    c->normal(c->params.dtype_table, Dtype::f32, 2 * h);
    c->normal(c->params.dposition, Dtype::f32, s.positions * h);
    c->output(c->params.dgamma, Dtype::f32, h);
    c->output(c->params.dbeta, Dtype::f32, h);
    return done(std::move(c));
  });
}

struct Batch {
  std::string name;
  std::vector<std::int32_t> offsets = {0};
  std::int64_t longest = 0, pairs = 0;

  Batch(std::string of, const std::vector<std::int64_t>& lengths) : name(std::move(of)) {
    for (const std::int64_t length : lengths) {
      offsets.push_back(offsets.back() + static_cast<std::int32_t>(length));
      longest = std::max(longest, length);
      pairs += length * length;
    }
  }
  std::int64_t tokens() const { return offsets.back(); }
  std::int64_t sequences() const { return static_cast<std::int64_t>(offsets.size()) - 1; }
};

/// Where `dropout` is false cuDNN stands beside our own kernels, where it is installed.
template <class P>
std::unique_ptr<Case<P>> attention_case(const Sizes& s, const Batch& batch, bool dropout, const Goal& goal) {
  const std::int64_t h = s.hidden;
  auto c = make<P>(batch.name + (dropout ? "" : ", no dropout"),
                   {.dtype = kDtype, .tokens = batch.tokens(), .sequences = batch.sequences(), .heads = s.heads,
                    .head_size = h / s.heads, .max_length = batch.longest, .pairs = batch.pairs, .scale = 0.125}, goal);
  P& p = c->params;
  p.stride_q = p.stride_k = p.stride_v = p.stride_o = h;
  if (dropout) add_dropout(*c);
  c->values(p.offsets, batch.offsets);
  for (const void** const field : {&p.q, &p.k, &p.v}) c->normal(*field, kDtype, batch.tokens() * h);
  return c;
}

void add_attention(std::vector<MakeCase>& all, const Sizes& s, const Batch& batch, bool dropout, const Goal& forward,
                   const Goal& backward) {
  const std::int64_t h = s.hidden, n = batch.tokens() * h;
  all.push_back([=] {
    auto c = attention_case<Attention>(s, batch, dropout, forward);
    c->output(c->params.o, kDtype, n);
    c->output(c->params.lse, Dtype::f32, batch.tokens() * s.heads);
    return done(std::move(c));
  });
  all.push_back([=] {
    auto c = attention_case<AttentionBackward>(s, batch, dropout, backward);
    AttentionBackward& p = c->params;
    p.stride_do = p.stride_dq = p.stride_dk = p.stride_dv = h;
    c->normal(p.o, kDtype, n);
    c->normal(p.d_o, kDtype, n);
    c->normal(p.lse, Dtype::f32, batch.tokens() * s.heads);
    for (void** const field : {&p.dq, &p.dk, &p.dv}) c->output(*field, kDtype, n);
    return done(std::move(c));
  });
}

void add_losses(std::vector<MakeCase>& all, std::int64_t rows, std::int64_t classes) {
  all.push_back([=] {
    auto c = make<CrossEntropy>(shape(rows, classes), {.dtype = kDtype, .rows = rows, .classes = classes});
    c->normal(c->params.x, kDtype, rows * classes);
    c->values(c->params.labels, indices(rows, classes));
    c->output(c->params.loss, Dtype::f32, rows);
    c->output(c->params.lse, Dtype::f32, rows);
    return done(std::move(c));
  });
  all.push_back([=] {
    auto c = make<CrossEntropyBackward>(shape(rows, classes), {.dtype = kDtype, .rows = rows, .classes = classes});
    c->normal(c->params.dloss, Dtype::f32, rows);
    c->normal(c->params.x, kDtype, rows * classes);
    c->values(c->params.labels, indices(rows, classes));
    c->normal(c->params.lse, Dtype::f32, rows);
    c->output(c->params.dx, kDtype, rows * classes);
    return done(std::move(c));
  });
}

/// A batch marks its rows; then the marks are walked, and rows are brought up to date. The marks are gone after the
/// first call, and every row is current: what is timed is the look that finds nothing to do.
void add_touched_rows(std::vector<MakeCase>& all, const Sizes& s) {
  all.push_back([=] {
    auto c = make<MarkRows>(std::to_string(s.tiny_tokens), {.rows = s.vocab, .n = s.tiny_tokens});
    c->values(c->params.ids, indices(s.tiny_tokens, s.vocab));
    c->output(c->params.touched, Dtype::i32, s.vocab);
    return done(std::move(c));
  });
  all.push_back([=] {
    auto c = make<ZeroRows>(shape(s.vocab, s.hidden), {.rows = s.vocab, .cols = s.hidden});
    std::vector<std::int32_t> marks(static_cast<std::size_t>(s.vocab), 0);
    for (std::size_t r = 0; r < marks.size(); r += 227) marks[r] = 1;
    c->repeated(c->params.touched, s.vocab, marks);
    c->normal(c->params.table, Dtype::f32, s.vocab * s.hidden);
    return done(std::move(c));
  });
  all.push_back([=] {
    static const std::vector<std::int64_t> step = {100};
    auto c = make<CatchUpRows>(shape(s.tiny_tokens, s.hidden), {.rows = s.vocab, .cols = s.hidden, .n = s.tiny_tokens,
                                                                 .history_size = 128});
    c->values(c->params.ids, indices(s.tiny_tokens, s.vocab));
    c->values(c->params.step, step);
    c->repeated(c->params.history, 128, std::vector<AdamWCoefficients>(128, coefficients(2e-5, 0.01, 0.9, 0.999, 100)));
    c->repeated(c->params.current, s.vocab, std::vector<std::int64_t>(64, 0));
    c->normal(c->params.param, Dtype::f32, s.vocab * s.hidden);
    c->normal(c->params.exp_avg, Dtype::f32, s.vocab * s.hidden);
    c->repeated(c->params.exp_avg_sq, s.vocab * s.hidden, std::vector<float>(1 << 16, 1e-4f));
    return done(std::move(c));
  });
}

void add_optimizer(std::vector<MakeCase>& all, std::int64_t n) {
  all.push_back([=] {
    auto c = make<SquaredNorm>(std::to_string(n), {.dtype = kDtype, .n = n}, {.of_copy = 0.9});
    c->normal(c->params.x, kDtype, n);
    c->output(c->params.sum, Dtype::f64, 1);
    c->output(c->params.nonfinite, Dtype::i32, 1);
    return done(std::move(c));
  });
  all.push_back([=] {
    static std::vector<AdamWGroup> groups;
    const std::vector<double> one = {1};
    const std::vector<std::int32_t> zero = {0};
    const std::int64_t border = n / 10 / kFlatBlock * kFlatBlock;
    groups = {{0, border}, {border, n}};
    const std::vector<AdamWCoefficients> now = {coefficients(2e-5, 0, 0.9, 0.999, 1),
                                                coefficients(2e-5, 0.01, 0.9, 0.999, 1)};
    auto c = make<AdamW>(std::to_string(n), {.dtype = Dtype::f32, .groups = groups.data(), .group_count = 2,
                                             .low_dtype = kDtype}, {.of_copy = 0.92});
    c->values(c->params.coefficients, now);
    c->values(c->params.clip, one);
    c->values(c->params.skip, zero);
    c->normal(c->params.grad, Dtype::f32, n);
    c->normal(c->params.param, Dtype::f32, n);
    c->normal(c->params.exp_avg, Dtype::f32, n);
    c->repeated(c->params.exp_avg_sq, n, std::vector<float>(1 << 16, 1e-4f));
    c->output(c->params.low, kDtype, n);
    return done(std::move(c));
  });
}

/// As mixed precision runs it: matrices, behind an eighth of biases and tables, have copies and gradients in 16 bits.
void add_low_optimizer(std::vector<MakeCase>& all, std::int64_t n) {
  const std::int64_t border = n / 8 / kFlatBlock * kFlatBlock;
  const std::vector<FlatRange> ranges = {{border, n}};
  all.push_back([=] {
    auto c = make<SquaredNorm>(std::to_string(n) + ", 7/8 in 16 bits", {.dtype = Dtype::f32, .n = n,
                                                                        .low_dtype = kDtype}, {.of_copy = 0.9});
    c->normal(c->params.x, Dtype::f32, n);
    c->normal(c->params.low_x, kDtype, n);
    c->values(c->params.low_ranges.ranges, ranges);
    c->params.low_ranges.count = 1;
    c->output(c->params.sum, Dtype::f64, 1);
    c->output(c->params.nonfinite, Dtype::i32, 1);
    return done(std::move(c));
  });
  all.push_back([=] {
    static std::vector<AdamWGroup> groups;
    groups = {{0, n}};
    const std::vector<double> one = {1};
    const std::vector<AdamWCoefficients> now = {coefficients(2e-5, 0.01, 0.9, 0.999, 1)};
    auto c = make<AdamW>(std::to_string(n) + ", 7/8 in 16 bits", {.dtype = Dtype::f32, .groups = groups.data(),
                                                                  .group_count = 1, .low_dtype = kDtype},
                         {.of_copy = 0.92});
    c->values(c->params.coefficients, now);
    c->values(c->params.clip, one);
    c->normal(c->params.grad, Dtype::f32, n);
    c->normal(c->params.low_grad, kDtype, n);
    c->values(c->params.low_ranges.ranges, ranges);
    c->params.low_ranges.count = 1;
    c->normal(c->params.param, Dtype::f32, n);
    c->normal(c->params.exp_avg, Dtype::f32, n);
    c->repeated(c->params.exp_avg_sq, n, std::vector<float>(1 << 16, 1e-4f));
    c->output(c->params.low, kDtype, n);
    return done(std::move(c));
  });
}

/// What decides an update: launches more than work.
void add_update(std::vector<MakeCase>& all) {
  static const std::vector<UpdateState> state(1);
  all.push_back([] {
    auto c = make<AccumulateLoss>("", {.dtype = Dtype::f32});
    c->normal(c->params.loss, Dtype::f32, 1);
    c->repeated(c->params.state, 1, state);
    return done(std::move(c));
  });
  all.push_back([] {
    const std::vector<double> lr(1000, 2e-5), norm = {4};
    const std::vector<std::int32_t> finite = {0};
    const std::vector<UpdateGroup> groups = {{1, 0.01}, {1, 0}};
    auto c = make<PrepareUpdate>("2 groups", {.record_count = 1000, .max_norm = 1, .lr_count = 1000, .group_count = 2,
                                              .scales_loss = true});
    c->repeated(c->params.state, 1, state);
    c->repeated(c->params.records, 1000, std::vector<UpdateRecord>(1));
    c->values(c->params.squared_norm, norm);
    c->values(c->params.nonfinite, finite);
    c->values(c->params.lr, lr);
    c->values(c->params.groups, groups);
    c->repeated(c->params.coefficients, 2, std::vector<AdamWCoefficients>(1));
    return done(std::move(c));
  });
}

}  // namespace

std::vector<MakeCase> kernel_cases(const Sizes& s) {
  std::vector<MakeCase> all;
  add_elementwise(all, s.tokens, s.hidden);
  add_gathers(all, s);
  add_products(all, s);
  for (const std::int64_t tokens : {s.small_tokens, s.tokens}) {
    add_layer_norms(all, tokens, s.hidden);
    add_rows(all, s, tokens);
    add_embeddings(all, s, tokens);
  }
  const std::vector<std::int64_t> sst2 = {3, 4, 5, 6, 7, 8, 9, 9, 10, 11, 12, 14, 16, 18, 21, 60};
  const auto equal = [](std::int64_t tokens, std::int64_t length) {
    return Batch(shape(tokens / length, length),
                 std::vector<std::int64_t>(static_cast<std::size_t>(tokens / length), length));
  };
  add_attention(all, s, Batch("a batch of SST-2", sst2), true, {.microseconds = 5}, {.microseconds = 8});
  add_attention(all, s, equal(s.small_tokens, s.sequence), true, {}, {});
  add_attention(all, s, equal(s.tokens, s.sequence), true, {.of_copy = 0.7}, {.of_copy = 0.6});
  add_attention(all, s, equal(s.tokens, s.long_sequence), true, {.tflops = 330}, {.tflops = 240});
  for (const std::int64_t length : {s.sequence, s.middle_sequence, s.long_sequence})
    add_attention(all, s, equal(s.tokens, length), false, {}, {});
  add_losses(all, 16, 2);
  add_losses(all, s.small_tokens, s.vocab);
  add_touched_rows(all, s);
  add_optimizer(all, s.parameters);
  add_low_optimizer(all, s.parameters);
  add_update(all);
  return all;
}

}  // namespace sinter::bench
