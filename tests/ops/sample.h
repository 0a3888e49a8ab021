// One way to call an op, as data: the generic tests of generic_test.cpp walk over all of them.
//
// A family's samples stand in tests/ops/<family>.cpp under the name of its file in core/ops, in one function
// `void <family>_samples(Samples&)`, and one word in SINTER_SAMPLE_FAMILIES. The first sample of an op calls it with
// its inputs unchanged (so that the op's cost can be asked with them).
#pragma once

#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "core/random.h"
#include "core/tensor.h"
#include "tests/ops/host_array.h"

namespace sinter::testing {

using TensorCall = std::function<Tensors(Inputs)>;

struct Sample {
  std::string op;      ///< OpRow::name
  std::string label;   ///< what is special about it
  Tensors inputs;      ///< f64 (the generic tests cast them), and index or condition tensors of their own dtype
  TensorCall call;
  /// The outputs by plain loops over host values; inputs are f64.
  std::function<std::vector<HostArray>(const std::vector<HostArray>&)> expected;

  /// Numbers added up in the longest sum of the forward or the backward: what the tolerances are derived from.
  double terms = 1;
  /// Dtypes beyond f32 and f64 that the op serves; the f64 inputs are cast to them, outputs must equal `expected`
  /// exactly.
  std::vector<Dtype> more_dtypes = {};
  /// Not empty: why backward is not compared with finite differences (a kink, for instance).
  std::string no_gradcheck = "";
  /// False where the layout of an input may choose another order of summation (a GEMM that reads a transposed operand).
  bool layout_keeps_bits = true;

  std::string name() const { return op + " (" + label + ")"; }
};

/// The step that a sample's dropout is in, unless the test that calls it has opened another.
class SampleScope {
 public:
  SampleScope(std::uint64_t seed, std::uint32_t global_step, std::uint32_t first_sample) {
    if (!StepScope::active()) own_.emplace(seed, global_step, first_sample);
  }

 private:
  std::optional<StepScope> own_;
};

/// A call that must be refused with a usage or unsupported Error whose sentence contains `says`.
struct ErrorSample {
  std::string label;
  std::function<void()> call;
  std::string says;
};

struct Samples {
  std::vector<Sample> valid;
  std::vector<ErrorSample> errors;
};

#define SINTER_SAMPLE_FAMILIES(X)                                                                        \
  X(elementwise) X(copy) X(shape) X(reduce) X(gather) X(matmul) X(softmax) X(layer_norm) X(gelu) X(dropout) \
  X(embedding) X(attention) X(cross_entropy)

#define SINTER_DECLARE_SAMPLES(family) void family##_samples(Samples& samples);
SINTER_SAMPLE_FAMILIES(SINTER_DECLARE_SAMPLES)
#undef SINTER_DECLARE_SAMPLES

/// Every sample of every family.
const Samples& all_samples();

/// Normal f64 values, the same for the same site.
Tensor normal(const Shape& shape, std::uint32_t site, double mean = 0, double stddev = 1);
/// Uniform f64 values in [low, high).
Tensor uniform(const Shape& shape, double low, double high, std::uint32_t site);
/// An i64 tensor.
Tensor indices(std::initializer_list<std::int64_t> values);
Tensor indices(std::initializer_list<std::int64_t> values, const Shape& shape);
/// A boolean tensor.
Tensor booleans(std::initializer_list<int> values, const Shape& shape);

}  // namespace sinter::testing
