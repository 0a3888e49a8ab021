#include "core/ops/dropout.h"

#include "tests/ops/dropout_factors.h"
#include "tests/ops/sample.h"

namespace sinter::testing {

double dropout_factor(double p, std::uint32_t site, std::int64_t sample, std::uint64_t element) {
  const kernels::Dropout16 dropout{.seed = kSeed, .site = site,
                                   .threshold = static_cast<std::uint32_t>(p * 65536 + 0.5)};
  const std::uint32_t keep = kernels::dropout_keep8(dropout, kStep, kFirstSample + static_cast<std::uint32_t>(sample),
                                                    static_cast<std::uint32_t>(element / 8));
  return (keep >> (element % 8) & 1u) != 0 ? 65536.0 / (65536.0 - dropout.threshold) : 0;
}

double row_dropout_factor(double p, std::uint32_t site, const Packing* packing, std::int64_t row, std::int64_t col,
                          std::int64_t cols) {
  const std::int64_t sample = packing == nullptr ? row : packing->sample.data<std::int32_t>()[row];
  const std::int64_t position = packing == nullptr ? 0 : packing->position.data<std::int32_t>()[row];
  return dropout_factor(p, site, sample, static_cast<std::uint64_t>(position * cols + col));
}

void dropout_samples(Samples& samples) {
  const auto add = [&](const char* label, const Shape& shape, double p, std::shared_ptr<const Packing> packing) {
    samples.valid.push_back({.op = "dropout", .label = label, .inputs = {normal(shape, 1)},
                             .call = [=](Inputs in) {
                               const SampleScope scope(kSeed, kStep, kFirstSample);
                               return Tensors{dropout(in[0], p, 9, packing)};
                             },
                             .expected = [=](const std::vector<HostArray>& in) {
                               HostArray out = in[0];
                               const std::int64_t cols = out.size(-1);
                               for (std::size_t i = 0; i < out.values.size(); ++i) {
                                 const auto place = static_cast<std::int64_t>(i);
                                 out.values[i] *= row_dropout_factor(p, 9, packing.get(), place / cols, place % cols,
                                     cols);
                               }
                               return std::vector<HostArray>{out};
                             }});
  };
  add("rows are samples", {4, 13}, 0.3, nullptr);
  add("packed tokens", {6, 11}, 0.5, Packing::packed({3, 1, 2}));
  add("rank 3", {2, 2, 9}, 0.1, nullptr);
  add("empty", {0, 9}, 0.1, nullptr);
  const Tensor x = normal({2, 8}, 2);
  samples.errors.push_back({"dropout: p", [=] { dropout(x, 1.0, 1); },
                            "dropout: the dropout probability is 1, it must lie in [0, 1)"});
  samples.errors.push_back({"dropout: no step", [=] { dropout(x, 0.5, 1); },
                            "dropout with p > 0 in training mode needs to know the step"});
  samples.errors.push_back({"dropout: scalar", [] { dropout(normal({}, 1), 0.5, 1); }, "dropout of a scalar"});
  samples.errors.push_back({"dropout: tokens", [=] { dropout(x, 0.5, 1, Packing::packed({3})); },
                            "one row for each of 3 tokens"});
}

}  // namespace sinter::testing
