// The tensors of any module as a safetensors file.
#pragma once

#include <filesystem>

#include "core/io/files.h"
#include "nn/module.h"

namespace sinter::train {

/// Parameters and buffers by their names, with the metadata that HF's tools ask for. A tied weight is written under
/// its first name.
void write_weights(const nn::Module& module, OutputFile& out);

/// Fills the module from what write_weights wrote. Error(bad_input), naming the tensor, when the file has one too many
/// or too few, or one of another shape or dtype.
void read_weights(nn::Module& module, const std::filesystem::path& file);

/// Error(diverged) that names the first tensor of the module that holds inf or NaN.
void check_finite(const nn::Module& module);

}  // namespace sinter::train
