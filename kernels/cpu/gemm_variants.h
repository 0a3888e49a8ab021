// The ways in which this folder computes kernels/gemm.h. Internal to kernels/cpu/gemm*.cpp.
#pragma once

#include "kernels/base/stream.h"
#include "kernels/gemm.h"

namespace sinter::kernels::cpu {

/// Eigen's product on slices of C that are fixed by the shape (gemm_eigen.cpp).
Status run_gemm_eigen(const Gemm& p, Stream stream);

/// Packed panels and our own micro-kernel (gemm_packed.cpp).
Status run_gemm_packed(const Gemm& p, Stream stream);

}  // namespace sinter::kernels::cpu
