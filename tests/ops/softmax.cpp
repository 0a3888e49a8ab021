#include "core/ops/softmax.h"

#include <cmath>

#include "tests/ops/sample.h"

namespace sinter::testing {
namespace {

using Arrays = std::vector<HostArray>;

Arrays normalised(const Arrays& in, int d, bool log) {
  const HostArray& x = in[0];
  return {make_array(x.shape, [&](const Shape& i) {
    double total = 0, largest = -1e300;
    Shape place = i;
    for (place[d] = 0; place[d] < x.size(d); ++place[d]) largest = std::max(largest, x.at(place));
    for (place[d] = 0; place[d] < x.size(d); ++place[d]) total += std::exp(x.at(place) - largest);
    return log ? x.at(i) - largest - std::log(total) : std::exp(x.at(i) - largest) / total;
  })};
}

void add(Samples& samples, const char* label, const Tensor& x, int d) {
  const int from_front = d < 0 ? d + x.rank() : d;
  samples.valid.push_back({.op = "softmax", .label = label, .inputs = {x},
                           .call = [d](Inputs in) { return Tensors{softmax(in[0], d)}; },
                           .expected = [=](const Arrays& in) { return normalised(in, from_front, false); },
                               .terms = 40});
  samples.valid.push_back({.op = "log_softmax", .label = label, .inputs = {x},
                           .call = [d](Inputs in) { return Tensors{log_softmax(in[0], d)}; },
                           .expected = [=](const Arrays& in) { return normalised(in, from_front, true); },
                               .terms = 40});
}

}  // namespace

void softmax_samples(Samples& samples) {
  add(samples, "last dimension", normal({3, 7}, 1), -1);
  add(samples, "first dimension", normal({4, 3, 2}, 2), 0);
  add(samples, "large values", normal({2, 33}, 3, 500, 2), -1);
  add(samples, "one class", normal({3, 1}, 4), -1);
  add(samples, "vector", normal({5}, 5), 0);
  add(samples, "no rows", normal({0, 4}, 6), -1);
  samples.errors.push_back({"softmax: dimension", [] { softmax(normal({2, 3}, 1), 2); },
                            "dimension 2 is out of range"});
  samples.errors.push_back({"softmax: f16", [] { softmax(normal({2, 3}, 1).to(Dtype::f16)); },
                            "softmax: softmax on the CPU computes in f32 and f64"});
}

}  // namespace sinter::testing
