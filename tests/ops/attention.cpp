#include "core/ops/attention.h"

#include <cmath>

#include "tests/ops/dropout_factors.h"
#include "tests/ops/sample.h"

namespace sinter::testing {
namespace {

using Arrays = std::vector<HostArray>;

/// softmax(q k^T / sqrt(D)) with dropout, times v, straight from the formula.
HostArray attend(const Arrays& in, const Packing& packing, std::int64_t heads, double p, std::uint32_t site) {
  const std::int64_t head_size = in[0].size(1) / heads;
  const std::int32_t* offsets = packing.offsets.data<std::int32_t>();
  HostArray out(in[0].shape);
  for (std::int64_t b = 0; b < packing.sequences; ++b)
    for (std::int64_t a = 0; a < heads; ++a)
      for (std::int64_t i = offsets[b]; i < offsets[b + 1]; ++i) {
        std::vector<double> weights;
        double total = 0;
        for (std::int64_t j = offsets[b]; j < offsets[b + 1]; ++j) {
          double score = 0;
          for (std::int64_t d = a * head_size; d < (a + 1) * head_size;
               ++d) score += in[0].at({i, d}) * in[1].at({j, d});
          const bool kept = !packing.key_mask.defined() || packing.key_mask.data<std::uint8_t>()[j] != 0;
          weights.push_back(kept ? std::exp(score / std::sqrt(static_cast<double>(head_size))) : 0);
          total += weights.back();
        }
        for (std::int64_t j = offsets[b]; j < offsets[b + 1]; ++j) {
          const std::uint64_t head_row = static_cast<std::uint64_t>(a) * 4096 +
              static_cast<std::uint64_t>(i - offsets[b]);
          const std::uint64_t element = head_row * 4096 + static_cast<std::uint64_t>(j - offsets[b]);
          const double factor = p > 0 ? dropout_factor(p, site, b, element) : 1;
          const double weight = total > 0 ? weights[static_cast<std::size_t>(j - offsets[b])] / total * factor : 0;
          for (std::int64_t d = a * head_size; d < (a + 1) * head_size;
               ++d) out.at({i, d}) += weight * in[2].at({j, d});
        }
      }
  return out;
}

void add(Samples& samples, const char* label, std::shared_ptr<const Packing> packing, std::int64_t heads,
         std::int64_t head_size, double p) {
  const Shape shape{packing->tokens, heads * head_size};
  samples.valid.push_back({.op = "attention", .label = label,
                           .inputs = {normal(shape, 1), normal(shape, 2), normal(shape, 3)},
                           .call = [=](Inputs in) {
                             const SampleScope scope(kSeed, kStep, kFirstSample);
                             return Tensors{attention(in[0], in[1], in[2], packing, heads, p, 4)};
                           },
                           .expected = [=](const Arrays& in) { return Arrays{attend(in, *packing, heads, p, 4)}; },
                               .terms = 40});
}

}  // namespace

void attention_samples(Samples& samples) {
  add(samples, "packed", Packing::packed({3, 1, 4}), 2, 3, 0);
  add(samples, "packed, dropout", Packing::packed({5, 2}), 2, 4, 0.3);
  add(samples, "one long sequence", Packing::packed({18}), 1, 5, 0);
  add(samples, "an empty sequence", Packing::packed({2, 0, 3}), 1, 4, 0.2);
  add(samples, "padded", Packing::padded(indices({1, 1, 1, 1, 1, 0, 0, 0}, {2, 4})), 2, 2, 0);
  add(samples, "padded, dropout, holes", Packing::padded(indices({1, 0, 1, 0, 1, 1}, {2, 3})), 1, 4, 0.4);
  add(samples, "a sequence without keys", Packing::padded(indices({1, 1, 0, 0}, {2, 2})), 1, 3, 0);
  add(samples, "no sequence", Packing::packed({}), 2, 2, 0);
  // q, k, v as slices of one buffer, as a fused projection gives them.
  const std::shared_ptr<const Packing> packing = Packing::packed({3, 2});
  samples.valid.push_back({.op = "attention", .label = "slices of one buffer", .inputs = {normal({5, 12}, 5)},
                           .call = [=](Inputs in) {
                             const auto part = [&](int i) { return in[0].narrow(1, 4 * i, 4); };
                             return Tensors{attention(part(0), part(1), part(2), packing, 2, 0, 4)};
                           },
                           .expected = [=](const Arrays& in) {
                             Arrays parts;
                             for (std::int64_t i = 0; i < 3; ++i)
                               parts.push_back(make_array({5, 4},
                                                          [&](const Shape& at) {
                                                            return in[0].at({at[0], at[1] + 4 * i});
                                                          }));
                             return Arrays{attend(parts, *packing, 2, 0, 4)};
                           },
                           .terms = 40});
  const Tensor x = normal({5, 4}, 6);
  samples.errors.push_back({"attention: no packing", [=] { attention(x, x, x, nullptr, 2, 0, 1); },
                            "attention needs a Packing"});
  samples.errors.push_back({"attention: heads", [=] { attention(x, x, x, packing, 3, 0, 1); },
                            "H divisible by 3 heads"});
  samples.errors.push_back({"attention: tokens", [=] { attention(x, x, x, Packing::packed({4}), 2, 0, 1); },
                            "attention: q has 5 rows, the sequences have 4 tokens"});
  samples.errors.push_back({"attention: k", [=] { attention(x, normal({4, 4}, 1), x, packing, 2, 0, 1); },
                            "attention: k is [4, 4], it must be [5, 4]"});
  samples.errors.push_back({"attention: p", [=] { attention(x, x, x, packing, 2, -0.1, 1); },
                            "the dropout probability is -0.1"});
}

}  // namespace sinter::testing
