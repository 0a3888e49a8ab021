#include "core/ops/cross_entropy.h"

#include <cmath>

#include "tests/ops/sample.h"

namespace sinter::testing {
namespace {

using Arrays = std::vector<HostArray>;

void add(Samples& samples, const char* label, const Tensor& logits, const Tensor& labels, CrossEntropyOptions options) {
  samples.valid.push_back(
      {.op = "cross_entropy", .label = label, .inputs = {logits, labels},
       .call = [=](Inputs in) { return Tensors{cross_entropy(in[0], in[1], options)}; },
       .expected = [=](const Arrays& in) {
         const std::int64_t classes = in[0].size(1);
         HostArray losses(in[1].shape);
         double total = 0, counted = 0;
         for (std::int64_t i = 0; i < in[0].size(0); ++i) {
           const auto label_of = static_cast<std::int64_t>(in[1].at({i}));
           if (label_of == options.ignore_index) continue;
           double sum = 0, mean = 0;
           for (std::int64_t c = 0; c < classes; ++c) sum += std::exp(in[0].at({i, c}));
           for (std::int64_t c = 0; c < classes;
                ++c) mean += (std::log(sum) - in[0].at({i, c})) / static_cast<double>(classes);
           losses.at({i}) = (1 - options.label_smoothing) * (std::log(sum) - in[0].at({i, label_of})) +
               options.label_smoothing * mean;
           total += losses.at({i});
           counted += 1;
         }
         if (options.reduction == Reduction::none) return Arrays{losses};
         const double result = options.reduction == Reduction::sum ? total : total / counted;
         return Arrays{make_array({}, [&](const Shape&) { return result; })};
       },
       .terms = 40});
}

}  // namespace

void cross_entropy_samples(Samples& samples) {
  const Tensor logits = normal({4, 3}, 1, 0, 2), labels = indices({2, 0, 1, 1}), ignored = indices({2, -100, 1, -100});
  add(samples, "one loss a row", logits, labels, {.reduction = Reduction::none});
  add(samples, "mean", logits, labels, {});
  add(samples, "mean with ignored rows", logits, ignored, {});
  add(samples, "sum with smoothing", normal({3, 33}, 2), indices({32, 5, 0}),
      {.reduction = Reduction::sum, .label_smoothing = 0.1});
  add(samples, "own ignore_index, smoothing", logits, indices({0, 1, 2, 0}),
      {.reduction = Reduction::none, .ignore_index = 1, .label_smoothing = 0.3});
  add(samples, "no rows", normal({0, 3}, 3), Tensor::empty({0}, {Dtype::i64}), {.reduction = Reduction::sum});
  samples.errors.push_back({"cross_entropy: label", [=] { cross_entropy(logits, indices({0, 3, 0, 0})); },
                            "cross_entropy: label 1 is 3, it must lie between 0 and 2"});
  samples.errors.push_back({"cross_entropy: negative label", [=] { cross_entropy(logits, indices({0, 0, -1, 0})); },
                            "cross_entropy: label 2 is -1, it must lie between 0 and 2"});
  samples.errors.push_back({"cross_entropy: smoothing",
                            [=] { cross_entropy(logits, labels, {.label_smoothing = 1.5}); },
                            "cross_entropy: label_smoothing is 1.5, it must lie in [0, 1]"});
  samples.errors.push_back({"cross_entropy: rows", [=] { cross_entropy(logits, indices({0, 1})); },
                            "cross_entropy: labels is [2], it must be [4]"});
  samples.errors.push_back({"cross_entropy: rank", [=] { cross_entropy(normal({3}, 1), labels); },
                            "they must be [N, C]"});
  samples.errors.push_back({"cross_entropy: dtype", [=] { cross_entropy(logits, labels.to(Dtype::i32)); },
                            "labels is i32, it must be i64"});
}

}  // namespace sinter::testing
