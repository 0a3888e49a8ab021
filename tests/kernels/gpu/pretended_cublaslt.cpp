// A libcublasLt that computes on the host: what kernels/cuda/cublaslt.cpp asks of the real one is so tested without a
// GPU. It is written from the library's documentation, and strict: an attribute of the wrong size, a matrix that does
// not fit its leading dimension, a bias of another type than D or a pointer that is less aligned than the algorithm was
// asked for is refused, and so is a split K whose parts could be added in 16 bits. Which algorithms it offers, and how
// long each of them takes by its own clock, is what a test says (pretended_cublaslt.h).
#include "tests/kernels/gpu/pretended_cublaslt.h"

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <vector>

#include "kernels/base/dtype.h"
#include "kernels/cuda/cublaslt_abi.h"

namespace {

namespace lt = sinter::kernels::cuda::lt;
using namespace sinter::kernels;
using testing::Offer;

std::vector<Offer> offers(1);
double clock_milliseconds = 0;
int questions = 0;
std::size_t version = 130100;

/// What an algorithm's bytes hold.
struct Words {
  std::uint32_t alignment[4];
  std::uint64_t offer, reductions, workspace, unused[2], magic;
};
static_assert(sizeof(Words) == sizeof(lt::Algorithm));
constexpr std::uint64_t kMagic = 0x73696e746572, kMostParts = 8;

Words words_of(const lt::Algorithm& algorithm) {
  Words words;
  std::memcpy(&words, &algorithm, sizeof words);
  return words;
}

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

std::size_t cublasLtGetVersion() { return version; }
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

void pretended_cublaslt_offer(const Offer* first, int count) { offers.assign(first, first + count); }
void pretended_cublaslt_version(std::size_t number) { version = number; }
int pretended_cublaslt_questions() { return questions; }
double pretended_cublaslt_clock() { return clock_milliseconds; }

/// The algorithm keeps the alignments that it was chosen for; the product demands them.
lt::Answer cublasLtMatmulAlgoGetHeuristic(lt::Handle, lt::MatmulDesc desc, lt::MatrixLayout a, lt::MatrixLayout b,
                                          lt::MatrixLayout, lt::MatrixLayout d, lt::Preference of, int wanted,
                                          lt::HeuristicResult* results, int* found) {
  const Pref& pref = *static_cast<Pref*>(of);
  ++questions;
  *found = 0;
  if (pref.reductions != lt::kReductionComputeType) return kInvalidValue;   // the others add in D, in its type
  if (const lt::Answer answer = fits(*static_cast<Desc*>(desc), *static_cast<Layout*>(a), *static_cast<Layout*>(b),
                                     *static_cast<Layout*>(d));
      answer != lt::kSuccess)
    return answer;
  for (std::size_t i = 0; i < offers.size() && *found < wanted; ++i) {
    lt::HeuristicResult& result = results[(*found)++];
    result.workspace_bytes = pref.workspace == 0 ? 0 : offers[i].workspace;
    result.state = offers[i].refused ? kNotSupported : lt::kSuccess;
    Words words{.offer = i, .reductions = offers[i].reductions, .workspace = result.workspace_bytes, .magic = kMagic};
    std::memcpy(words.alignment, pref.alignment, sizeof words.alignment);
    std::memcpy(&result.algorithm, &words, sizeof words);
  }
  return lt::kSuccess;
}

lt::Answer cublasLtMatmulAlgoCheck(lt::Handle, lt::MatmulDesc desc, lt::MatrixLayout a, lt::MatrixLayout b,
                                   lt::MatrixLayout, lt::MatrixLayout d, const lt::Algorithm* algorithm,
                                   lt::HeuristicResult* result) {
  const Words words = words_of(*algorithm);
  if (words.magic != kMagic || words.offer >= offers.size()) return kInvalidValue;
  if (const lt::Answer answer = fits(*static_cast<Desc*>(desc), *static_cast<Layout*>(a), *static_cast<Layout*>(b),
                                     *static_cast<Layout*>(d));
      answer != lt::kSuccess)
    return answer;
  *result = {.algorithm = *algorithm, .workspace_bytes = words.workspace, .state = lt::kSuccess};
  return lt::kSuccess;
}
lt::Answer cublasLtMatmulAlgoConfigGetAttribute(const lt::Algorithm* algorithm, lt::AlgorithmAttribute attribute,
                                                void* value, std::size_t bytes, std::size_t* written) {
  const auto reductions = static_cast<std::uint32_t>(words_of(*algorithm).reductions);
  if (attribute != lt::kReductionScheme || bytes != sizeof reductions) return kInvalidValue;
  std::memcpy(value, &reductions, bytes);
  *written = bytes;
  return lt::kSuccess;
}
lt::Answer cublasLtMatmulAlgoCapGetAttribute(const lt::Algorithm* algorithm, lt::AlgorithmDemand demand, void* value,
                                             std::size_t bytes, std::size_t* written) {
  const Words words = words_of(*algorithm);
  if (bytes != sizeof words.alignment[0]) return kInvalidValue;
  std::memcpy(value, &words.alignment[demand - lt::kDemandedAlignmentA], bytes);
  *written = bytes;
  return lt::kSuccess;
}

lt::Answer cublasLtMatmul(lt::Handle, lt::MatmulDesc of, const void* alpha, const void* a, lt::MatrixLayout a_of,
                          const void* b, lt::MatrixLayout b_of, const void* beta, const void* c, lt::MatrixLayout c_of,
                          void* d, lt::MatrixLayout d_of, const lt::Algorithm* algorithm, void* workspace,
                          std::size_t workspace_bytes, void*) {
  const Desc& desc = *static_cast<Desc*>(of);
  const Layout &x = *static_cast<Layout*>(a_of), &y = *static_cast<Layout*>(b_of), &z = *static_cast<Layout*>(d_of);
  const Words words = words_of(*algorithm);
  const void* const pointers[] = {a, b, c, d};
  for (int i = 0; i < 4; ++i)
    if (reinterpret_cast<std::uintptr_t>(pointers[i]) % words.alignment[i] != 0) return kInvalidValue;
  if (c_of != d_of || workspace_bytes != words.workspace || (workspace == nullptr && workspace_bytes > 0))
    return kInvalidValue;
  const Offer& offer = offers[words.offer];
  if (offer.fails) return kNotSupported;
  clock_milliseconds += offer.milliseconds;
  if (const lt::Answer answer = fits(desc, x, y, z); answer != lt::kSuccess) return answer;
  if (workspace_bytes > 0) std::memset(workspace, 0xff, workspace_bytes);
  const std::int64_t k = desc.trans_a ? x.rows : x.cols;
  const float times = *static_cast<const float*>(alpha), keep = *static_cast<const float*>(beta);
  for (std::int64_t batch = 0; batch < z.batch; ++batch)
    for (std::int64_t col = 0; col < z.cols; ++col)
      for (std::int64_t row = 0; row < z.rows; ++row) {
        const auto term = [&](std::int64_t i) {
          return load(x.type, a, batch * x.stride + (desc.trans_a ? i + row * x.ld : row + i * x.ld)) *
                 load(y.type, b, batch * y.stride + (desc.trans_b ? col + i * y.ld : i + col * y.ld));
        };
        double sum = 0;
        float part[kMostParts] = {};   // of offers behind the first, each of which rounds in its own way
        for (std::int64_t i = 0; i < k; ++i) {
          if (words.offer == 0)
            sum += term(i);
          else
            part[static_cast<std::uint64_t>(i) % std::min(words.offer, kMostParts)] += static_cast<float>(term(i));
        }
        for (const float each : part) sum += static_cast<double>(each);
        const std::int64_t at = batch * z.stride + row + col * z.ld;
        sum *= times;
        if (keep != 0) sum += keep * load(z.type, c, at);
        if (desc.epilogue == lt::kEpilogueBias) sum += load(desc.bias_type, desc.bias, row);
        store(z.type, d, at, sum);
      }
  return lt::kSuccess;
}

}  // extern "C"
