#include "kernels/gemm.h"

#include "kernels/base/families.h"
#include "kernels/ref/element.h"

namespace sinter::kernels::ref {
namespace {

Status run_gemm(const Gemm& p, Stream) {
  for (std::int64_t matrix = 0; matrix < p.batch; ++matrix)
    for (std::int64_t i = 0; i < p.m; ++i)
      for (std::int64_t j = 0; j < p.n; ++j) {
        double sum = 0;
        for (std::int64_t k = 0; k < p.k; ++k)
          sum += load(p.dtype, p.a, matrix * p.batch_stride_a + (p.transpose_a ? k * p.lda + i : i * p.lda + k)) *
                 load(p.dtype, p.b, matrix * p.batch_stride_b + (p.transpose_b ? j * p.ldb + k : k * p.ldb + j));
        const std::int64_t place = matrix * p.batch_stride_c + i * p.ldc + j;
        if (p.bias != nullptr) sum += load(computed_dtype(p.dtype), p.bias, j);
        if (p.accumulate) sum += load(p.dtype, p.c, place);
        store(p.dtype, p.c, place, sum);
      }
  return {};
}

constexpr Status check_gemm(const Gemm& p) {
  if (const Status status = check(p); !status.ok()) return status;
  return is_floating(p.dtype) ? Status{} : unsupported("matrices of integers are not multiplied");
}

constexpr Variant gemm_variants[] = {{"naive", "three loops, sums in f64", "the oracle", erased_run<Gemm, run_gemm>}};
constexpr KernelEntry entries[] = {entry<Gemm, check_gemm>(gemm_variants)};

}  // namespace

extern const Family gemm_family;
const Family gemm_family = family(entries);

}  // namespace sinter::kernels::ref
