// Running a sample forward and backward, and comparing what comes out.
#pragma once

#include <gtest/gtest.h>

#include <string>

#include "core/autograd/node.h"
#include "core/op.h"
#include "tests/ops/sample.h"

namespace sinter::testing {

/// Outputs (detached) of one run, and one gradient for each input: undefined for inputs that are not floating.
struct SampleRun {
  Tensors outputs;
  Tensors gradients;
};

/// The sample's inputs as fresh leaves: floating ones cast to `dtype`, and requiring grad where `with_grad`.
Tensors leaves_of(const Sample& sample, Dtype dtype, bool with_grad);

/// Detached copies of `inputs`' handles as leaves of the same layout.
Tensors as_leaves(Inputs inputs);

/// Moves the leaves into flat buffers, whose gradients are declared old and hold NaN: whatever is left of it shows.
void adopt(const Tensors& leaves);

/// Random cotangents of the outputs that require grad, the same for every run of a sample.
Tensors cotangents_of(const Tensors& outputs);

/// Forward and, where the outputs require grad, backward with fixed random cotangents.
SampleRun run_sample(const Sample& sample, const Tensors& leaves);

/// The same with the backward itself recorded. Through grad(): a recorded gradient kept in a leaf's grad would hold the
/// graph that holds the leaf, and neither would ever be freed.
SampleRun run_recorded(const Sample& sample, const Tensors& leaves);

/// True when an output depends on an input through the graph.
bool differentiable(const Sample& sample);

/// The node of `op` that stands nearest to the result; null where none was recorded.
std::shared_ptr<autograd::Node> node_of(const Tensor& output, const std::string& op);

bool same_bits(const Tensor& a, const Tensor& b);
void expect_same_bits(const SampleRun& a, const SampleRun& b, const std::string& what);

/// |a - b| <= tolerance * max(1, largest |b|) for every element; NaN equals NaN.
void expect_close(const HostArray& a, const HostArray& b, double tolerance, const std::string& what);
void expect_close(const SampleRun& a, const SampleRun& b, double tolerance, const std::string& what);

/// Rounding of `terms` additions and of about eight other operations, in units of the dtype.
double tolerance(const Sample& sample, Dtype dtype);

}  // namespace sinter::testing
