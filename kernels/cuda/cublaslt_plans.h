// How cuBLASLt is told a product, and which algorithms it has for it. Behind kernels/cuda/cublaslt.h.
#pragma once

#include <cstddef>
#include <optional>
#include <string>
#include <vector>

#include "kernels/cuda/cublaslt_abi.h"
#include "kernels/gemm.h"
#include "kernels/gemm_table.h"

namespace sinter::kernels::cuda::lt {

/// The library, loaded once. `why_not` is "" where it can be used.
struct Library {
  Functions functions{};
  std::string why_not;
};
const Library& library();

/// device_error with the library's words for what is no success.
Status status_of(Answer answer);

/// The first answer that is no success.
class Answers {
 public:
  Answers& operator<<(Answer answer) {
    if (first_ == kSuccess) first_ = answer;
    return *this;
  }
  bool ok() const { return first_ == kSuccess; }
  Status status() const { return status_of(first_); }

 private:
  Answer first_ = kSuccess;
};

/// An algorithm, and how much of the workspace it uses.
struct Choice {
  Algorithm algorithm{};
  std::size_t workspace_bytes = 0;
};

/// A product that the library has been told. The descriptors live until the process ends.
struct Plan {
  MatmulDesc product = nullptr;
  MatrixLayout a = nullptr, b = nullptr, c = nullptr;
  std::optional<Choice> first;   ///< the heuristic's; nothing where the library does not compute this product
};

/// f32, f16 and bf16.
bool is_taken(Dtype dtype);

GemmProblem problem_of(const Gemm& p);

/// Tells the library the product and asks for its first algorithm. `bias` is the pointer of the first call, or any
/// other that is aligned as the problem says. On the host alone.
void make_plan(Handle handle, const GemmProblem& problem, const void* bias, Plan* plan);

/// Up to `most` algorithms, the plan's first one first, then those that the heuristic proposes, in its order. All have
/// enough workspace and add up in a fixed order, in f32.
std::vector<Choice> proposals(Handle handle, const GemmProblem& problem, const Plan& plan, int most);

/// Whether an algorithm that was read from somewhere may compute the product, as proposals() says; `unsupported` with
/// the rule where not.
Status check(Handle handle, const GemmProblem& problem, const Plan& plan, const Algorithm& algorithm, Choice* choice);

/// Puts the product into the stream; nobody else may use the plan meanwhile. The pointers are aligned as the problem.
Status multiply(Handle handle, const Plan& plan, const Choice& choice, const Gemm& p, Stream stream);

}  // namespace sinter::kernels::cuda::lt
