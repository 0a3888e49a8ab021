// Packed batches for attention, forward and backward on the device against the reference.
#pragma once

#include <algorithm>
#include <cmath>
#include <string>
#include <vector>

#include "kernels/attention.h"
#include "kernels/ref/element.h"
#include "tests/kernels/cuda/device_case.h"
#include "tests/kernels/row_cases.h"

namespace sinter::kernels::testing {

/// A packed batch, with gaps between the rows of every matrix.
struct Batch {
  std::vector<std::int64_t> lengths;
  std::int64_t heads = 2, head_size = 32;
  double dropout = 0;
  std::int64_t gap = 8;                  ///< elements behind heads * head_size, of which strides count one more each
  std::int64_t longest = -1;             ///< max_length; -1: that of the lengths
  std::vector<double> key_mask;          ///< empty: null
  std::vector<double> sample, position;  ///< empty: null
  bool first_sample = true;              ///< false: null
  double scale = 0;                      ///< 0: 1 / sqrt(head_size)

  std::int64_t hidden() const { return heads * head_size; }
  std::vector<double> offsets() const {
    std::vector<double> ends{0};
    for (const std::int64_t length : lengths) ends.push_back(ends.back() + static_cast<double>(length));
    return ends;
  }
  std::int64_t tokens() const { return static_cast<std::int64_t>(offsets().back()); }
  std::int64_t max_length() const {
    if (longest >= 0) return longest;
    return lengths.empty() ? 0 : *std::max_element(lengths.begin(), lengths.end());
  }
};

inline std::vector<std::byte> stored(Dtype dtype, const std::vector<double>& values) {
  std::vector<std::byte> bytes(values.size() * size_of(dtype));
  for (std::size_t i = 0; i < values.size(); ++i)
    ref::store(dtype, bytes.data(), static_cast<std::int64_t>(i), values[i]);
  return bytes;
}
inline std::vector<double> loaded(Dtype dtype, const std::vector<std::byte>& bytes) {
  std::vector<double> values(bytes.size() / size_of(dtype));
  for (std::size_t i = 0; i < values.size(); ++i)
    values[i] = ref::load(dtype, bytes.data(), static_cast<std::int64_t>(i));
  return values;
}

/// A batch with its values, for one dtype; o and lse from the reference.
class AttentionCase {
 public:
  AttentionCase(Dtype dtype, const Batch& batch) : dtype_(dtype), batch_(batch) {
    const std::int64_t hidden = batch.hidden();
    for (const int i : {0, 1, 2, 3, 4}) strides_.push_back(hidden + (i + 1) * batch.gap);
    q_ = normal_values(batch.tokens() * strides_[0], 1);
    k_ = normal_values(batch.tokens() * strides_[1], 2);
    v_ = normal_values(batch.tokens() * strides_[2], 3);
    d_o_ = normal_values(batch.tokens() * strides_[4], 4);
    run_reference();
  }

  /// An empty `variant`: all of them.
  void check_forward(const std::string& variant, Tolerance o, Tolerance lse) const {
    SCOPED_TRACE(description());
    DeviceCase<Attention> test(params<Attention>());
    add_inputs(test);
    test.in_out(test.params.o, dtype_, normal_values(batch_.tokens() * strides_[3], 5), o);
    test.output(test.params.lse, computed_dtype(dtype_), batch_.heads * batch_.tokens(), lse);
    test.workspace(test.params.workspace);
    variant.empty() ? test.check() : test.check_only(variant);
  }

  void check_backward(const std::string& variant, Tolerance tolerance) const {
    SCOPED_TRACE(description());
    DeviceCase<AttentionBackward> test(params<AttentionBackward>());
    test.params.stride_do = strides_[4];
    test.params.stride_dq = strides_[2];
    test.params.stride_dk = strides_[1];
    test.params.stride_dv = strides_[0];
    add_inputs(test);
    test.input(test.params.o, dtype_, o_);
    test.input(test.params.lse, computed_dtype(dtype_), lse_);
    test.input(test.params.d_o, dtype_, d_o_);
    test.in_out(test.params.dq, dtype_, normal_values(batch_.tokens() * strides_[2], 6), tolerance);
    test.in_out(test.params.dk, dtype_, normal_values(batch_.tokens() * strides_[1], 7), tolerance);
    test.in_out(test.params.dv, dtype_, normal_values(batch_.tokens() * strides_[0], 8), tolerance);
    test.workspace(test.params.workspace);
    variant.empty() ? test.check() : test.check_only(variant);
  }

 private:
  template <class P>
  P params() const {
    P p;
    p.dtype = dtype_;
    p.tokens = batch_.tokens();
    p.sequences = static_cast<std::int64_t>(batch_.lengths.size());
    p.heads = batch_.heads;
    p.head_size = batch_.head_size;
    p.max_length = batch_.max_length();
    p.scale = batch_.scale != 0 ? batch_.scale : 1 / std::sqrt(static_cast<double>(batch_.head_size));
    p.dropout = site_.dropout(batch_.dropout);
    if (!batch_.first_sample) p.dropout.first_sample = nullptr;
    p.stride_q = strides_[0];
    p.stride_k = strides_[1];
    p.stride_v = strides_[2];
    p.stride_o = strides_[3];
    return p;
  }

  template <class P>
  void add_inputs(DeviceCase<P>& test) const {
    test.input(test.params.q, dtype_, q_);
    test.input(test.params.k, dtype_, k_);
    test.input(test.params.v, dtype_, v_);
    test.input(test.params.offsets, Dtype::i32, batch_.offsets());
    test.input(test.params.dropout.step, Dtype::i32, {static_cast<double>(site_.step)});
    if (batch_.first_sample)
      test.input(test.params.dropout.first_sample, Dtype::i32, {static_cast<double>(site_.first_sample)});
    if (!batch_.key_mask.empty()) test.input(test.params.key_mask, Dtype::u8, batch_.key_mask);
    if (!batch_.sample.empty()) test.input(test.params.sample, Dtype::i32, batch_.sample);
    if (!batch_.position.empty()) test.input(test.params.position, Dtype::i32, batch_.position);
  }

  void run_reference() {
    const auto q = stored(dtype_, q_), k = stored(dtype_, k_), v = stored(dtype_, v_);
    const auto offsets = stored(Dtype::i32, batch_.offsets()), mask = stored(Dtype::u8, batch_.key_mask);
    const auto sample = stored(Dtype::i32, batch_.sample), position = stored(Dtype::i32, batch_.position);
    const auto integers = [](const std::vector<std::byte>& x) {
      return x.empty() ? nullptr : reinterpret_cast<const std::int32_t*>(x.data());
    };
    std::vector<std::byte> o(static_cast<std::size_t>(batch_.tokens() * strides_[3]) * size_of(dtype_));
    std::vector<std::byte> lse(static_cast<std::size_t>(batch_.heads * batch_.tokens()) *
                               size_of(computed_dtype(dtype_)));
    Attention p = params<Attention>();
    p.q = q.data();
    p.k = k.data();
    p.v = v.data();
    p.offsets = integers(offsets);
    p.key_mask = mask.empty() ? nullptr : reinterpret_cast<const std::uint8_t*>(mask.data());
    p.sample = integers(sample);
    p.position = integers(position);
    p.o = o.data();
    p.lse = lse.data();
    const Status status = run(ref_module(), p);
    EXPECT_TRUE(status.ok()) << status.what;
    o_ = loaded(dtype_, o);
    lse_ = loaded(computed_dtype(dtype_), lse);
  }

  std::string description() const {
    std::string text = "heads " + std::to_string(batch_.heads) + " of " + std::to_string(batch_.head_size) +
                       ", dropout " + std::to_string(batch_.dropout) + ", lengths";
    for (const std::int64_t length : batch_.lengths) text += " " + std::to_string(length);
    return text;
  }

  Dtype dtype_;
  Batch batch_;
  DropoutSite site_;
  std::vector<std::int64_t> strides_;   // of q, k, v, o, d_o
  std::vector<double> q_, k_, v_, d_o_, o_, lse_;
};

/// Inputs are of size 1. A score adds head_size products and is scaled by 1 / sqrt(head_size): its roundings add up, at
/// random, to about sqrt(head_size) u, which are relative errors of the probability. The sums over keys (O, dQ) and
/// queries (dK, dV) add as many errors as their length, at random too. 8: four standard deviations, twice for the
/// exponential and the softmax's sum. The backward passes through three such products; what it subtracts (dP and its
/// row sum) is of size 1 in scale * dS, however small the difference is.
inline Tolerance rounding(const Batch& batch, double passes = 1) {
  const double depth = static_cast<double>(batch.head_size), length = static_cast<double>(batch.max_length());
  return {.ulps = passes * 4 * (4 + std::sqrt(depth) + std::sqrt(length)), .floor = 1};
}

/// Kernels on tensor cores round probabilities and dS to `dtype`, each within half a unit of its last place. O is a sum
/// of values of size 1 whose weights add up to 1, or 1 / (1 - p) with dropout: at most that many units, which is two
/// where p is a half. The gradients are sums of as many roundings as there are keys or queries, at random, of terms
/// whose own sum is the result; beside the largest of them, or 1, two units again, and two for the dS of one row, which
/// may all but cancel.
inline Tolerance operand_rounding(Dtype dtype, const Batch& batch, double units) {
  const double unit = dtype == Dtype::f16 ? 0x1p13 : 0x1p16;   // in units of f32
  return {.ulps = units * unit + rounding(batch, 3).ulps, .floor = 1};
}

}  // namespace sinter::kernels::testing
