#include "kernels/cuda/cublaslt_plans.h"

#include <cuda_runtime_api.h>

#include <cstdint>
#include <cstring>

#include "kernels/cuda/cublaslt.h"
#include "kernels/cuda/vendor_library.h"

#if __has_include(<cublasLt.h>)
#include <cublasLt.h>
#endif

namespace sinter::kernels::cuda::lt {
namespace {

Library load() {
  Library loaded;
  void* const library = open_library("libcublasLt.so." + std::to_string(CUDART_VERSION / 1000), &loaded.why_not);
  if (library == nullptr) return loaded;
  const auto find = [&](auto*& function, const char* name) {
    find_function(library, std::string("cublasLt") + name, function, &loaded.why_not);
  };
  Functions& f = loaded.functions;
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
  find(f.MatmulAlgoCheck, "MatmulAlgoCheck");
  find(f.MatmulAlgoConfigGetAttribute, "MatmulAlgoConfigGetAttribute");
  find(f.MatmulAlgoCapGetAttribute, "MatmulAlgoCapGetAttribute");
  find(f.Matmul, "Matmul");
  return loaded;
}

/// The largest power of two up to 256 that divides an address, 256 for null.
std::int32_t alignment(const void* p) {
  const auto address = reinterpret_cast<std::uintptr_t>(p) | 256;
  return static_cast<std::int32_t>(address & (~address + 1));
}

int type_of(Dtype dtype) { return dtype == Dtype::f16 ? kR16F : dtype == Dtype::bf16 ? kR16BF : kR32F; }

Answer set_bias(const Plan& plan, const void* bias) {
  return library().functions.MatmulDescSetAttribute(plan.product, kBiasPointer, &bias, sizeof bias);
}

void add_layout(Answers& answers, const GemmProblem& p, std::int64_t rows, std::int64_t cols, std::int64_t ld,
                std::int64_t stride, MatrixLayout* layout) {
  const Functions& f = library().functions;
  answers << f.MatrixLayoutCreate(layout, type_of(p.dtype), static_cast<std::uint64_t>(rows),
                                  static_cast<std::uint64_t>(cols), ld);
  if (p.batch == 1 || !answers.ok()) return;
  const auto count = static_cast<std::int32_t>(p.batch);
  answers << f.MatrixLayoutSetAttribute(*layout, kBatchCount, &count, sizeof count)
          << f.MatrixLayoutSetAttribute(*layout, kStridedBatchOffset, &stride, sizeof stride);
}

/// Row-major matrices are the transposes of what cuBLASLt reads in the same memory, so it is asked for
/// C^T = op(B)^T op(A)^T, with B as its first matrix. Its rows are our columns, and its bias a value a row.
Answers describe(const GemmProblem& p, const void* bias, Plan* plan) {
  const Functions& f = library().functions;
  Answers answers;
  answers << f.MatmulDescCreate(&plan->product, kCompute32F, kR32F);
  if (!answers.ok()) return answers;
  const std::int32_t op_a = p.transpose_b ? kOpT : kOpN, op_b = p.transpose_a ? kOpT : kOpN;
  answers << f.MatmulDescSetAttribute(plan->product, kTransA, &op_a, sizeof op_a)
          << f.MatmulDescSetAttribute(plan->product, kTransB, &op_b, sizeof op_b);
  if (p.alignment_bias != 0) {
    const std::int32_t type = type_of(computed_dtype(p.dtype));
    answers << f.MatmulDescSetAttribute(plan->product, kEpilogue, &kEpilogueBias, sizeof kEpilogueBias)
            << f.MatmulDescSetAttribute(plan->product, kBiasDataType, &type, sizeof type) << set_bias(*plan, bias);
  }
  add_layout(answers, p, p.transpose_b ? p.k : p.n, p.transpose_b ? p.n : p.k, p.ldb, p.batch_stride_b, &plan->a);
  add_layout(answers, p, p.transpose_a ? p.m : p.k, p.transpose_a ? p.k : p.m, p.lda, p.batch_stride_a, &plan->b);
  add_layout(answers, p, p.n, p.m, p.ldc, p.batch_stride_c, &plan->c);
  return answers;
}

std::uint64_t workspace_of(const GemmProblem& p) { return p.workspace ? kCublasLtWorkspace : 0; }

Answers set_preference(const GemmProblem& p, Preference preference) {
  const Functions& f = library().functions;
  const std::uint64_t workspace = workspace_of(p);
  const std::uint32_t reductions = kReductionComputeType;
  const auto a = static_cast<std::uint32_t>(p.alignment_b), b = static_cast<std::uint32_t>(p.alignment_a),
             c = static_cast<std::uint32_t>(p.alignment_c);
  Answers answers;
  answers << f.MatmulPreferenceSetAttribute(preference, kMaxWorkspaceBytes, &workspace, sizeof workspace)
          << f.MatmulPreferenceSetAttribute(preference, kReductionSchemeMask, &reductions, sizeof reductions)
          << f.MatmulPreferenceSetAttribute(preference, kMinAlignmentA, &a, sizeof a)
          << f.MatmulPreferenceSetAttribute(preference, kMinAlignmentB, &b, sizeof b)
          << f.MatmulPreferenceSetAttribute(preference, kMinAlignmentC, &c, sizeof c)
          << f.MatmulPreferenceSetAttribute(preference, kMinAlignmentD, &c, sizeof c);
  return answers;
}

/// What the heuristic proposes and this problem can use.
std::vector<Choice> ask(Handle handle, const GemmProblem& p, const Plan& plan, int wanted) {
  const Functions& f = library().functions;
  Preference preference = nullptr;
  if (f.MatmulPreferenceCreate(&preference) != kSuccess) return {};
  Answers answers = set_preference(p, preference);
  std::vector<HeuristicResult> results(static_cast<std::size_t>(wanted));
  int found = 0;
  if (answers.ok())
    answers << f.MatmulAlgoGetHeuristic(handle, plan.product, plan.a, plan.b, plan.c, plan.c, preference, wanted,
                                        results.data(), &found);
  static_cast<void>(f.MatmulPreferenceDestroy(preference));
  std::vector<Choice> usable;
  for (int i = 0; answers.ok() && i < found && i < wanted; ++i) {
    const HeuristicResult& each = results[static_cast<std::size_t>(i)];
    if (each.state == kSuccess && each.workspace_bytes <= workspace_of(p))
      usable.push_back({each.algorithm, each.workspace_bytes});
  }
  return usable;
}

bool same(const Algorithm& a, const Algorithm& b) { return std::memcmp(&a, &b, sizeof a) == 0; }

/// True where a split K is added up in f32 and in a fixed order.
bool is_exact(const Algorithm& algorithm) {
  std::uint32_t scheme = 0;
  std::size_t written = 0;
  const Answer answer =
      library().functions.MatmulAlgoConfigGetAttribute(&algorithm, kReductionScheme, &scheme, sizeof scheme, &written);
  return answer == kSuccess && written == sizeof scheme &&
         (scheme == kReductionNone || scheme == kReductionComputeType);
}

/// True where the algorithm demands no more of this pointer than it has.
bool fits(const Algorithm& algorithm, AlgorithmDemand demand, std::int32_t has) {
  std::uint32_t demanded = 0;
  std::size_t written = 0;
  const Answer answer =
      library().functions.MatmulAlgoCapGetAttribute(&algorithm, demand, &demanded, sizeof demanded, &written);
  return answer == kSuccess && written == sizeof demanded && demanded <= static_cast<std::uint32_t>(has);
}

}  // namespace

const Library& library() {
  static const Library loaded = load();
  return loaded;
}

Status status_of(Answer answer) {
  if (answer == kSuccess) return {};
  return {StatusCode::device_error, library().functions.GetStatusString(answer)};
}

bool is_taken(Dtype dtype) { return dtype == Dtype::f32 || dtype == Dtype::f16 || dtype == Dtype::bf16; }

GemmProblem problem_of(const Gemm& p) {
  return {.dtype = p.dtype,
          .transpose_a = p.transpose_a,
          .transpose_b = p.transpose_b,
          .accumulate = p.accumulate,
          .workspace = p.workspace != nullptr,
          .alignment_a = alignment(p.a),
          .alignment_b = alignment(p.b),
          .alignment_c = alignment(p.c),
          .alignment_bias = p.bias == nullptr ? 0 : alignment(p.bias),
          .m = p.m,
          .n = p.n,
          .k = p.k,
          .batch = p.batch,
          .lda = p.lda,
          .ldb = p.ldb,
          .ldc = p.ldc,
          .batch_stride_a = p.batch_stride_a,
          .batch_stride_b = p.batch_stride_b,
          .batch_stride_c = p.batch_stride_c};
}

void make_plan(Handle handle, const GemmProblem& problem, const void* bias, Plan* plan) {
  if (!describe(problem, bias, plan).ok()) return;
  const std::vector<Choice> found = ask(handle, problem, *plan, 1);
  if (!found.empty()) plan->first = found.front();
}

std::vector<Choice> proposals(Handle handle, const GemmProblem& problem, const Plan& plan, int most) {
  std::vector<Choice> found;
  if (plan.first) found.push_back(*plan.first);
  for (const Choice& each : ask(handle, problem, plan, most)) {
    if (static_cast<int>(found.size()) == most) break;
    if (is_exact(each.algorithm) && !(plan.first && same(each.algorithm, plan.first->algorithm))) found.push_back(each);
  }
  return found;
}

Status check(Handle handle, const GemmProblem& problem, const Plan& plan, const Algorithm& algorithm, Choice* choice) {
  HeuristicResult result{};
  const Answer answer = library().functions.MatmulAlgoCheck(handle, plan.product, plan.a, plan.b, plan.c, plan.c,
                                                            &algorithm, &result);
  if (answer != kSuccess || result.state != kSuccess) return unsupported("the library refuses the algorithm");
  if (result.workspace_bytes > workspace_of(problem)) return unsupported("the algorithm needs more workspace");
  if (!is_exact(algorithm)) return unsupported("the algorithm adds the parts of a split K in another way");
  if (!fits(algorithm, kDemandedAlignmentA, problem.alignment_b) ||
      !fits(algorithm, kDemandedAlignmentB, problem.alignment_a) ||
      !fits(algorithm, kDemandedAlignmentC, problem.alignment_c) ||
      !fits(algorithm, kDemandedAlignmentD, problem.alignment_c))
    return unsupported("the algorithm needs better aligned matrices");
  *choice = {algorithm, result.workspace_bytes};
  return {};
}

Status multiply(Handle handle, const Plan& plan, const Choice& choice, const Gemm& p, Stream stream) {
  Answers answers;
  if (p.bias != nullptr) answers << set_bias(plan, p.bias);
  const float alpha = 1, beta = p.accumulate ? 1 : 0;
  answers << library().functions.Matmul(handle, plan.product, &alpha, p.b, plan.a, p.a, plan.b, &beta, p.c, plan.c, p.c,
                                        plan.c, &choice.algorithm, p.workspace, choice.workspace_bytes, stream.handle);
  return answers.status();
}

#if __has_include(<cublasLt.h>)
static_assert(kCompute32F == CUBLAS_COMPUTE_32F && kR32F == CUDA_R_32F && kR16F == CUDA_R_16F &&
              kR16BF == CUDA_R_16BF && kOpN == CUBLAS_OP_N && kOpT == CUBLAS_OP_T);
static_assert(int{kTransA} == CUBLASLT_MATMUL_DESC_TRANSA && int{kTransB} == CUBLASLT_MATMUL_DESC_TRANSB &&
              int{kEpilogue} == CUBLASLT_MATMUL_DESC_EPILOGUE &&
              int{kBiasPointer} == CUBLASLT_MATMUL_DESC_BIAS_POINTER &&
              int{kBiasDataType} == CUBLASLT_MATMUL_DESC_BIAS_DATA_TYPE && kEpilogueBias == CUBLASLT_EPILOGUE_BIAS);
static_assert(int{kBatchCount} == CUBLASLT_MATRIX_LAYOUT_BATCH_COUNT &&
              int{kStridedBatchOffset} == CUBLASLT_MATRIX_LAYOUT_STRIDED_BATCH_OFFSET);
static_assert(int{kMaxWorkspaceBytes} == CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES &&
              int{kReductionSchemeMask} == CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK &&
              int{kMinAlignmentA} == CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES &&
              int{kMinAlignmentB} == CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES &&
              int{kMinAlignmentC} == CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES &&
              int{kMinAlignmentD} == CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES &&
              kReductionNone == CUBLASLT_REDUCTION_SCHEME_NONE &&
              kReductionComputeType == CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE);
static_assert(int{kReductionScheme} == CUBLASLT_ALGO_CONFIG_REDUCTION_SCHEME &&
              int{kDemandedAlignmentA} == CUBLASLT_ALGO_CAP_MIN_ALIGNMENT_A_BYTES &&
              int{kDemandedAlignmentB} == CUBLASLT_ALGO_CAP_MIN_ALIGNMENT_B_BYTES &&
              int{kDemandedAlignmentC} == CUBLASLT_ALGO_CAP_MIN_ALIGNMENT_C_BYTES &&
              int{kDemandedAlignmentD} == CUBLASLT_ALGO_CAP_MIN_ALIGNMENT_D_BYTES);
static_assert(sizeof(Algorithm) == sizeof(cublasLtMatmulAlgo_t) &&
              sizeof(HeuristicResult) == sizeof(cublasLtMatmulHeuristicResult_t) &&
              offsetof(HeuristicResult, state) == offsetof(cublasLtMatmulHeuristicResult_t, state));
#endif

}  // namespace sinter::kernels::cuda::lt
