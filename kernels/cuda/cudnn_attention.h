// Attention by cuDNN, which is loaded at run time: where it is not installed, or has no kernel for a problem, by_rows
// of attention.cu takes it.
//
// It is one operation of a cuDNN graph, forward or backward, over the packed batch with a table of the sequences'
// beginnings and lengths (kernels/cuda/ragged.h). lse is the natural logarithm, as everywhere; either pass may follow
// one of another variant.
//
// A plan is compiled once for each device, dtype, heads, strides and class of lengths and kept: sequences are rounded
// up by at most a quarter, max_length to a multiple of 128, and what is added is empty. So a run repeats bit for bit on
// the same GPU with the same release; a row's bits may depend on the class. The backward is asked for with sums in a
// fixed order (cuDNN's own default adds to dQ in any order), which cuDNN has for compute capability 9.x only: see
// dnn::kStages.
#pragma once

#include <cstddef>
#include <string>

#include "kernels/attention.h"

namespace sinter::kernels::cuda {

/// True where cuDNN is there and has a plan for these params, given their pointers' alignment: f16 or bf16, heads of a
/// multiple of 8 up to 256, no dropout, no key_mask; pointers and token strides multiples of 16 bytes. The first
/// question for a class of problems compiles its plan (about half a second), later ones ask a map: it must not be asked
/// while a stream is captured.
bool cudnn_takes(const Attention& p);
bool cudnn_takes(const AttentionBackward& p);

/// What the functions below use of params.workspace, wherever the pointers of `p` point: tables, statistics and what
/// the plan asks for. 0 where cuDNN does not take params of this kind.
std::size_t cudnn_workspace(const Attention& p);
std::size_t cudnn_workspace(const AttentionBackward& p);

/// `unsupported` where cudnn_takes is false.
Status attend_by_cudnn(const Attention& p, Stream stream);
Status differentiate_by_cudnn(const AttentionBackward& p, Stream stream);

/// Whom the variant serves.
enum class Serves {
  selection,   ///< it is selected for more than 128 tokens where no variant on tensor cores takes the params, and
               ///< refuses everything else
  referee      ///< selected in the same way; also runs where others are selected and max_length is 128 or more, and
               ///< `workspace` has room for it
};

/// The row `own` of attention or attention_backward with one more variant, "cudnn". Called once for each row and
/// `serves`.
KernelEntry with_cudnn(const KernelEntry& own, Serves serves);

/// What cuDNN would do on a GPU that `json` describes in its own words, which needs none: `workspace` is that of the
/// compiled plan, without ours.
Status plan_on_described_gpu(const std::string& json, const Attention& p, std::size_t* workspace);
Status plan_on_described_gpu(const std::string& json, const AttentionBackward& p, std::size_t* workspace);

}  // namespace sinter::kernels::cuda
