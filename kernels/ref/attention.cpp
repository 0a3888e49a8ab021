#include "kernels/attention.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

#include "kernels/base/families.h"
#include "kernels/ref/element.h"

namespace sinter::kernels::ref {
namespace {

/// One sequence and head: the probabilities, and what dropout makes of an element of them.
template <class P>
struct Head {
  const P& p;
  std::int64_t sequence, head, begin, length;

  Head(const P& params, std::int64_t b, std::int64_t a)
      : p(params), sequence(b), head(a), begin(params.offsets[b]), length(params.offsets[b + 1] - params.offsets[b]) {}

  std::int64_t at(std::int64_t place, std::int64_t stride, std::int64_t d) const {
    return (begin + place) * stride + head * p.head_size + d;
  }
  bool kept(std::int64_t key) const { return p.key_mask == nullptr || p.key_mask[begin + key] != 0; }

  double score(std::int64_t i, std::int64_t j) const {
    double dot = 0;
    for (std::int64_t d = 0; d < p.head_size; ++d)
      dot += load(p.dtype, p.q, at(i, p.stride_q, d)) * load(p.dtype, p.k, at(j, p.stride_k, d));
    return p.scale * dot;
  }

  /// What dropout multiplies the probability of (query i, key j) by: 0 or 1 / (1 - p).
  double dropout_factor(std::int64_t i, std::int64_t j) const {
    if (!p.dropout.active()) return 1;
    const auto position = [&](std::int64_t place) {
      return static_cast<std::uint64_t>(p.position == nullptr ? place : p.position[begin + place]);
    };
    const std::uint64_t row = static_cast<std::uint64_t>(head) * kAttentionDropoutStride + position(i);
    const std::uint64_t element = row * kAttentionDropoutStride + position(j);
    const std::uint32_t first = p.dropout.first_sample == nullptr ? 0 : *p.dropout.first_sample;
    const std::int64_t sample = p.sample == nullptr ? sequence : p.sample[sequence];
    const std::uint32_t ordinal = first + static_cast<std::uint32_t>(sample);
    const std::uint32_t keep =
        dropout_keep8(p.dropout, *p.dropout.step, ordinal, static_cast<std::uint32_t>(element / 8));
    return (keep >> (element % 8) & 1u) != 0 ? p.dropout.scale() : 0;
  }
};

void forward_row(const Head<Attention>& head, std::int64_t i) {
  const Attention& p = head.p;
  std::vector<double> probability(static_cast<std::size_t>(head.length));
  const auto probability_of = [&](std::int64_t j) -> double& { return probability[static_cast<std::size_t>(j)]; };
  double max = -std::numeric_limits<double>::infinity(), sum = 0;
  bool any = false;
  for (std::int64_t j = 0; j < head.length; ++j) {
    if (!head.kept(j)) continue;
    any = true;
    probability_of(j) = head.score(i, j);
    max = std::max(max, probability_of(j));
  }
  for (std::int64_t j = 0; j < head.length; ++j) {
    probability_of(j) = head.kept(j) ? std::exp(probability_of(j) - max) : 0;
    sum += probability_of(j);
  }
  for (std::int64_t d = 0; d < p.head_size; ++d) {
    double o = 0;
    for (std::int64_t j = 0; j < head.length; ++j)
      if (head.kept(j))
        o += probability_of(j) / sum * head.dropout_factor(i, j) * load(p.dtype, p.v, head.at(j, p.stride_v, d));
    store(p.dtype, p.o, head.at(i, p.stride_o, d), o);
  }
  store(computed_dtype(p.dtype), p.lse, head.head * p.tokens + head.begin + i, any ? max + std::log(sum) : max);
}

void backward_head(const Head<AttentionBackward>& head) {
  const AttentionBackward& p = head.p;
  const auto size = static_cast<std::size_t>(head.length * p.head_size);
  std::vector<double> dq(size), dk(size), dv(size);
  const auto in = [&](const void* x, std::int64_t place, std::int64_t stride, std::int64_t d) {
    return load(p.dtype, x, head.at(place, stride, d));
  };
  for (std::int64_t i = 0; i < head.length; ++i) {
    const double lse = load(computed_dtype(p.dtype), p.lse, head.head * p.tokens + head.begin + i);
    double row_sum = 0;
    for (std::int64_t d = 0; d < p.head_size; ++d) row_sum += in(p.d_o, i, p.stride_do, d) * in(p.o, i, p.stride_o, d);
    for (std::int64_t j = 0; j < head.length; ++j) {
      if (!head.kept(j)) continue;
      const double probability = std::exp(head.score(i, j) - lse), factor = head.dropout_factor(i, j);
      double dp = 0;
      for (std::int64_t d = 0; d < p.head_size; ++d)
        dp += factor * in(p.d_o, i, p.stride_do, d) * in(p.v, j, p.stride_v, d);
      const double ds = probability * (dp - row_sum);
      for (std::int64_t d = 0; d < p.head_size; ++d) {
        dq[static_cast<std::size_t>(i * p.head_size + d)] += p.scale * ds * in(p.k, j, p.stride_k, d);
        dk[static_cast<std::size_t>(j * p.head_size + d)] += p.scale * ds * in(p.q, i, p.stride_q, d);
        dv[static_cast<std::size_t>(j * p.head_size + d)] += probability * factor * in(p.d_o, i, p.stride_do, d);
      }
    }
  }
  for (std::int64_t i = 0; i < head.length; ++i)
    for (std::int64_t d = 0; d < p.head_size; ++d) {
      const auto from = static_cast<std::size_t>(i * p.head_size + d);
      store(p.dtype, p.dq, head.at(i, p.stride_dq, d), dq[from]);
      store(p.dtype, p.dk, head.at(i, p.stride_dk, d), dk[from]);
      store(p.dtype, p.dv, head.at(i, p.stride_dv, d), dv[from]);
    }
}

Status run_attention(const Attention& p, Stream) {
  if (const Status status = kernels::detail::check_attention_arrays(p); !status.ok()) return status;
  for (std::int64_t b = 0; b < p.sequences; ++b)
    for (std::int64_t a = 0; a < p.heads; ++a) {
      const Head<Attention> head(p, b, a);
      for (std::int64_t i = 0; i < head.length; ++i) forward_row(head, i);
    }
  return {};
}

Status run_attention_backward(const AttentionBackward& p, Stream) {
  if (const Status status = kernels::detail::check_attention_arrays(p); !status.ok()) return status;
  for (std::int64_t b = 0; b < p.sequences; ++b)
    for (std::int64_t a = 0; a < p.heads; ++a) backward_head(Head<AttentionBackward>(p, b, a));
  return {};
}

template <class P>
Status check_ref(const P& p) {
  if (!is_floating(p.dtype)) return unsupported("attention needs a floating dtype");
  return check(p);
}

constexpr Variant attention_variants[] = {{"naive", "the formula", "the oracle", erased_run<Attention, run_attention>}};
constexpr Variant attention_backward_variants[] = {
    {"naive", "the formula", "the oracle", erased_run<AttentionBackward, run_attention_backward>}};

constexpr KernelEntry entries[] = {
    entry<Attention, check_ref<Attention>>(attention_variants),
    entry<AttentionBackward, check_ref<AttentionBackward>>(attention_backward_variants)};

}  // namespace

extern const Family attention_family;
const Family attention_family = family(entries);

}  // namespace sinter::kernels::ref
