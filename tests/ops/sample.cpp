#include "tests/ops/sample.h"

#include "core/random.h"

namespace sinter::testing {

const Samples& all_samples() {
  static const Samples& samples = *[] {
    auto* made = new Samples();
#define SINTER_ADD_SAMPLES(family) family##_samples(*made);
    SINTER_SAMPLE_FAMILIES(SINTER_ADD_SAMPLES)
#undef SINTER_ADD_SAMPLES
    return made;
  }();
  return samples;
}

Tensor normal(const Shape& shape, std::uint32_t site, double mean, double stddev) {
  Tensor x = Tensor::empty(shape, {Dtype::f64});
  normal_(x, mean, stddev, 11, site);
  return x;
}

Tensor uniform(const Shape& shape, double low, double high, std::uint32_t site) {
  Tensor x = Tensor::empty(shape, {Dtype::f64});
  uniform_(x, low, high, 12, site);
  return x;
}

Tensor indices(std::initializer_list<std::int64_t> values) { return Tensor::from(values); }
Tensor indices(std::initializer_list<std::int64_t> values, const Shape& shape) {
  return Tensor::from(std::vector<std::int64_t>(values), shape);
}
Tensor booleans(std::initializer_list<int> values, const Shape& shape) {
  std::vector<std::uint8_t> bytes;
  for (const int value : values) bytes.push_back(static_cast<std::uint8_t>(value));
  return Tensor::from(bytes, shape).to(Dtype::boolean);
}

}  // namespace sinter::testing
