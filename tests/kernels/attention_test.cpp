#include "kernels/attention.h"

#include <limits>

#include "tests/kernels/kernel_test.h"

namespace sinter::kernels {
namespace {

using namespace testing;

/// A packed batch. q, k and v stand in one [tokens, 3 * hidden + gap] buffer, as a fused projection leaves them.
template <class T>
struct Batch {
  static constexpr std::int64_t gap = 5;
  std::int64_t heads, head_size, hidden, stride, stride_o;
  std::vector<std::int32_t> offsets;
  Buffer<T> qkv, d_o;
  std::int64_t longest = 0;   ///< what the kernel is told as max_length
  double scale, dropout = 0;
  std::vector<std::uint8_t> key_mask;           ///< empty: null
  std::vector<std::int32_t> sample, position;   ///< empty: null
  std::uint32_t step = 7, first_sample = 1000;

  Batch(const std::vector<int>& lengths, std::int64_t a, std::int64_t d, double p = 0)
      : heads(a), head_size(d), hidden(a * d), stride(3 * hidden + gap), stride_o(hidden + 3), offsets(ends(lengths)),
        qkv(random_buffer<T>(tokens() * stride, 1)), d_o(random_buffer<T>(tokens() * stride_o, 2)),
        longest(lengths.empty() ? 0 : *std::max_element(lengths.begin(), lengths.end())),
        scale(1 / std::sqrt(static_cast<double>(d))), dropout(p) {}

  std::int64_t tokens() const { return offsets.back(); }
  std::int64_t sequences() const { return static_cast<std::int64_t>(offsets.size()) - 1; }

  template <class P>
  P params() const {
    P p;
    p.dtype = dtype_of<T>;
    p.tokens = tokens();
    p.sequences = sequences();
    p.heads = heads;
    p.head_size = head_size;
    p.max_length = longest;
    p.scale = scale;
    p.dropout = {0x1234567890abcdefull, &step, &first_sample, 3, dropout_threshold(dropout)};
    p.offsets = offsets.data();
    p.key_mask = key_mask.empty() ? nullptr : key_mask.data();
    p.sample = sample.empty() ? nullptr : sample.data();
    p.position = position.empty() ? nullptr : position.data();
    p.q = qkv.data();
    p.k = qkv.data() + hidden;
    p.v = qkv.data() + 2 * hidden;
    p.stride_q = p.stride_k = p.stride_v = stride;
    p.stride_o = stride_o;
    return p;
  }

 private:
  static std::vector<std::int32_t> ends(const std::vector<int>& lengths) {
    std::vector<std::int32_t> offsets{0};
    for (const int length : lengths) offsets.push_back(offsets.back() + length);
    return offsets;
  }
};

template <class T>
struct Forward {
  Buffer<T> o, lse;
};

template <class T>
Forward<T> forward(const BackendModule& module, const Batch<T>& batch, Stream stream = {}) {
  Forward<T> r{Buffer<T>(batch.tokens() * batch.stride_o), Buffer<T>(batch.heads * batch.tokens())};
  Attention p = batch.template params<Attention>();
  p.o = r.o.data();
  p.lse = r.lse.data();
  EXPECT_TRUE(run_ok(module, p, stream));
  return r;
}

/// dq, dk and dv in one buffer like q, k and v.
template <class T>
Buffer<T> backward(const BackendModule& module, const Batch<T>& batch, const Forward<T>& saved, Stream stream = {}) {
  Buffer<T> d(batch.tokens() * batch.stride);
  AttentionBackward p = batch.template params<AttentionBackward>();
  p.o = saved.o.data();
  p.lse = saved.lse.data();
  p.d_o = batch.d_o.data();
  p.stride_do = batch.stride_o;
  p.stride_dq = p.stride_dk = p.stride_dv = batch.stride;
  p.dq = d.data();
  p.dk = d.data() + batch.hidden;
  p.dv = d.data() + 2 * batch.hidden;
  EXPECT_TRUE(run_ok(module, p, stream));
  return d;
}

/// Random inputs are of size 1. A score is a chain of head_size products, scaled by 1 / sqrt(head_size): its rounding
/// errors add up, at random, to about sqrt(head_size) ulp, and are relative errors of the probability. The sums over
/// keys (O, dQ) and queries (dK, dV) add as many errors as their length, at random too. 4 is four standard deviations;
/// the backward passes through three such products.
template <class T>
double tolerance(const Batch<T>& batch) {
  const double depth = static_cast<double>(batch.head_size), length = static_cast<double>(batch.longest);
  return 4 * kUlp<T> * (4 + std::sqrt(depth) + std::sqrt(length));
}

/// Elements between and behind the rows of a result must keep their poison: it stands in `expected` too.
template <class T>
void against_reference(const Batch<T>& batch) {
  SCOPED_TRACE(::testing::Message() << batch.sequences() << " sequences, " << batch.tokens() << " tokens, heads "
                                    << batch.heads << ", head_size " << batch.head_size << ", dropout "
                                    << batch.dropout);
  const Forward<T> expected = forward(ref_module(), batch);
  const Buffer<T> expected_d = backward(ref_module(), batch, expected);
  for_each_cpu([&](const BackendModule& module) {
    const Forward<T> actual = forward(module, batch);
    expect_close(actual.o.span(), expected.o.span(), tolerance(batch), "o");
    expect_close(actual.lse.span(), expected.lse.span(), tolerance(batch), "lse", 1);
    expect_close(backward(module, batch, expected).span(), expected_d.span(), 3 * tolerance(batch), "dq, dk, dv");
  });
}

template <class T>
void against_reference_all_sizes() {
  const std::vector<int> lengths = {13, 1, 0, 33, 7, 16};
  for (const double dropout : {0.0, 0.1})
    for (const std::int64_t head_size : {1, 7, 16, 32, 64, 80}) {
      against_reference(Batch<T>(lengths, 3, head_size, dropout));
      against_reference(Batch<T>(lengths, 1, head_size, dropout));
    }
}

TEST(Attention, MatchesReferenceF32) { against_reference_all_sizes<float>(); }
TEST(Attention, MatchesReferenceF64) { against_reference_all_sizes<double>(); }

// More keys than one block holds: 512 of f32 with 64 elements, fewer where a key is larger.
TEST(Attention, MatchesReferenceInSeveralKeyBlocks) {
  against_reference(Batch<float>({600, 512, 511}, 1, 4, 0.1));
  against_reference(Batch<float>({130, 150}, 1, 200, 0.5));
  against_reference(Batch<double>({260}, 1, 64, 0.1));
  Batch<float> masked({150}, 1, 512);
  masked.key_mask.assign(150, 1);
  std::fill_n(masked.key_mask.begin(), 60, std::uint8_t{0});        // a first block without a kept key
  std::fill_n(masked.key_mask.begin() + 140, 10, std::uint8_t{0});
  against_reference(masked);
  std::fill_n(masked.key_mask.begin() + 45, 60, std::uint8_t{0});   // and one in the middle
  std::fill_n(masked.key_mask.begin(), 45, std::uint8_t{1});
  against_reference(masked);
}

TEST(Attention, NothingToDo) {
  against_reference(Batch<float>({}, 2, 8));
  against_reference(Batch<float>({0, 0}, 2, 8, 0.1));
}

TEST(Attention, MaxLengthMayBeABound) {
  Batch<float> batch({5, 9}, 2, 16, 0.1);
  batch.longest = 4096;
  against_reference(batch);
}

template <class T>
void masked_keys() {
  for (const double dropout : {0.0, 0.25}) {
    Batch<T> batch({20, 6, 1, 35}, 2, 24, dropout);
    batch.key_mask.assign(static_cast<std::size_t>(batch.tokens()), 1);
    for (const std::size_t token : {0u, 3u, 17u, 18u, 19u, 30u, 61u}) batch.key_mask[token] = 0;
    std::fill_n(batch.key_mask.begin() + 20, 6, std::uint8_t{0});   // the second sequence has no kept key
    against_reference(batch);
    for_each_cpu([&](const BackendModule& module) {
      const Forward<T> r = forward(module, batch);
      const Buffer<T> d = backward(module, batch, r);
      for (std::int64_t token = 20; token < 26; ++token) {
        for (std::int64_t c = 0; c < batch.hidden; ++c) EXPECT_EQ(r.o[token * batch.stride_o + c], T{0});
        for (std::int64_t c = 0; c < 3 * batch.hidden; ++c) EXPECT_EQ(d[token * batch.stride + c], T{0});
        EXPECT_EQ(r.lse[token], -std::numeric_limits<T>::infinity());
      }
    });
  }
}

TEST(Attention, MaskedKeys) {
  masked_keys<float>();
  masked_keys<double>();
}

// A sequence that begins in the middle of another one (position 3), and one whose positions jump: the dropout mask is
// that of the positions. Only the first of them can draw its decisions in whole blocks.
TEST(Attention, DropoutFollowsSampleAndPosition) {
  Batch<float> batch({21, 10}, 2, 16, 0.5);
  batch.sample = {4, 1};
  for (int i = 0; i < 21; ++i) batch.position.push_back(i + 3);
  for (int i = 0; i < 10; ++i) batch.position.push_back((i * 37) % 97 + 3990);
  against_reference(batch);
}

/// Copies the rows of one sequence out of a packed buffer.
template <class T>
void copy_rows(const Buffer<T>& from, std::int64_t from_row, Buffer<T>& to, std::int64_t to_row, std::int64_t rows,
               std::int64_t stride) {
  std::copy_n(from.data() + from_row * stride, rows * stride, to.data() + to_row * stride);
}

template <class T>
void expect_same_rows(const Buffer<T>& a, std::int64_t a_row, const Buffer<T>& b, std::int64_t b_row, std::int64_t rows,
                      std::int64_t stride, std::int64_t columns, const char* what) {
  for (std::int64_t i = 0; i < rows; ++i)
    for (std::int64_t c = 0; c < columns; ++c)
      ASSERT_EQ(a[(a_row + i) * stride + c], b[(b_row + i) * stride + c]) << what << " row " << i << " column " << c;
}

TEST(Attention, BitsDependOnTheSequenceAlone) {
  const std::vector<int> lengths = {13, 40, 1, 60, 128, 3};
  const Batch<float> packed(lengths, 4, 32, 0.1);
  for_each_cpu([&](const BackendModule& module) {
    const Forward<float> r = forward(module, packed);
    const Buffer<float> d = backward(module, packed, r);
    for (const int threads : {1, 2, 4}) {
      ThreadPool pool(threads);
      const Forward<float> again = forward(module, packed, pool.stream());
      expect_same_bits(again.lse, r.lse, "lse");
      expect_same_bits(again.o, r.o, "o");
      expect_same_bits(backward(module, packed, r, pool.stream()), d, "dq, dk, dv");
    }
    for (std::size_t b = 0; b < lengths.size(); ++b) {
      Batch<float> alone({lengths[b]}, 4, 32, 0.1);
      const std::int64_t begin = packed.offsets[b];
      alone.sample = {static_cast<std::int32_t>(b)};
      copy_rows(packed.qkv, begin, alone.qkv, 0, lengths[b], packed.stride);
      copy_rows(packed.d_o, begin, alone.d_o, 0, lengths[b], packed.stride_o);
      const Forward<float> s = forward(module, alone);
      expect_same_rows(s.o, 0, r.o, begin, lengths[b], packed.stride_o, packed.hidden, "o");
      expect_same_rows(backward(module, alone, s), 0, d, begin, lengths[b], packed.stride, 3 * packed.hidden, "d");
    }
  });
}

// The padded layout drops the same elements and, because masked keys at the end are never touched and pads send no
// gradient, even the sums are the same ones.
TEST(Attention, PaddedEqualsPacked) {
  const std::vector<int> lengths = {5, 13, 1, 48, 40};
  constexpr int S = 48;
  const Batch<float> packed(lengths, 3, 64, 0.3);
  Batch<float> padded(std::vector<int>(lengths.size(), S), 3, 64, 0.3);
  padded.key_mask.assign(lengths.size() * S, 0);
  padded.d_o.fill(0);
  for (std::size_t b = 0; b < lengths.size(); ++b) {
    const auto row = static_cast<std::int64_t>(b) * S;
    std::fill_n(padded.key_mask.begin() + row, lengths[b], std::uint8_t{1});
    copy_rows(packed.qkv, packed.offsets[b], padded.qkv, row, lengths[b], packed.stride);
    copy_rows(packed.d_o, packed.offsets[b], padded.d_o, row, lengths[b], packed.stride_o);
  }
  for_each_cpu([&](const BackendModule& module) {
    const Forward<float> r = forward(module, packed), s = forward(module, padded);
    const Buffer<float> d = backward(module, packed, r), e = backward(module, padded, s);
    for (std::size_t b = 0; b < lengths.size(); ++b) {
      const auto row = static_cast<std::int64_t>(b) * S;
      expect_same_rows(r.o, packed.offsets[b], s.o, row, lengths[b], packed.stride_o, packed.hidden, "o");
      expect_same_rows(d, packed.offsets[b], e, row, lengths[b], packed.stride, 3 * packed.hidden, "d");
    }
  });
}

// The oracle's own backward: derivative of sum(O * dO) by central differences. Their error is h^2 / 6 times a third
// derivative of size 1, plus ulp / h.
TEST(Attention, ReferenceBackwardIsTheDerivative) {
  for (const double dropout : {0.0, 0.4}) {
    Batch<double> batch({4, 6}, 2, 3, dropout);
    batch.key_mask = {1, 1, 0, 1, 1, 1, 1, 1, 1, 0};
    const Buffer<double> analytic = backward(ref_module(), batch, forward(ref_module(), batch));
    const auto loss = [&] {
      const Forward<double> r = forward(ref_module(), batch);
      double sum = 0;
      for (std::int64_t t = 0; t < batch.tokens(); ++t)
        for (std::int64_t c = 0; c < batch.hidden; ++c)
          sum += r.o[t * batch.stride_o + c] * batch.d_o[t * batch.stride_o + c];
      return sum;
    };
    constexpr double h = 1e-5;
    for (std::int64_t t = 0; t < batch.tokens(); ++t)
      for (std::int64_t c = 0; c < 3 * batch.hidden; ++c) {
        double& x = batch.qkv[t * batch.stride + c];
        const double kept = x;
        x = kept + h;
        const double above = loss();
        x = kept - h;
        const double below = loss();
        x = kept;
        const double numeric = (above - below) / (2 * h);
        ASSERT_NEAR(analytic[t * batch.stride + c], numeric, 1e-8) << "token " << t << " column " << c;
      }
  }
}

TEST(Attention, LargeScoresDoNotOverflow) {
  Batch<float> batch({30}, 2, 32);
  batch.scale = 300;   // scores of +-10^4
  for_each_cpu([&](const BackendModule& module) {
    const Forward<float> r = forward(module, batch);
    const Buffer<float> d = backward(module, batch, r);
    for (std::int64_t t = 0; t < batch.tokens(); ++t) {
      for (std::int64_t c = 0; c < batch.hidden; ++c) ASSERT_TRUE(std::isfinite(r.o[t * batch.stride_o + c]));
      for (std::int64_t c = 0; c < 3 * batch.hidden; ++c) ASSERT_TRUE(std::isfinite(d[t * batch.stride + c]));
    }
  });
}

TEST(Attention, RefusesBeforeItWrites) {
  const auto expect_refused = [](Batch<float>& batch, StatusCode code) {
    const auto on = [&](const BackendModule& module) {
      Buffer<float> o(batch.tokens() * batch.stride_o), lse(batch.heads * batch.tokens());
      o.fill(7);
      Attention p = batch.params<Attention>();
      p.o = o.data();
      p.lse = lse.data();
      EXPECT_EQ(run(module, p).code, code);
      for (std::int64_t i = 0; i < o.size(); ++i) ASSERT_EQ(o[i], 7.0f);
    };
    for_each_cpu(on);
    on(ref_module());
  };
  Batch<float> batch({3, 4}, 2, 4);
  batch.longest = 3;
  expect_refused(batch, StatusCode::invalid_argument);
  batch.longest = 4;
  batch.offsets = {0, 8, 7};
  expect_refused(batch, StatusCode::invalid_argument);
  batch.offsets = {1, 3, 7};
  expect_refused(batch, StatusCode::invalid_argument);
  batch.offsets = {0, 3, 7};
  batch.dropout = 0.1;
  batch.position.assign(7, 0);
  batch.position[6] = 4096;
  expect_refused(batch, StatusCode::invalid_argument);
  batch.longest = 4097;
  expect_refused(batch, StatusCode::unsupported);
  EXPECT_EQ(run(cpu_module(), Batch<float>({1}, 1, 513).params<Attention>()).code, StatusCode::unsupported);
  Attention half = batch.params<Attention>();
  half.dtype = Dtype::f16;
  EXPECT_EQ(run(cpu_module(), half).code, StatusCode::unsupported);
}

}  // namespace
}  // namespace sinter::kernels
