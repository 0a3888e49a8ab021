// A libcudnn that computes attention on the host: what kernels/cuda/cudnn*.cpp ask of the real one is so tested without
// a GPU. It is written from the library's documentation, and strict: an attribute of another element type, a descriptor
// that is used before it is finalized or changed after it, a tensor that does not fit its operation, a pointer that is
// less aligned than promised and a backward whose sums have no order are refused.
//
// Two engines: number 9 cannot compile heads of 24, and comes first; number 8 has no ordered sums. Neither compiles
// heads of 48. Numbers of heads stand for what else may happen: there is no engine for 13 of them, number 8 comes first
// for 7 of them, and 11 of them fail when they are executed.
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <map>
#include <utility>
#include <vector>

#include "kernels/base/dtype.h"
#include "kernels/cuda/cudnn_abi.h"

namespace {

namespace dnn = sinter::kernels::cuda::dnn;
using namespace sinter::kernels;

constexpr dnn::Answer kBadParam = 2000, kNotSupported = 3000, kExecutionFailed = 5000;

int compiled_plans = 0;
void* last_stream = nullptr;

struct Values {
  dnn::ElementType type;
  std::int64_t count;
  std::vector<std::byte> bytes;
};

struct Desc {
  dnn::DescriptorType type;
  bool finalized = false;
  std::map<dnn::Attribute, Values> attributes;
  int engine = 0;                           ///< kEngine, kEngineConfig
  std::size_t workspace = 0;                ///< kPlan

  bool has(dnn::Attribute a) const { return attributes.contains(a); }
  template <class T>
  T get(dnn::Attribute a, std::size_t i = 0) const {
    T value;
    std::memcpy(&value, attributes.at(a).bytes.data() + i * sizeof(T), sizeof(T));
    return value;
  }
  Desc* desc(dnn::Attribute a, std::size_t i = 0) const { return get<Desc*>(a, i); }
};

std::size_t size_of(dnn::ElementType type) {
  switch (type) {
    case dnn::kBooleanType:
    case dnn::kCharType: return 1;
    case dnn::kDataTypeType:
    case dnn::kHeuristicModeType:
    case dnn::kKnobType: return 4;
    default: return 8;
  }
}

/// The element type of each attribute but the descriptors'.
dnn::ElementType type_of(dnn::Attribute a) {
  switch (a) {
    case dnn::kHeuristicMode: return dnn::kHeuristicModeType;
    case dnn::kPlanHandle:
    case dnn::kGraphHandle: return dnn::kHandleType;
    case dnn::kChoiceKnob: return dnn::kKnobType;
    case dnn::kTensorDataType: return dnn::kDataTypeType;
    case dnn::kTensorIsByValue: return dnn::kBooleanType;
    case dnn::kPackPointers:
    case dnn::kPackWorkspace: return dnn::kPointerType;
    case dnn::kDeviceJson: return dnn::kCharType;
    case dnn::kPlanWorkspaceBytes:
    case dnn::kChoiceValue:
    case dnn::kTensorAlignment:
    case dnn::kTensorDimensions:
    case dnn::kTensorStrides:
    case dnn::kTensorId:
    case dnn::kPackIds: return dnn::kInt64Type;
    default: return dnn::kDescriptorType;
  }
}

// --- What a descriptor must be when it is finalized ---

struct Pass {
  dnn::Attribute q, k, v, o, stats, scale, lengths_q, lengths_kv;
};
constexpr Pass kForward = {dnn::kForwardQ, dnn::kForwardK, dnn::kForwardV, dnn::kForwardO, dnn::kForwardStats,
                           dnn::kForwardScale, dnn::kForwardLengthsQ, dnn::kForwardLengthsKv};
constexpr Pass kBackward = {dnn::kBackwardQ, dnn::kBackwardK, dnn::kBackwardV, dnn::kBackwardO, dnn::kBackwardStats,
                            dnn::kBackwardScale, dnn::kBackwardLengthsQ, dnn::kBackwardLengthsKv};

std::int64_t dim(const Desc& tensor, std::size_t i) { return tensor.get<std::int64_t>(dnn::kTensorDimensions, i); }
std::int64_t stride(const Desc& tensor, std::size_t i) { return tensor.get<std::int64_t>(dnn::kTensorStrides, i); }
dnn::DataType data_type(const Desc& tensor) { return tensor.get<dnn::DataType>(dnn::kTensorDataType); }

bool has_dims(const Desc& tensor, std::int64_t a, std::int64_t b, std::int64_t c, std::int64_t d) {
  return dim(tensor, 0) == a && dim(tensor, 1) == b && dim(tensor, 2) == c && dim(tensor, 3) == d;
}

bool is_tensor(const Desc& t) {
  for (const dnn::Attribute a : {dnn::kTensorDataType, dnn::kTensorDimensions, dnn::kTensorStrides, dnn::kTensorId,
                                 dnn::kTensorAlignment})
    if (!t.has(a)) return false;
  for (const dnn::Attribute a : {dnn::kTensorDimensions, dnn::kTensorStrides})
    if (t.attributes.at(a).count != 4) return false;
  if (!t.has(dnn::kTensorRaggedOffset)) return true;
  const Desc& begins = *t.desc(dnn::kTensorRaggedOffset);
  return begins.type == dnn::kTensor && data_type(begins) == dnn::kI64 && has_dims(begins, dim(t, 0) + 1, 1, 1, 1);
}

bool is_ragged(const Desc& t) { return t.has(dnn::kTensorRaggedOffset); }

std::vector<dnn::Attribute> rows_of(const Desc& operation) {
  if (operation.type == dnn::kSdpaForward) return {kForward.q, kForward.k, kForward.v, kForward.o};
  return {kBackward.q, kBackward.k, kBackward.v, kBackward.o, dnn::kBackwardDo, dnn::kBackwardDq, dnn::kBackwardDk,
          dnn::kBackwardDv};
}

const Pass& pass_of(const Desc& operation) { return operation.type == dnn::kSdpaForward ? kForward : kBackward; }

bool is_operation(const Desc& op) {
  const Pass& pass = pass_of(op);
  for (const dnn::Attribute a : {pass.q, pass.stats, pass.scale, pass.lengths_q, pass.lengths_kv})
    if (!op.has(a)) return false;
  const Desc& q = *op.desc(pass.q);
  const std::int64_t b = dim(q, 0), h = dim(q, 1), s = dim(q, 2), d = dim(q, 3);
  for (const dnn::Attribute a : rows_of(op)) {
    if (!op.has(a)) return false;
    const Desc& t = *op.desc(a);
    if (!has_dims(t, b, h, s, d) || stride(t, 3) != 1 || stride(t, 1) != d || !is_ragged(t)) return false;
    if (data_type(t) != data_type(q) || (data_type(t) != dnn::kF16 && data_type(t) != dnn::kBF16)) return false;
  }
  const Desc &stats = *op.desc(pass.stats), &scale = *op.desc(pass.scale);
  if (!has_dims(stats, b, h, s, 1) || data_type(stats) != dnn::kF32 || !is_ragged(stats)) return false;
  if (!has_dims(scale, 1, 1, 1, 1) || data_type(scale) != dnn::kF32 || !scale.has(dnn::kTensorIsByValue)) return false;
  for (const dnn::Attribute a : {pass.lengths_q, pass.lengths_kv})
    if (!has_dims(*op.desc(a), b, 1, 1, 1) || data_type(*op.desc(a)) != dnn::kI32) return false;
  return true;
}

std::int64_t stages_of(const Desc& config) {
  std::int64_t stages = 0;
  if (!config.has(dnn::kConfigChoices)) return stages;
  for (std::int64_t i = 0; i < config.attributes.at(dnn::kConfigChoices).count; ++i) {
    const Desc& choice = *config.desc(dnn::kConfigChoices, static_cast<std::size_t>(i));
    if (choice.get<dnn::Knob>(dnn::kChoiceKnob) == dnn::kStages) stages = choice.get<std::int64_t>(dnn::kChoiceValue);
  }
  return stages;
}

/// The operation, which every engine here carries with it.
Desc* operation_of(const Desc& config) { return config.desc(dnn::kConfigEngine)->desc(dnn::kGraphOperations); }

dnn::Answer finalize_plan(Desc& plan) {
  if (!plan.has(dnn::kPlanConfig) || plan.has(dnn::kPlanHandle) == plan.has(dnn::kPlanDevice)) return kBadParam;
  const Desc& config = *plan.desc(dnn::kPlanConfig);
  const Desc& op = *operation_of(config);
  const std::int64_t head_size = dim(*op.desc(pass_of(op).q), 3);
  if (head_size == 48 || (config.desc(dnn::kConfigEngine)->engine == 9 && head_size == 24)) return kNotSupported;
  if (op.type == dnn::kSdpaBackward && stages_of(config) != 4) return kNotSupported;
  plan.workspace = config.desc(dnn::kConfigEngine)->engine == 9 ? 1000 : 0;
  ++compiled_plans;
  return dnn::kSuccess;
}

dnn::Answer finalize(Desc& d) {
  const auto good = [](bool is) { return is ? dnn::kSuccess : kBadParam; };
  switch (d.type) {
    case dnn::kTensor: return good(is_tensor(d));
    case dnn::kSdpaForward:
    case dnn::kSdpaBackward: return good(is_operation(d));
    case dnn::kGraph: return good(d.has(dnn::kGraphOperations));
    case dnn::kHeuristic:
      return good(d.has(dnn::kHeuristicGraph) && d.get<dnn::HeuristicMode>(dnn::kHeuristicMode) == dnn::kModeA &&
                  d.has(dnn::kHeuristicDevice) != d.desc(dnn::kHeuristicGraph)->has(dnn::kGraphHandle));
    case dnn::kKnobChoice: return good(d.has(dnn::kChoiceKnob) && d.has(dnn::kChoiceValue));
    case dnn::kEngineConfig:
      if (!d.has(dnn::kConfigEngine)) return kBadParam;
      if (d.attributes.at(dnn::kConfigChoices).count != 3) return kBadParam;   // the others must be taken over
      return d.desc(dnn::kConfigEngine)->engine == 8 && stages_of(d) == 4 ? kNotSupported : dnn::kSuccess;
    case dnn::kPlan: return finalize_plan(d);
    case dnn::kVariantPack:
      return good(d.has(dnn::kPackIds) && d.has(dnn::kPackWorkspace) &&
                  d.attributes.at(dnn::kPackIds).count == d.attributes.at(dnn::kPackPointers).count);
    case dnn::kDeviceProperty: return good(d.get<char>(dnn::kDeviceJson) == '{');
    default: return kBadParam;
  }
}

void set(Desc& d, dnn::Attribute a, dnn::ElementType type, std::int64_t count, const void* elements) {
  Values& values = d.attributes[a];
  values = {type, count, std::vector<std::byte>(static_cast<std::size_t>(count) * size_of(type))};
  std::memcpy(values.bytes.data(), elements, values.bytes.size());
}

Desc* made_choice(dnn::Knob knob, std::int64_t value) {
  auto* const choice = new Desc{dnn::kKnobChoice, true, {}};
  set(*choice, dnn::kChoiceKnob, dnn::kKnobType, 1, &knob);
  set(*choice, dnn::kChoiceValue, dnn::kInt64Type, 1, &value);
  return choice;
}

/// Three proposals are announced, and two come.
std::int64_t propose(const Desc& heuristic, std::int64_t wanted, void* elements) {
  Desc* const op = heuristic.desc(dnn::kHeuristicGraph)->desc(dnn::kGraphOperations);
  const std::int64_t heads = dim(*op->desc(pass_of(*op).q), 1);
  if (heads == 13) return 0;
  if (wanted == 0) return 3;
  auto** const configs = static_cast<Desc**>(elements);
  for (const int i : {0, 1}) {
    auto* const engine = new Desc{dnn::kEngine, true, {}, (i == 0) != (heads == 7) ? 9 : 8};
    set(*engine, dnn::kGraphOperations, dnn::kDescriptorType, 1, &op);
    const Desc* const choices[] = {made_choice(40, 2), made_choice(dnn::kStages, 1), made_choice(24, 7)};
    set(*configs[i], dnn::kConfigEngine, dnn::kDescriptorType, 1, &engine);
    set(*configs[i], dnn::kConfigChoices, dnn::kDescriptorType, 3, choices);
    configs[i]->finalized = true;
  }
  return 2;
}

// --- Execution ---

double load(dnn::DataType type, const void* data, std::int64_t i) {
  if (type == dnn::kF32) return static_cast<const float*>(data)[i];
  return type == dnn::kF16 ? to_float(static_cast<const f16*>(data)[i]) : to_float(static_cast<const bf16*>(data)[i]);
}

void store(dnn::DataType type, void* data, std::int64_t i, double value) {
  if (type == dnn::kF32)
    static_cast<float*>(data)[i] = static_cast<float>(value);
  else if (type == dnn::kF16)
    static_cast<f16*>(data)[i] = to_f16(static_cast<float>(value));
  else
    static_cast<bf16*>(data)[i] = to_bf16(static_cast<float>(value));
}

/// A tensor's memory: element d of token s of a head of a sequence, where the table of its beginnings says.
struct Rows {
  dnn::DataType type;
  std::int64_t of_head, of_token;
  void* data;
  const std::int64_t* begins;

  std::int64_t at(std::int64_t b, std::int64_t h, std::int64_t s, std::int64_t d) const {
    return begins[b] + h * of_head + s * of_token + d;
  }
  double operator()(std::int64_t b, std::int64_t h, std::int64_t s, std::int64_t d) const {
    return load(type, data, at(b, h, s, d));
  }
  void put(std::int64_t b, std::int64_t h, std::int64_t s, std::int64_t d, double value) const {
    store(type, data, at(b, h, s, d), value);
  }
};

class Execution {
 public:
  Execution(const Desc& op, const Desc& pack) : op_(op), pass_(pass_of(op)) {
    const auto count = static_cast<std::size_t>(pack.attributes.at(dnn::kPackIds).count);
    for (std::size_t i = 0; i < count; ++i)
      pointers_[pack.get<std::int64_t>(dnn::kPackIds, i)] = pack.get<void*>(dnn::kPackPointers, i);
  }

  dnn::Answer run() {
    const Desc& q = *op_.desc(pass_.q);
    sequences_ = dim(q, 0);
    heads_ = dim(q, 1);
    depth_ = dim(q, 3);
    for (const dnn::Attribute a : rows_of(op_))
      if (reinterpret_cast<std::uintptr_t>(pointer(*op_.desc(a))) % 16 != 0) return kBadParam;
    const auto* const lengths = static_cast<const std::int32_t*>(pointer(*op_.desc(pass_.lengths_q)));
    if (pointer(*op_.desc(pass_.lengths_kv)) != lengths || heads_ == 11) return kExecutionFailed;
    scale_ = *static_cast<const float*>(pointer(*op_.desc(pass_.scale)));
    for (std::int64_t b = 0; b < sequences_; ++b) {
      if (lengths[b] < 0 || lengths[b] > dim(q, 2)) return kExecutionFailed;
      for (std::int64_t h = 0; h < heads_; ++h)
        op_.type == dnn::kSdpaForward ? forward(b, h, lengths[b]) : backward(b, h, lengths[b]);
    }
    return dnn::kSuccess;
  }

 private:
  void* pointer(const Desc& tensor) const { return pointers_.at(tensor.get<std::int64_t>(dnn::kTensorId)); }
  Rows rows(dnn::Attribute a) const {
    const Desc& t = *op_.desc(a);
    return {data_type(t), stride(t, 1), stride(t, 2), pointer(t),
            static_cast<const std::int64_t*>(pointer(*t.desc(dnn::kTensorRaggedOffset)))};
  }

  double dot(const Rows& x, std::int64_t i, const Rows& y, std::int64_t j, std::int64_t b, std::int64_t h) const {
    double sum = 0;
    for (std::int64_t d = 0; d < depth_; ++d) sum += x(b, h, i, d) * y(b, h, j, d);
    return sum;
  }

  void forward(std::int64_t b, std::int64_t h, std::int64_t length) const {
    const Rows q = rows(pass_.q), k = rows(pass_.k), v = rows(pass_.v), o = rows(pass_.o), stats = rows(pass_.stats);
    for (std::int64_t i = 0; i < length; ++i) {
      std::vector<double> scores;
      for (std::int64_t j = 0; j < length; ++j) scores.push_back(scale_ * dot(q, i, k, j, b, h));
      const double largest = *std::max_element(scores.begin(), scores.end());
      double sum = 0;
      for (const double score : scores) sum += std::exp(score - largest);
      const double lse = largest + std::log(sum);
      stats.put(b, h, i, 0, lse);
      for (std::int64_t d = 0; d < depth_; ++d) {
        double value = 0;
        for (std::int64_t j = 0; j < length; ++j)
          value += std::exp(scores[static_cast<std::size_t>(j)] - lse) * v(b, h, j, d);
        o.put(b, h, i, d, value);
      }
    }
  }

  void backward(std::int64_t b, std::int64_t h, std::int64_t length) const {
    const Rows q = rows(pass_.q), k = rows(pass_.k), v = rows(pass_.v), o = rows(pass_.o), stats = rows(pass_.stats);
    const Rows d_o = rows(dnn::kBackwardDo), dq = rows(dnn::kBackwardDq), dk = rows(dnn::kBackwardDk),
               dv = rows(dnn::kBackwardDv);
    const auto at = [&](std::int64_t i, std::int64_t j) { return static_cast<std::size_t>(i * length + j); };
    std::vector<double> p(at(length, 0)), ds(at(length, 0));
    for (std::int64_t i = 0; i < length; ++i)
      for (std::int64_t j = 0; j < length; ++j) {
        p[at(i, j)] = std::exp(scale_ * dot(q, i, k, j, b, h) - stats(b, h, i, 0));
        ds[at(i, j)] = scale_ * p[at(i, j)] * (dot(d_o, i, v, j, b, h) - dot(d_o, i, o, i, b, h));
      }
    for (std::int64_t i = 0; i < length; ++i)
      for (std::int64_t d = 0; d < depth_; ++d) {
        double of_q = 0, of_k = 0, of_v = 0;
        for (std::int64_t j = 0; j < length; ++j) {
          of_q += ds[at(i, j)] * k(b, h, j, d);
          of_k += ds[at(j, i)] * q(b, h, j, d);
          of_v += p[at(j, i)] * d_o(b, h, j, d);
        }
        dq.put(b, h, i, d, of_q);
        dk.put(b, h, i, d, of_k);
        dv.put(b, h, i, d, of_v);
      }
  }

  const Desc& op_;
  const Pass& pass_;
  std::map<std::int64_t, void*> pointers_;
  std::int64_t sequences_ = 0, heads_ = 0, depth_ = 0;
  double scale_ = 1;
};

}  // namespace

extern "C" {

/// For the tests.
int pretended_cudnn_plans() { return compiled_plans; }
void* pretended_cudnn_stream() { return last_stream; }

std::size_t cudnnGetVersion() { return 92801; }
const char* cudnnGetErrorString(dnn::Answer) { return "the pretended cuDNN refuses this"; }
dnn::Answer cudnnCreate(dnn::Handle* handle) {
  static int only;
  *handle = &only;
  return dnn::kSuccess;
}
dnn::Answer cudnnSetStream(dnn::Handle handle, void* stream) {
  last_stream = stream;
  return handle == nullptr ? kBadParam : dnn::kSuccess;
}

dnn::Answer cudnnBackendCreateDescriptor(dnn::DescriptorType type, dnn::Descriptor* made) {
  *made = new Desc{type, false, {}};
  return dnn::kSuccess;
}
dnn::Answer cudnnBackendDestroyDescriptor(dnn::Descriptor of) {
  delete static_cast<Desc*>(of);
  return dnn::kSuccess;
}

dnn::Answer cudnnBackendSetAttribute(dnn::Descriptor of, dnn::Attribute attribute, dnn::ElementType type,
                                     std::int64_t count, const void* elements) {
  Desc& desc = *static_cast<Desc*>(of);
  if (desc.finalized || type != type_of(attribute)) return kBadParam;
  if (type == dnn::kDescriptorType)
    for (std::int64_t i = 0; i < count; ++i)
      if (const Desc* const used = static_cast<Desc* const*>(elements)[i]; used == nullptr || !used->finalized)
        return kBadParam;
  set(desc, attribute, type, count, elements);
  return dnn::kSuccess;
}

dnn::Answer cudnnBackendGetAttribute(dnn::Descriptor of, dnn::Attribute attribute, dnn::ElementType type,
                                     std::int64_t wanted, std::int64_t* count, void* elements) {
  const Desc& desc = *static_cast<Desc*>(of);
  if (desc.type == dnn::kEngineConfig && !desc.has(dnn::kConfigEngine)) std::abort();   // the real one may crash
  if (!desc.finalized || type != type_of(attribute)) return kBadParam;
  if (attribute == dnn::kHeuristicResults) {
    *count = propose(desc, wanted, elements);
    return dnn::kSuccess;
  }
  if (attribute == dnn::kPlanWorkspaceBytes) {
    const auto bytes = static_cast<std::int64_t>(desc.workspace);
    std::memcpy(elements, &bytes, sizeof bytes);
    *count = 1;
    return dnn::kSuccess;
  }
  const Values& values = desc.attributes.at(attribute);
  *count = values.count;
  const std::int64_t given = std::min(wanted, values.count);
  if (type != dnn::kDescriptorType) {
    std::memcpy(elements, values.bytes.data(), static_cast<std::size_t>(given) * size_of(type));
    return dnn::kSuccess;
  }
  for (std::int64_t i = 0; i < given; ++i)   // descriptors are filled, not replaced
    *static_cast<Desc**>(elements)[i] = *desc.desc(attribute, static_cast<std::size_t>(i));
  return dnn::kSuccess;
}

dnn::Answer cudnnBackendFinalize(dnn::Descriptor of) {
  Desc& desc = *static_cast<Desc*>(of);
  const dnn::Answer answer = finalize(desc);
  desc.finalized = answer == dnn::kSuccess;
  return answer;
}

dnn::Answer cudnnBackendExecute(dnn::Handle, dnn::Descriptor of_plan, dnn::Descriptor of_pack) {
  const Desc &plan = *static_cast<Desc*>(of_plan), &pack = *static_cast<Desc*>(of_pack);
  if (!plan.finalized || !pack.finalized || !plan.has(dnn::kPlanHandle)) return kBadParam;
  void* const workspace = pack.get<void*>(dnn::kPackWorkspace);
  if (reinterpret_cast<std::uintptr_t>(workspace) % 256 != 0) return kBadParam;
  std::memset(workspace, 0xff, plan.workspace);
  return Execution(*operation_of(*plan.desc(dnn::kPlanConfig)), pack).run();
}

}  // extern "C"
