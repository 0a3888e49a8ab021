// Marks small functions that kernels for the CPU and for CUDA share. Host compilers see nothing.
#pragma once

#ifdef __CUDACC__
#define SINTER_HOST_DEVICE __host__ __device__
#else
#define SINTER_HOST_DEVICE
#endif
