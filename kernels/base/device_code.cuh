// What every .cu file includes: CUDA as nvcc compiles it, or the same names on the emulated machine (kernels/simt) when
// a host compiler does. Rules for kernels, which make one source serve both:
//
//  - Shared memory by SINTER_SHARED and SINTER_DYNAMIC_SHARED only; no __constant__, no __activemask, no cooperative
//    groups, no textures, no device malloc, no inline PTX outside nvcc.cuh.
//  - No return before a barrier or a collective of the full mask: predicate instead. A whole warp may leave when no
//    barrier follows. Masks are full, or computed from what the warp's lanes share.
//  - What lanes of a warp exchange through memory needs __syncwarp; shuffles order no memory.
//  - No waiting for other blocks: blocks run one after the other here.
//  - Arithmetic in f32 or f64; 16-bit types are read and written by load and store of vec.cuh.
//  - Indices that a kernel reads from memory are checked by it: device_fail("...") where one is out of range.
//  - Kernels are templates with explicit arguments; functors with names, not lambdas, as kernel arguments.
#pragma once

#ifdef __CUDACC__
#include "kernels/base/nvcc.cuh"
#else
#include "kernels/simt/emulation.cuh"
#endif

namespace sinter::kernels {

/// What every device of compute capability 8.0 and later lets a block have of shared memory, static and dynamic
/// together, where allow_dynamic_shared was called. A kernel that may need more asks most_shared_bytes().
inline constexpr std::size_t kSharedBytesEverywhere = 99 << 10;

}  // namespace sinter::kernels
