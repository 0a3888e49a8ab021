// The part of cuDNN's C interface (the "backend" of its graphs) that sinter calls. The library is loaded at run time
// and its headers are not needed to build; where they are at hand, cudnn.cpp compares the numbers here with them.
#pragma once

#include <cstddef>
#include <cstdint>

namespace sinter::kernels::cuda::dnn {

using Answer = int;                    ///< cudnnStatus_t; 0 is success
inline constexpr Answer kSuccess = 0;

using Handle = void*;
using Descriptor = void*;              ///< its attributes may be set until it is finalized, and read from then on

enum DescriptorType : int {
  kEngine = 2, kEngineConfig = 3, kHeuristic = 4, kPlan = 5, kKnobChoice = 7, kGraph = 15, kVariantPack = 16,
  kTensor = 17, kDeviceProperty = 38, kSdpaForward = 41, kSdpaBackward = 43
};

/// What an attribute's elements are.
enum ElementType : int {
  kHandleType = 0, kDataTypeType = 1, kBooleanType = 2, kInt64Type = 3, kPointerType = 6, kHeuristicModeType = 8,
  kKnobType = 9, kDescriptorType = 15, kCharType = 24
};

enum Attribute : int {
  kHeuristicMode = 200, kHeuristicGraph = 201, kHeuristicResults = 202, kHeuristicDevice = 204,
  kConfigEngine = 300, kConfigChoices = 302,
  kPlanHandle = 400, kPlanConfig = 401, kPlanWorkspaceBytes = 402, kPlanDevice = 407,
  kChoiceKnob = 600, kChoiceValue = 601,
  kGraphHandle = 800, kGraphOperations = 801,
  kTensorAlignment = 900, kTensorDataType = 901, kTensorDimensions = 902, kTensorStrides = 903, kTensorId = 906,
  kTensorIsByValue = 908, kTensorRaggedOffset = 913,
  kPackIds = 1000, kPackPointers = 1001, kPackWorkspace = 1003,
  kDeviceJson = 2702,
  kForwardQ = 2800, kForwardK = 2801, kForwardV = 2802, kForwardO = 2803, kForwardStats = 2804, kForwardScale = 2805,
  kForwardLengthsQ = 2809, kForwardLengthsKv = 2810,
  kBackwardQ = 2851, kBackwardK = 2852, kBackwardV = 2853, kBackwardO = 2854, kBackwardStats = 2855,
  kBackwardScale = 2856, kBackwardLengthsQ = 2857, kBackwardLengthsKv = 2858, kBackwardDq = 2859, kBackwardDk = 2860,
  kBackwardDv = 2861, kBackwardDo = 2862
};

using DataType = std::int32_t;         ///< cudnnDataType_t
inline constexpr DataType kF32 = 0, kF16 = 2, kI32 = 4, kBF16 = 9, kI64 = 10;

using HeuristicMode = std::int32_t;
inline constexpr HeuristicMode kModeA = 3;

using Knob = std::int32_t;
/// The number of a kernel's pipeline stages: NVIDIA documents no more. That with 4 the blocks of compute capability 9.x
/// add their parts of dQ in a fixed order is believed from the disassembly, and not yet seen on a GPU.
inline constexpr Knob kStages = 14;

/// The functions, by the names behind "cudnn".
struct Functions {
  std::size_t (*GetVersion)();
  const char* (*GetErrorString)(Answer);
  Answer (*Create)(Handle*);
  Answer (*SetStream)(Handle, void* stream);
  Answer (*BackendCreateDescriptor)(DescriptorType, Descriptor*);
  Answer (*BackendDestroyDescriptor)(Descriptor);
  Answer (*BackendSetAttribute)(Descriptor, Attribute, ElementType, std::int64_t count, const void* elements);
  /// Writes at most `wanted` elements, which may be 0; `count` is how many there are. Elements that are descriptors
  /// must have been created.
  Answer (*BackendGetAttribute)(Descriptor, Attribute, ElementType, std::int64_t wanted, std::int64_t* count,
                                void* elements);
  Answer (*BackendFinalize)(Descriptor);
  Answer (*BackendExecute)(Handle, Descriptor plan, Descriptor variant_pack);
};

}  // namespace sinter::kernels::cuda::dnn
