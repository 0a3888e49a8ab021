#include "kernels/cuda/cudnn.h"

#include <map>

#include "kernels/cuda/cublaslt.h"
#include "kernels/cuda/vendor_library.h"

#if __has_include(<cudnn.h>)
#include <cudnn.h>
#endif

namespace sinter::kernels::cuda::dnn {
namespace {

/// The first release whose attention takes lengths.
constexpr std::size_t kOldest = 91500;

struct Library {
  Functions functions{};
  std::string why_not;
};

Library load() {
  Library loaded;
  if (*why_no_cublaslt() != '\0') {
    loaded.why_not = std::string("cuDNN needs cuBLASLt, and ") + why_no_cublaslt();
    return loaded;
  }
  void* const library = open_library("libcudnn.so.9", &loaded.why_not);
  if (library == nullptr) return loaded;
  const auto find = [&](auto*& function, const char* name) {
    find_function(library, std::string("cudnn") + name, function, &loaded.why_not);
  };
  Functions& f = loaded.functions;
  find(f.GetVersion, "GetVersion");
  find(f.GetErrorString, "GetErrorString");
  find(f.Create, "Create");
  find(f.SetStream, "SetStream");
  find(f.BackendCreateDescriptor, "BackendCreateDescriptor");
  find(f.BackendDestroyDescriptor, "BackendDestroyDescriptor");
  find(f.BackendSetAttribute, "BackendSetAttribute");
  find(f.BackendGetAttribute, "BackendGetAttribute");
  find(f.BackendFinalize, "BackendFinalize");
  find(f.BackendExecute, "BackendExecute");
  if (loaded.why_not.empty() && f.GetVersion() < kOldest)
    loaded.why_not = "libcudnn.so.9 is of a release before 9.15";
  return loaded;
}

const Library& library() {
  static const Library loaded = load();
  return loaded;
}

const Functions& functions() { return library().functions; }

Answer fill(Descriptor made, const std::vector<Setting>& settings) {
  for (const Setting& s : settings)
    if (const Answer answer = functions().BackendSetAttribute(made, s.attribute, s.type, s.count, s.values);
        answer != kSuccess)
      return answer;
  return functions().BackendFinalize(made);
}

/// All descriptors of an attribute; none where the library does not say.
std::vector<Descriptor> descriptors_of(Descriptor owner, Attribute attribute, DescriptorType type) {
  const Functions& f = functions();
  std::int64_t count = 0;
  if (f.BackendGetAttribute(owner, attribute, kDescriptorType, 0, &count, nullptr) != kSuccess) return {};
  std::vector<Descriptor> all(static_cast<std::size_t>(count));
  for (Descriptor& each : all)
    if (f.BackendCreateDescriptor(type, &each) != kSuccess) return {};
  // Fewer may come than were announced.
  const std::int64_t wanted = count;
  if (f.BackendGetAttribute(owner, attribute, kDescriptorType, wanted, &count, all.data()) != kSuccess) return {};
  all.resize(static_cast<std::size_t>(count));
  return all;
}

template <class T>
bool read(Descriptor owner, Attribute attribute, ElementType type, T* value) {
  std::int64_t count = 0;
  return functions().BackendGetAttribute(owner, attribute, type, 1, &count, value) == kSuccess && count == 1;
}

Descriptor make_choice(Maker& maker, Knob knob, std::int64_t value) {
  return maker.make(kKnobChoice, {{kChoiceKnob, kKnobType, 1, &knob}, {kChoiceValue, kInt64Type, 1, &value}});
}

/// The same engine with the same choices but this one.
Descriptor with_stages(Maker& maker, Descriptor config, std::int64_t stages) {
  const std::vector<Descriptor> engine = descriptors_of(config, kConfigEngine, kEngine);
  std::vector<Descriptor> choices = {make_choice(maker, kStages, stages)};
  for (Descriptor choice : descriptors_of(config, kConfigChoices, kKnobChoice)) {
    Knob knob = kStages;
    std::int64_t value = 0;
    if (!read(choice, kChoiceKnob, kKnobType, &knob) || !read(choice, kChoiceValue, kInt64Type, &value)) return nullptr;
    if (knob != kStages) choices.push_back(make_choice(maker, knob, value));
  }
  if (engine.size() != 1 || !maker.ok()) return nullptr;
  const auto count = static_cast<std::int64_t>(choices.size());
  return maker.make(kEngineConfig, {{kConfigEngine, kDescriptorType, 1, engine.data()},
                                    {kConfigChoices, kDescriptorType, count, choices.data()}});
}

Plan plan_of(const Target& target, Descriptor config) {
  Maker maker;   // a refusal concerns this proposal only
  std::vector<Setting> settings = {{kPlanConfig, kDescriptorType, 1, &config}};
  if (target.handle != nullptr)
    settings.push_back({kPlanHandle, kHandleType, 1, &target.handle});
  else
    settings.push_back({kPlanDevice, kDescriptorType, 1, &target.property});
  Plan made{.plan = maker.make(kPlan, settings)};
  std::int64_t bytes = 0;
  if (made.plan == nullptr || !read(made.plan, kPlanWorkspaceBytes, kInt64Type, &bytes)) return {};
  made.workspace_bytes = static_cast<std::size_t>(bytes);
  return made;
}

}  // namespace

const char* why_no_cudnn() { return library().why_not.c_str(); }

std::size_t version_number() { return library().why_not.empty() ? functions().GetVersion() : 0; }

std::string version() {
  const std::size_t number = version_number();
  return "cuDNN " + std::to_string(number / 10000) + "." + std::to_string(number / 100 % 100) + "." +
         std::to_string(number % 100);
}

Descriptor Maker::make(DescriptorType type, const std::vector<Setting>& settings) {
  if (!ok()) return nullptr;
  Descriptor made = nullptr;
  answer_ = functions().BackendCreateDescriptor(type, &made);
  if (ok()) answer_ = fill(made, settings);
  return ok() ? made : nullptr;
}

Status Maker::status() const {
  if (ok()) return {};
  return {StatusCode::device_error, functions().GetErrorString(answer_)};
}

Descriptor make_tensor(Maker& maker, const Tensor& tensor) {
  std::vector<Setting> settings = {{kTensorDataType, kDataTypeType, 1, &tensor.type},
                                   {kTensorDimensions, kInt64Type, 4, tensor.dims},
                                   {kTensorStrides, kInt64Type, 4, tensor.strides},
                                   {kTensorId, kInt64Type, 1, &tensor.id},
                                   {kTensorAlignment, kInt64Type, 1, &kAlignment}};
  if (tensor.begins != nullptr) settings.push_back({kTensorRaggedOffset, kDescriptorType, 1, &tensor.begins});
  if (tensor.by_value) settings.push_back({kTensorIsByValue, kBooleanType, 1, &tensor.by_value});
  return maker.make(kTensor, settings);
}

Handle handle_of_device() {
  static std::map<int, Handle>& handles = *new std::map<int, Handle>;   // the library may be gone before a destructor
  Handle& handle = handles[current_device()];
  if (handle == nullptr && functions().Create(&handle) != kSuccess) handle = nullptr;
  return handle;
}

Target described_target(Maker& maker, const std::string& json) {
  const auto count = static_cast<std::int64_t>(json.size());
  return {.property = maker.make(kDeviceProperty, {{kDeviceJson, kCharType, count, json.data()}})};
}

Plan make_plan(Maker& maker, const Target& target, Descriptor operation, std::optional<std::int64_t> stages) {
  std::vector<Setting> of_graph = {{kGraphOperations, kDescriptorType, 1, &operation}};
  if (target.handle != nullptr) of_graph.push_back({kGraphHandle, kHandleType, 1, &target.handle});
  Descriptor graph = maker.make(kGraph, of_graph);
  std::vector<Setting> of_heuristic = {{kHeuristicGraph, kDescriptorType, 1, &graph},
                                       {kHeuristicMode, kHeuristicModeType, 1, &kModeA}};
  if (target.handle == nullptr) of_heuristic.push_back({kHeuristicDevice, kDescriptorType, 1, &target.property});
  const Descriptor heuristic = maker.make(kHeuristic, of_heuristic);
  if (!maker.ok()) return {};
  for (Descriptor config : descriptors_of(heuristic, kHeuristicResults, kEngineConfig)) {
    Maker of_config;
    if (stages.has_value()) config = with_stages(of_config, config, *stages);
    if (config == nullptr) continue;
    if (const Plan made = plan_of(target, config); made.plan != nullptr) return made;
  }
  return {};
}

Status execute(const Plan& plan, Handle handle, const Pack& pack, void* workspace, Stream stream) {
  const Functions& f = functions();
  const auto count = static_cast<std::int64_t>(pack.ids.size());
  Descriptor made = nullptr;
  Answer answer = f.SetStream(handle, stream.handle);
  if (answer == kSuccess) answer = f.BackendCreateDescriptor(kVariantPack, &made);
  if (answer == kSuccess)
    answer = fill(made, {{kPackIds, kInt64Type, count, pack.ids.data()},
                         {kPackPointers, kPointerType, count, pack.pointers.data()},
                         {kPackWorkspace, kPointerType, 1, &workspace}});
  if (answer == kSuccess) answer = f.BackendExecute(handle, plan.plan, made);
  if (made != nullptr) static_cast<void>(f.BackendDestroyDescriptor(made));
  if (answer == kSuccess) return {};
  return {StatusCode::device_error, f.GetErrorString(answer)};
}

#if __has_include(<cudnn.h>)
static_assert(sizeof(cudnnStatus_t) == sizeof(Answer) && sizeof(cudnnDataType_t) == sizeof(DataType) &&
              sizeof(cudnnBackendHeurMode_t) == sizeof(HeuristicMode) &&
              sizeof(cudnnBackendKnobType_t) == sizeof(Knob) &&
              sizeof(cudnnBackendDescriptorType_t) == sizeof(DescriptorType) &&
              sizeof(cudnnBackendAttributeName_t) == sizeof(Attribute) &&
              sizeof(cudnnBackendAttributeType_t) == sizeof(ElementType));
static_assert(kSuccess == CUDNN_STATUS_SUCCESS && kF32 == CUDNN_DATA_FLOAT && kF16 == CUDNN_DATA_HALF &&
              kI32 == CUDNN_DATA_INT32 && kBF16 == CUDNN_DATA_BFLOAT16 && kI64 == CUDNN_DATA_INT64 &&
              kModeA == CUDNN_HEUR_MODE_A && kStages == CUDNN_KNOB_TYPE_STAGES);
static_assert(int{kEngine} == CUDNN_BACKEND_ENGINE_DESCRIPTOR &&
              int{kEngineConfig} == CUDNN_BACKEND_ENGINECFG_DESCRIPTOR &&
              int{kHeuristic} == CUDNN_BACKEND_ENGINEHEUR_DESCRIPTOR &&
              int{kPlan} == CUDNN_BACKEND_EXECUTION_PLAN_DESCRIPTOR &&
              int{kKnobChoice} == CUDNN_BACKEND_KNOB_CHOICE_DESCRIPTOR &&
              int{kGraph} == CUDNN_BACKEND_OPERATIONGRAPH_DESCRIPTOR &&
              int{kVariantPack} == CUDNN_BACKEND_VARIANT_PACK_DESCRIPTOR &&
              int{kTensor} == CUDNN_BACKEND_TENSOR_DESCRIPTOR &&
              int{kDeviceProperty} == CUDNN_BACKEND_DEVICEPROP_DESCRIPTOR &&
              int{kSdpaForward} == CUDNN_BACKEND_OPERATION_SDPA_FWD_DESCRIPTOR &&
              int{kSdpaBackward} == CUDNN_BACKEND_OPERATION_SDPA_BWD_DESCRIPTOR);
static_assert(int{kHandleType} == CUDNN_TYPE_HANDLE && int{kDataTypeType} == CUDNN_TYPE_DATA_TYPE &&
              int{kBooleanType} == CUDNN_TYPE_BOOLEAN && int{kInt64Type} == CUDNN_TYPE_INT64 &&
              int{kPointerType} == CUDNN_TYPE_VOID_PTR && int{kHeuristicModeType} == CUDNN_TYPE_HEUR_MODE &&
              int{kKnobType} == CUDNN_TYPE_KNOB_TYPE && int{kDescriptorType} == CUDNN_TYPE_BACKEND_DESCRIPTOR &&
              int{kCharType} == CUDNN_TYPE_CHAR);
static_assert(int{kHeuristicMode} == CUDNN_ATTR_ENGINEHEUR_MODE &&
              int{kHeuristicGraph} == CUDNN_ATTR_ENGINEHEUR_OPERATION_GRAPH &&
              int{kHeuristicResults} == CUDNN_ATTR_ENGINEHEUR_RESULTS &&
              int{kHeuristicDevice} == CUDNN_ATTR_ENGINEHEUR_DEVICEPROP &&
              int{kConfigEngine} == CUDNN_ATTR_ENGINECFG_ENGINE &&
              int{kConfigChoices} == CUDNN_ATTR_ENGINECFG_KNOB_CHOICES &&
              int{kPlanHandle} == CUDNN_ATTR_EXECUTION_PLAN_HANDLE &&
              int{kPlanConfig} == CUDNN_ATTR_EXECUTION_PLAN_ENGINE_CONFIG &&
              int{kPlanWorkspaceBytes} == CUDNN_ATTR_EXECUTION_PLAN_WORKSPACE_SIZE &&
              int{kPlanDevice} == CUDNN_ATTR_EXECUTION_PLAN_DEVICEPROP &&
              int{kChoiceKnob} == CUDNN_ATTR_KNOB_CHOICE_KNOB_TYPE &&
              int{kChoiceValue} == CUDNN_ATTR_KNOB_CHOICE_KNOB_VALUE &&
              int{kGraphHandle} == CUDNN_ATTR_OPERATIONGRAPH_HANDLE &&
              int{kGraphOperations} == CUDNN_ATTR_OPERATIONGRAPH_OPS &&
              int{kTensorAlignment} == CUDNN_ATTR_TENSOR_BYTE_ALIGNMENT &&
              int{kTensorDataType} == CUDNN_ATTR_TENSOR_DATA_TYPE &&
              int{kTensorDimensions} == CUDNN_ATTR_TENSOR_DIMENSIONS &&
              int{kTensorStrides} == CUDNN_ATTR_TENSOR_STRIDES && int{kTensorId} == CUDNN_ATTR_TENSOR_UNIQUE_ID &&
              int{kTensorIsByValue} == CUDNN_ATTR_TENSOR_IS_BY_VALUE &&
              int{kTensorRaggedOffset} == CUDNN_ATTR_TENSOR_RAGGED_OFFSET_DESC &&
              int{kPackIds} == CUDNN_ATTR_VARIANT_PACK_UNIQUE_IDS &&
              int{kPackPointers} == CUDNN_ATTR_VARIANT_PACK_DATA_POINTERS &&
              int{kPackWorkspace} == CUDNN_ATTR_VARIANT_PACK_WORKSPACE &&
              int{kDeviceJson} == CUDNN_ATTR_DEVICEPROP_JSON_REPRESENTATION &&
              int{kForwardQ} == CUDNN_ATTR_OPERATION_SDPA_FWD_QDESC &&
              int{kForwardK} == CUDNN_ATTR_OPERATION_SDPA_FWD_KDESC &&
              int{kForwardV} == CUDNN_ATTR_OPERATION_SDPA_FWD_VDESC &&
              int{kForwardO} == CUDNN_ATTR_OPERATION_SDPA_FWD_ODESC &&
              int{kForwardStats} == CUDNN_ATTR_OPERATION_SDPA_FWD_STATSDESC &&
              int{kForwardScale} == CUDNN_ATTR_OPERATION_SDPA_FWD_SCALEDESC &&
              int{kForwardLengthsQ} == CUDNN_ATTR_OPERATION_SDPA_FWD_SEQ_LEN_QDESC &&
              int{kForwardLengthsKv} == CUDNN_ATTR_OPERATION_SDPA_FWD_SEQ_LEN_KVDESC &&
              int{kBackwardQ} == CUDNN_ATTR_OPERATION_SDPA_BWD_QDESC &&
              int{kBackwardK} == CUDNN_ATTR_OPERATION_SDPA_BWD_KDESC &&
              int{kBackwardV} == CUDNN_ATTR_OPERATION_SDPA_BWD_VDESC &&
              int{kBackwardO} == CUDNN_ATTR_OPERATION_SDPA_BWD_ODESC &&
              int{kBackwardStats} == CUDNN_ATTR_OPERATION_SDPA_BWD_STATSDESC &&
              int{kBackwardScale} == CUDNN_ATTR_OPERATION_SDPA_BWD_SCALEDESC &&
              int{kBackwardLengthsQ} == CUDNN_ATTR_OPERATION_SDPA_BWD_SEQ_LEN_QDESC &&
              int{kBackwardLengthsKv} == CUDNN_ATTR_OPERATION_SDPA_BWD_SEQ_LEN_KVDESC &&
              int{kBackwardDq} == CUDNN_ATTR_OPERATION_SDPA_BWD_DQDESC &&
              int{kBackwardDk} == CUDNN_ATTR_OPERATION_SDPA_BWD_DKDESC &&
              int{kBackwardDv} == CUDNN_ATTR_OPERATION_SDPA_BWD_DVDESC &&
              int{kBackwardDo} == CUDNN_ATTR_OPERATION_SDPA_BWD_DODDESC);
#endif

}  // namespace sinter::kernels::cuda::dnn
