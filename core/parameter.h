// A named trainable tensor.
#pragma once

#include <string>
#include <vector>

#include "core/tensor.h"

namespace sinter {

/// The handle shares the tensor with its module: writing to it writes to the model.
struct Parameter {
  std::string name;   ///< path from the root module: "bert.encoder.layer.0.output.dense.weight"
  Tensor tensor;
};

using ParameterList = std::vector<Parameter>;

}  // namespace sinter
