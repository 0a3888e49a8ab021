// cuDNN's graphs, as far as kernels/cuda/cudnn_attention.cpp needs them. The library is loaded at run time.
//
// A graph is made of descriptors: tensors, an operation, the graph, what a heuristic proposes for it, and a plan, which
// cuDNN compiles (about half a second). A plan is executed with a variant pack: the tensors' pointers and a workspace.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "kernels/base/status.h"
#include "kernels/base/stream.h"
#include "kernels/cuda/cudnn_abi.h"

namespace sinter::kernels::cuda::dnn {

/// "" where the library can be used, else half a sentence: "there is no libcudnn.so.9". It needs cuBLASLt: without it
/// cuDNN would end the process.
const char* why_no_cudnn();

/// 92801 for 9.28.1; 0 without the library.
std::size_t version_number();
/// "cuDNN 9.28.1"
std::string version();

/// Attributes of a descriptor. `values` must live until it is made.
struct Setting {
  Attribute attribute;
  ElementType type;
  std::int64_t count;
  const void* values;
};

/// Makes descriptors, until the first answer that is no success. What was made is never destroyed: plans refer to it,
/// and live until the process ends.
class Maker {
 public:
  /// Null after an answer that is no success.
  Descriptor make(DescriptorType type, const std::vector<Setting>& settings);

  bool ok() const { return answer_ == kSuccess; }
  Status status() const;

 private:
  Answer answer_ = kSuccess;
};

struct Tensor {
  std::int64_t id;                   ///< what the variant pack calls it
  DataType type;
  std::int64_t dims[4], strides[4];
  Descriptor begins = nullptr;       ///< ragged: a tensor with the element that each first index begins at, and the end
  bool by_value = false;             ///< one element in host memory, read when the plan is executed
};
/// Pointers of tensors must be multiples of 16.
inline constexpr std::int64_t kAlignment = 16;
Descriptor make_tensor(Maker& maker, const Tensor& tensor);

/// What a plan is made for: a GPU; or one that a text in JSON describes, to learn what cuDNN would do there. One of
/// them is null.
struct Target {
  Handle handle = nullptr;
  Descriptor property = nullptr;
};

/// The current device's handle, made by its first call; null where cuDNN has none. Not for several threads at a time.
Handle handle_of_device();
Target described_target(Maker& maker, const std::string& json);

struct Plan {
  Descriptor plan = nullptr;         ///< null: there is none
  std::size_t workspace_bytes = 0;
};

/// The heuristic's first proposal for this operation that cuDNN can compile; with `stages`, the first that compiles
/// with this value of the knob kStages.
Plan make_plan(Maker& maker, const Target& target, Descriptor operation, std::optional<std::int64_t> stages);

/// The pointers of tensors by their ids, in device memory but those by value.
struct Pack {
  std::vector<std::int64_t> ids;
  std::vector<const void*> pointers;

  void add(std::int64_t id, const void* pointer) {
    ids.push_back(id);
    pointers.push_back(pointer);
  }
};
Status execute(const Plan& plan, Handle handle, const Pack& pack, void* workspace, Stream stream);

}  // namespace sinter::kernels::cuda::dnn
