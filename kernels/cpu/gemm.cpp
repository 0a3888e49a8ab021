#include "kernels/gemm.h"

#include "kernels/base/families.h"
#include "kernels/cpu/gemm_variants.h"

namespace sinter::kernels::cpu {
namespace {

constexpr Status check_gemm(const Gemm& p) {
  if (const Status status = check(p); !status.ok()) return status;
  if (p.dtype != Dtype::f32 && p.dtype != Dtype::f64) return unsupported("the CPU multiplies f32 and f64 only");
  return {};
}

constexpr Variant gemm_variants[] = {
    {"eigen", "one single-threaded Eigen product for each slice of C",
     "58 to 104 % of packed at BERT's shapes; never selected, because a row's bits depend on the number of rows",
     erased_run<Gemm, run_gemm_eigen>},
    {"packed", "operands packed into panels for a register tile; one fixed chain of FMAs for every element of C",
     "97 % of oneDNN on average (bench/results/cpu_kernels.md); always selected", erased_run<Gemm, run_gemm_packed>},
};

// Eigen's order of operations for a row changes with the number of rows, and the contract forbids that.
constexpr int select_gemm(const Gemm&) { return 1; }

constexpr KernelEntry entries[] = {entry<Gemm, check_gemm, no_workspace<Gemm>, select_gemm>(gemm_variants)};

}  // namespace

extern const Family gemm_family;
const Family gemm_family = family(entries);

}  // namespace sinter::kernels::cpu
