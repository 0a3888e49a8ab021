#include "kernels/cuda/cublaslt.h"

#include <cuda_runtime_api.h>

#include <algorithm>
#include <array>
#include <cstdint>
#include <map>
#include <mutex>
#include <string>
#include <vector>

#include "kernels/base/families.h"
#include "kernels/copy.h"
#include "kernels/cuda/cublaslt_abi.h"
#include "kernels/cuda/vendor_library.h"

#if __has_include(<cublasLt.h>)
#include <cublasLt.h>
#endif

namespace sinter::kernels::cuda {

SINTER_DECLARE_FAMILIES;

namespace {

// --- The library ---

struct Library {
  lt::Functions functions{};
  std::string why_not;
};

Library load() {
  Library loaded;
  void* const library = open_library("libcublasLt.so." + std::to_string(CUDART_VERSION / 1000), &loaded.why_not);
  if (library == nullptr) return loaded;
  const auto find = [&](auto*& function, const char* name) {
    find_function(library, std::string("cublasLt") + name, function, &loaded.why_not);
  };
  lt::Functions& f = loaded.functions;
  find(f.GetVersion, "GetVersion");
  find(f.GetStatusString, "GetStatusString");
  find(f.Create, "Create");
  find(f.MatmulDescCreate, "MatmulDescCreate");
  find(f.MatmulDescSetAttribute, "MatmulDescSetAttribute");
  find(f.MatrixLayoutCreate, "MatrixLayoutCreate");
  find(f.MatrixLayoutSetAttribute, "MatrixLayoutSetAttribute");
  find(f.MatmulPreferenceCreate, "MatmulPreferenceCreate");
  find(f.MatmulPreferenceSetAttribute, "MatmulPreferenceSetAttribute");
  find(f.MatmulPreferenceDestroy, "MatmulPreferenceDestroy");
  find(f.MatmulAlgoGetHeuristic, "MatmulAlgoGetHeuristic");
  find(f.Matmul, "Matmul");
  return loaded;
}

const Library& library() {
  static const Library loaded = load();
  return loaded;
}

Status status_of(lt::Answer answer) {
  if (answer == lt::kSuccess) return {};
  return {StatusCode::device_error, library().functions.GetStatusString(answer)};
}

// --- Plans: all that a problem's first call finds out ---

/// What tells problems apart, pointers reduced to their alignment.
using Key = std::array<std::int64_t, 20>;

struct Plan {
  lt::MatmulDesc product = nullptr;
  lt::MatrixLayout a = nullptr, b = nullptr, c = nullptr;
  lt::Algorithm algorithm{};
  std::size_t workspace_bytes = 0;
  bool found = false;
};

/// The largest power of two up to 256 that divides an address, 256 for null.
std::uint32_t alignment(const void* p) {
  const auto address = reinterpret_cast<std::uintptr_t>(p) | 256;
  return static_cast<std::uint32_t>(address & (~address + 1));
}

Key key_of(const Gemm& p) {
  const std::int64_t bias = p.bias == nullptr ? 0 : alignment(p.bias);
  return {current_device(), static_cast<std::int64_t>(p.dtype), p.transpose_a, p.transpose_b, p.accumulate, bias,
          p.workspace != nullptr, p.m, p.n, p.k, p.batch, p.lda, p.ldb, p.ldc, p.batch_stride_a, p.batch_stride_b,
          p.batch_stride_c, alignment(p.a), alignment(p.b), alignment(p.c)};
}

/// Handles and plans of the process. They live until it ends: the library may be gone before a destructor runs.
struct Plans {
  std::mutex mutex;
  std::map<int, lt::Handle> handles;
  std::map<Key, Plan> plans;

  static Plans& instance() {
    static Plans& all = *new Plans;
    return all;
  }
};

bool is_taken(Dtype dtype) { return dtype == Dtype::f32 || dtype == Dtype::f16 || dtype == Dtype::bf16; }

int type_of(Dtype dtype) {
  return dtype == Dtype::f16 ? lt::kR16F : dtype == Dtype::bf16 ? lt::kR16BF : lt::kR32F;
}

/// The first answer that is no success.
class Answers {
 public:
  Answers& operator<<(lt::Answer answer) {
    if (first_ == lt::kSuccess) first_ = answer;
    return *this;
  }
  bool ok() const { return first_ == lt::kSuccess; }
  Status status() const { return status_of(first_); }

 private:
  lt::Answer first_ = lt::kSuccess;
};

lt::Answer set_bias(const lt::Functions& f, const Plan& plan, const Gemm& p) {
  return f.MatmulDescSetAttribute(plan.product, lt::kBiasPointer, &p.bias, sizeof p.bias);
}

void add_layout(const lt::Functions& f, Answers& answers, const Gemm& p, std::int64_t rows, std::int64_t cols,
                std::int64_t ld, std::int64_t stride, lt::MatrixLayout* layout) {
  answers << f.MatrixLayoutCreate(layout, type_of(p.dtype), static_cast<std::uint64_t>(rows),
                                  static_cast<std::uint64_t>(cols), ld);
  if (p.batch == 1 || !answers.ok()) return;
  const auto count = static_cast<std::int32_t>(p.batch);
  answers << f.MatrixLayoutSetAttribute(*layout, lt::kBatchCount, &count, sizeof count)
          << f.MatrixLayoutSetAttribute(*layout, lt::kStridedBatchOffset, &stride, sizeof stride);
}

/// Row-major matrices are the transposes of what cuBLASLt reads in the same memory, so it is asked for
/// C^T = op(B)^T op(A)^T, with B as its first matrix. Its rows are our columns, and its bias a value a row.
Answers describe(const lt::Functions& f, const Gemm& p, Plan* plan) {
  Answers answers;
  answers << f.MatmulDescCreate(&plan->product, lt::kCompute32F, lt::kR32F);
  if (!answers.ok()) return answers;
  const std::int32_t op_a = p.transpose_b ? lt::kOpT : lt::kOpN, op_b = p.transpose_a ? lt::kOpT : lt::kOpN;
  answers << f.MatmulDescSetAttribute(plan->product, lt::kTransA, &op_a, sizeof op_a)
          << f.MatmulDescSetAttribute(plan->product, lt::kTransB, &op_b, sizeof op_b);
  if (p.bias != nullptr) {
    const std::int32_t type = type_of(computed_dtype(p.dtype));
    answers << f.MatmulDescSetAttribute(plan->product, lt::kEpilogue, &lt::kEpilogueBias, sizeof lt::kEpilogueBias)
            << f.MatmulDescSetAttribute(plan->product, lt::kBiasDataType, &type, sizeof type) << set_bias(f, *plan, p);
  }
  add_layout(f, answers, p, p.transpose_b ? p.k : p.n, p.transpose_b ? p.n : p.k, p.ldb, p.batch_stride_b, &plan->a);
  add_layout(f, answers, p, p.transpose_a ? p.m : p.k, p.transpose_a ? p.k : p.m, p.lda, p.batch_stride_a, &plan->b);
  add_layout(f, answers, p, p.n, p.m, p.ldc, p.batch_stride_c, &plan->c);
  return answers;
}

void choose_algorithm(const lt::Functions& f, lt::Handle handle, const Gemm& p, Plan* plan) {
  lt::Preference preference = nullptr;
  Answers answers;
  answers << f.MatmulPreferenceCreate(&preference);
  if (!answers.ok()) return;
  const std::uint64_t workspace = p.workspace == nullptr ? 0 : kCublasLtWorkspace;
  const std::uint32_t reductions = lt::kReductionComputeType;
  answers << f.MatmulPreferenceSetAttribute(preference, lt::kMaxWorkspaceBytes, &workspace, sizeof workspace)
          << f.MatmulPreferenceSetAttribute(preference, lt::kReductionSchemeMask, &reductions, sizeof reductions);
  const std::uint32_t a = alignment(p.b), b = alignment(p.a), c = alignment(p.c);
  answers << f.MatmulPreferenceSetAttribute(preference, lt::kMinAlignmentA, &a, sizeof a)
          << f.MatmulPreferenceSetAttribute(preference, lt::kMinAlignmentB, &b, sizeof b)
          << f.MatmulPreferenceSetAttribute(preference, lt::kMinAlignmentC, &c, sizeof c)
          << f.MatmulPreferenceSetAttribute(preference, lt::kMinAlignmentD, &c, sizeof c);
  lt::HeuristicResult result{};
  int found = 0;
  if (answers.ok())
    answers << f.MatmulAlgoGetHeuristic(handle, plan->product, plan->a, plan->b, plan->c, plan->c, preference, 1,
                                        &result, &found);
  static_cast<void>(f.MatmulPreferenceDestroy(preference));
  plan->found = answers.ok() && found == 1 && result.state == lt::kSuccess && result.workspace_bytes <= workspace;
  plan->algorithm = result.algorithm;
  plan->workspace_bytes = result.workspace_bytes;
}

/// The plan of these params, and the device's handle; null where there is none. The mutex is held. Making a handle
/// allocates, so a device's first product comes before a capture; plans are made on the host alone. A capture takes the
/// same algorithm as an eager step does, as long as its pointers are aligned alike up to 256 bytes: see Key.
const Plan* plan_for(Plans& all, const Gemm& p, lt::Handle* handle) {
  if (!library().why_not.empty() || !is_taken(p.dtype)) return nullptr;
  if (p.m == 0 || p.n == 0 || p.k == 0 || p.batch == 0 || p.batch > INT32_MAX) return nullptr;
  const lt::Functions& f = library().functions;
  const Key key = key_of(p);
  lt::Handle& of_device = all.handles[current_device()];
  if (of_device == nullptr && f.Create(&of_device) != lt::kSuccess) {
    of_device = nullptr;
    return nullptr;
  }
  *handle = of_device;
  const auto [at, is_new] = all.plans.try_emplace(key);
  Plan& plan = at->second;
  if (is_new && describe(f, p, &plan).ok()) choose_algorithm(f, of_device, p, &plan);
  return plan.found ? &plan : nullptr;
}

/// How a product is computed: as it is, or, where the library does not add this bias itself, as the sum of the product
/// and the bias that was spread over C before.
struct Way {
  Gemm gemm;
  const Plan* plan = nullptr;   // null: not at all
  lt::Handle handle = nullptr;
  bool spreads_bias = false;
};

/// The mutex is held.
Way way_for(Plans& all, const Gemm& p) {
  Way way{.gemm = p};
  way.plan = plan_for(all, p, &way.handle);
  if (way.plan != nullptr || p.bias == nullptr) return way;
  way.spreads_bias = true;
  way.gemm.bias = nullptr;
  way.gemm.accumulate = true;
  way.plan = plan_for(all, way.gemm, &way.handle);
  return way;
}

/// Every row of every C becomes the bias, rounded to `dtype`.
Status spread_bias(const Gemm& p, Stream stream) {
  const Copy copy{.extents = {3, {p.batch, p.m, p.n}}, .src_strides = {{0, 0, 1}},
                  .dst_strides = {{p.batch_stride_c, p.ldc, 1}}, .src_dtype = computed_dtype(p.dtype),
                  .dst_dtype = p.dtype, .src = p.bias, .dst = p.c};
  const KernelEntry& row = *std::find_if(copy_family.entries, copy_family.entries + copy_family.count,
                                         [](const KernelEntry& each) { return each.id == Copy::id; });
  return row.variants[row.select(&copy)].run(&copy, stream);
}

}  // namespace

const char* why_no_cublaslt() { return library().why_not.c_str(); }

bool cublaslt_takes(const Gemm& p) {
  Plans& all = Plans::instance();
  const std::scoped_lock lock(all.mutex);
  return way_for(all, p).plan != nullptr;
}

Status gemm_by_cublaslt(const Gemm& p, Stream stream) {
  if (p.m == 0 || p.n == 0 || p.batch == 0) return {};
  Plans& all = Plans::instance();
  const std::scoped_lock lock(all.mutex);  // the bias stands in the plan while the product is enqueued
  const auto [gemm, plan, handle, spreads_bias] = way_for(all, p);
  if (plan == nullptr) return unsupported("cuBLASLt is not there, or has no algorithm for this product");
  if (spreads_bias)
    if (const Status status = spread_bias(p, stream); !status.ok()) return status;
  const lt::Functions& f = library().functions;
  Answers answers;
  if (gemm.bias != nullptr) answers << set_bias(f, *plan, gemm);
  const float alpha = 1, beta = gemm.accumulate ? 1 : 0;
  answers << f.Matmul(handle, plan->product, &alpha, p.b, plan->a, p.a, plan->b, &beta, p.c, plan->c, p.c, plan->c,
                      &plan->algorithm, p.workspace, plan->workspace_bytes, stream.handle);
  return answers.status();
}

// --- The row of the table ---

namespace {

struct OwnRow {
  KernelEntry row;
  std::vector<Variant> variants;
};
OwnRow own_gemm;

int select_with_cublaslt(const void* params) {
  return cublaslt_takes(*static_cast<const Gemm*>(params)) ? own_gemm.row.variant_count : own_gemm.row.select(params);
}

std::size_t workspace_with_cublaslt(const void* params) {
  const bool may_take = is_taken(static_cast<const Gemm*>(params)->dtype);
  return std::max(own_gemm.row.workspace(params), may_take ? kCublasLtWorkspace : 0);
}

}  // namespace

KernelEntry with_cublaslt(const KernelEntry& own) {
  own_gemm.row = own;
  own_gemm.variants.assign(own.variants, own.variants + own.variant_count);
  own_gemm.variants.push_back({"cublaslt", "NVIDIA's library, with the first algorithm of its heuristic",
                               "not yet measured; f32, f16, bf16", erased_run<Gemm, gemm_by_cublaslt>,
                               /*gpu_only=*/true});
  KernelEntry row = own;
  row.variants = own_gemm.variants.data();
  row.variant_count = own.variant_count + 1;
  row.select = select_with_cublaslt;
  row.workspace = workspace_with_cublaslt;
  return row;
}

std::string cublaslt_version() {
  const std::size_t version = library().functions.GetVersion();
  return "cuBLASLt " + std::to_string(version / 10000) + "." + std::to_string(version / 100 % 100) + "." +
         std::to_string(version % 100);
}

#if __has_include(<cublasLt.h>)
static_assert(lt::kCompute32F == CUBLAS_COMPUTE_32F && lt::kR32F == CUDA_R_32F && lt::kR16F == CUDA_R_16F &&
              lt::kR16BF == CUDA_R_16BF && lt::kOpN == CUBLAS_OP_N && lt::kOpT == CUBLAS_OP_T);
static_assert(int{lt::kTransA} == CUBLASLT_MATMUL_DESC_TRANSA && int{lt::kTransB} == CUBLASLT_MATMUL_DESC_TRANSB &&
              int{lt::kEpilogue} == CUBLASLT_MATMUL_DESC_EPILOGUE &&
              int{lt::kBiasPointer} == CUBLASLT_MATMUL_DESC_BIAS_POINTER &&
              int{lt::kBiasDataType} == CUBLASLT_MATMUL_DESC_BIAS_DATA_TYPE &&
              lt::kEpilogueBias == CUBLASLT_EPILOGUE_BIAS);
static_assert(int{lt::kBatchCount} == CUBLASLT_MATRIX_LAYOUT_BATCH_COUNT &&
              int{lt::kStridedBatchOffset} == CUBLASLT_MATRIX_LAYOUT_STRIDED_BATCH_OFFSET);
static_assert(int{lt::kMaxWorkspaceBytes} == CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES &&
              int{lt::kReductionSchemeMask} == CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK &&
              int{lt::kMinAlignmentA} == CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES &&
              int{lt::kMinAlignmentB} == CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES &&
              int{lt::kMinAlignmentC} == CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES &&
              int{lt::kMinAlignmentD} == CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES &&
              lt::kReductionComputeType == CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE);
static_assert(sizeof(lt::Algorithm) == sizeof(cublasLtMatmulAlgo_t) &&
              sizeof(lt::HeuristicResult) == sizeof(cublasLtMatmulHeuristicResult_t) &&
              offsetof(lt::HeuristicResult, state) == offsetof(cublasLtMatmulHeuristicResult_t, state));
#endif

}  // namespace sinter::kernels::cuda
