// Activation checkpointing: memory for time.
#pragma once

#include <functional>

#include "core/tensor.h"

namespace sinter::autograd {

/// Runs fn(inputs) without keeping its intermediate tensors, and runs it once more during backward to have them. fn
/// must be a function of its inputs and of parameters alone; dropout repeats itself, because its masks are functions of
/// the step (StepScope). Gradients of parameters used inside are accumulated as usual; the bits are those of the plain
/// run unless two checkpoints share a parameter, whose contributions are then summed in another order.
Tensor checkpoint(const std::function<Tensor(Inputs)>& fn, const Tensors& inputs);

}  // namespace sinter::autograd
