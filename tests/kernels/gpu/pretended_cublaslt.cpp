// A libcublasLt that computes on the host: what kernels/cuda/cublaslt.cpp asks of the real one is so tested without a
// GPU. It is written from the library's documentation, and strict: an attribute of the wrong size, a matrix that does
// not fit its leading dimension, a bias of another type than D or a pointer that is less aligned than the algorithm was
// asked for is refused, and so is a split K whose parts could be added in 16 bits.
#include <algorithm>
#include <cstdint>
#include <cstring>

#include "kernels/base/dtype.h"
#include "kernels/cuda/cublaslt_abi.h"

namespace {

namespace lt = sinter::kernels::cuda::lt;
using namespace sinter::kernels;

constexpr lt::Answer kInvalidValue = 7, kNotSupported = 15;

struct Desc {
  std::int32_t trans_a = 0, trans_b = 0, bias_type = -1;
  std::uint32_t epilogue = 1;
  const void* bias = nullptr;
};
struct Layout {
  int type;
  std::int64_t rows, cols, ld, stride = 0;
  std::int32_t batch = 1;
};
struct Pref {
  std::uint64_t workspace = 0;
  std::uint32_t reductions = 7, alignment[4] = {256, 256, 256, 256};
};

template <class T>
lt::Answer set(T& field, const void* value, std::size_t bytes) {
  if (bytes != sizeof field) return kInvalidValue;
  std::memcpy(&field, value, bytes);
  return lt::kSuccess;
}

double load(int type, const void* data, std::int64_t i) {
  if (type == lt::kR16F) return to_float(static_cast<const f16*>(data)[i]);
  if (type == lt::kR16BF) return to_float(static_cast<const bf16*>(data)[i]);
  return static_cast<const float*>(data)[i];
}

void store(int type, void* data, std::int64_t i, double value) {
  const auto x = static_cast<float>(value);
  if (type == lt::kR16F)
    static_cast<f16*>(data)[i] = to_f16(x);
  else if (type == lt::kR16BF)
    static_cast<bf16*>(data)[i] = to_bf16(x);
  else
    static_cast<float*>(data)[i] = x;
}

/// The sizes of op(A) op(B) = D, or an answer why they do not fit.
lt::Answer fits(const Desc& desc, const Layout& a, const Layout& b, const Layout& d) {
  const std::int64_t m = desc.trans_a ? a.cols : a.rows, k = desc.trans_a ? a.rows : a.cols;
  const std::int64_t n = desc.trans_b ? b.rows : b.cols, k_b = desc.trans_b ? b.cols : b.rows;
  if (d.rows != m || d.cols != n || k != k_b) return kInvalidValue;
  for (const Layout* x : {&a, &b, &d})
    if (x->ld < x->rows || x->batch != d.batch || x->type != d.type) return kInvalidValue;
  if (desc.epilogue == lt::kEpilogueBias && desc.bias_type != d.type) return kNotSupported;
  return lt::kSuccess;
}

}  // namespace

extern "C" {

std::size_t cublasLtGetVersion() { return 0; }
const char* cublasLtGetStatusString(lt::Answer) { return "the pretended cuBLASLt refuses this"; }
lt::Answer cublasLtCreate(lt::Handle* handle) {
  static int only;
  *handle = &only;
  return lt::kSuccess;
}

lt::Answer cublasLtMatmulDescCreate(lt::MatmulDesc* made, int compute_type, int scale_type) {
  if (compute_type != lt::kCompute32F || scale_type != lt::kR32F) return kNotSupported;
  *made = new Desc;
  return lt::kSuccess;
}
lt::Answer cublasLtMatmulDescSetAttribute(lt::MatmulDesc of, lt::MatmulDescAttribute attribute, const void* value,
                                          std::size_t bytes) {
  Desc& desc = *static_cast<Desc*>(of);
  switch (attribute) {
    case lt::kTransA: return set(desc.trans_a, value, bytes);
    case lt::kTransB: return set(desc.trans_b, value, bytes);
    case lt::kEpilogue: return set(desc.epilogue, value, bytes);
    case lt::kBiasPointer: return set(desc.bias, value, bytes);
    case lt::kBiasDataType: return set(desc.bias_type, value, bytes);
  }
  return kInvalidValue;
}

lt::Answer cublasLtMatrixLayoutCreate(lt::MatrixLayout* made, int type, std::uint64_t rows, std::uint64_t cols,
                                      std::int64_t ld) {
  *made = new Layout{type, static_cast<std::int64_t>(rows), static_cast<std::int64_t>(cols), ld};
  return lt::kSuccess;
}
lt::Answer cublasLtMatrixLayoutSetAttribute(lt::MatrixLayout of, lt::MatrixLayoutAttribute attribute, const void* value,
                                            std::size_t bytes) {
  Layout& layout = *static_cast<Layout*>(of);
  return attribute == lt::kBatchCount ? set(layout.batch, value, bytes) : set(layout.stride, value, bytes);
}

lt::Answer cublasLtMatmulPreferenceCreate(lt::Preference* made) {
  *made = new Pref;
  return lt::kSuccess;
}
lt::Answer cublasLtMatmulPreferenceSetAttribute(lt::Preference of, lt::PreferenceAttribute attribute, const void* value,
                                                std::size_t bytes) {
  Pref& pref = *static_cast<Pref*>(of);
  if (attribute == lt::kMaxWorkspaceBytes) return set(pref.workspace, value, bytes);
  if (attribute == lt::kReductionSchemeMask) return set(pref.reductions, value, bytes);
  return set(pref.alignment[attribute - lt::kMinAlignmentA], value, bytes);
}
lt::Answer cublasLtMatmulPreferenceDestroy(lt::Preference of) {
  delete static_cast<Pref*>(of);
  return lt::kSuccess;
}

/// How often an algorithm was asked for.
static int questions = 0;
int pretended_cublaslt_questions() { return questions; }

/// The algorithm keeps the alignments that it was chosen for; the product demands them.
lt::Answer cublasLtMatmulAlgoGetHeuristic(lt::Handle, lt::MatmulDesc desc, lt::MatrixLayout a, lt::MatrixLayout b,
                                          lt::MatrixLayout, lt::MatrixLayout d, lt::Preference of, int,
                                          lt::HeuristicResult* results, int* found) {
  const Pref& pref = *static_cast<Pref*>(of);
  ++questions;
  *found = 0;
  if (pref.reductions != lt::kReductionComputeType) return kInvalidValue;   // the others add in D, in its type
  if (const lt::Answer answer = fits(*static_cast<Desc*>(desc), *static_cast<Layout*>(a), *static_cast<Layout*>(b),
                                     *static_cast<Layout*>(d));
      answer != lt::kSuccess)
    return answer;
  results[0].workspace_bytes = std::min<std::uint64_t>(pref.workspace, 1024);
  results[0].state = lt::kSuccess;
  std::memcpy(results[0].algorithm.data, pref.alignment, sizeof pref.alignment);
  *found = 1;
  return lt::kSuccess;
}

lt::Answer cublasLtMatmul(lt::Handle, lt::MatmulDesc of, const void* alpha, const void* a, lt::MatrixLayout a_of,
                          const void* b, lt::MatrixLayout b_of, const void* beta, const void* c, lt::MatrixLayout c_of,
                          void* d, lt::MatrixLayout d_of, const lt::Algorithm* algorithm, void* workspace,
                          std::size_t workspace_bytes, void*) {
  const Desc& desc = *static_cast<Desc*>(of);
  const Layout &x = *static_cast<Layout*>(a_of), &y = *static_cast<Layout*>(b_of), &z = *static_cast<Layout*>(d_of);
  std::uint32_t alignment[4];
  std::memcpy(alignment, algorithm->data, sizeof alignment);
  const void* const pointers[] = {a, b, c, d};
  for (int i = 0; i < 4; ++i)
    if (reinterpret_cast<std::uintptr_t>(pointers[i]) % alignment[i] != 0) return kInvalidValue;
  if (c_of != d_of || (workspace == nullptr) != (workspace_bytes == 0)) return kInvalidValue;
  if (const lt::Answer answer = fits(desc, x, y, z); answer != lt::kSuccess) return answer;
  std::memset(workspace, 0xff, workspace_bytes);
  const std::int64_t k = desc.trans_a ? x.rows : x.cols;
  const float times = *static_cast<const float*>(alpha), keep = *static_cast<const float*>(beta);
  for (std::int64_t batch = 0; batch < z.batch; ++batch)
    for (std::int64_t col = 0; col < z.cols; ++col)
      for (std::int64_t row = 0; row < z.rows; ++row) {
        double sum = 0;
        for (std::int64_t i = 0; i < k; ++i)
          sum += load(x.type, a, batch * x.stride + (desc.trans_a ? i + row * x.ld : row + i * x.ld)) *
                 load(y.type, b, batch * y.stride + (desc.trans_b ? col + i * y.ld : i + col * y.ld));
        const std::int64_t at = batch * z.stride + row + col * z.ld;
        sum *= times;
        if (keep != 0) sum += keep * load(z.type, c, at);
        if (desc.epilogue == lt::kEpilogueBias) sum += load(desc.bias_type, desc.bias, row);
        store(z.type, d, at, sum);
      }
  return lt::kSuccess;
}

}  // extern "C"
