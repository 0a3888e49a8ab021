// Which parameters weight decay touches.
#pragma once

#include <string>
#include <vector>

#include "optim/optimizer.h"

namespace sinter::optim {

/// HF's two groups: weights decay; biases and everything of a LayerNorm (a path component that contains "LayerNorm" or
/// is a norm) do not. Parameters that do not require grad are left out.
std::vector<ParameterGroup> decay_groups(const ParameterList& parameters, double weight_decay);

/// True when weight decay touches the parameter of this name.
bool is_decayed(const std::string& name);

}  // namespace sinter::optim
