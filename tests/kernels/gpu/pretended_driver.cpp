// A libcuda.so.1 without a GPU, for cuDNN to compile plans beside: it takes compiled kernels as a driver would load
// them, as long as they are ELF files, and has nothing to run them on. Other functions answer CUDA_ERROR_NO_DEVICE.
#include <cstdint>
#include <cstring>

namespace {

constexpr int kSuccess = 0, kInvalidImage = 200, kNoDevice = 100;

int marks[3];   // a library, a kernel, a function
int loaded_kernels = 0;

int no_device() { return kNoDevice; }

}  // namespace

extern "C" {

/// For the test.
int pretended_driver_kernels() { return loaded_kernels; }

int cuDriverGetVersion(int* version) {
  *version = 13000;
  return kSuccess;
}
int cuGetErrorString(int, const char** text) {
  *text = "there is no device";
  return kSuccess;
}
int cuGetProcAddress_v2(const char* name, void** function, int, std::uint64_t, int* found) {
  *function = std::strcmp(name, "cuDriverGetVersion") == 0 ? reinterpret_cast<void*>(cuDriverGetVersion)
              : std::strcmp(name, "cuGetProcAddress") == 0 ? reinterpret_cast<void*>(cuGetProcAddress_v2)
                                                           : reinterpret_cast<void*>(no_device);
  if (found != nullptr) *found = 0;
  return kSuccess;
}

int cuLibraryLoadData(void** library, const void* image) {
  if (std::memcmp(image, "\177ELF", 4) != 0) return kInvalidImage;
  *library = &marks[0];
  return kSuccess;
}
int cuLibraryGetKernel(void** kernel, void*, const char* name) {
  if (std::strstr(name, "sdpa") == nullptr) return kInvalidImage;
  ++loaded_kernels;
  *kernel = &marks[1];
  return kSuccess;
}
int cuKernelGetFunction(void** function, void*) {
  *function = &marks[2];
  return kSuccess;
}
int cuKernelGetAttribute(int* value, int, void*, int) {
  *value = 0;
  return kSuccess;
}
int cuKernelSetAttribute(int, int, void*, int) { return kSuccess; }
int cuLibraryUnload(void*) { return kSuccess; }

#define SINTER_NO_DEVICE(name) \
  int name() { return kNoDevice; }
SINTER_NO_DEVICE(cuInit)
SINTER_NO_DEVICE(cuCtxGetCurrent)
SINTER_NO_DEVICE(cuCtxGetLimit)
SINTER_NO_DEVICE(cuCtxPopCurrent)
SINTER_NO_DEVICE(cuCtxPushCurrent)
SINTER_NO_DEVICE(cuDeviceGet)
SINTER_NO_DEVICE(cuDeviceGetCount)
SINTER_NO_DEVICE(cuGetErrorName)
SINTER_NO_DEVICE(cuLaunchCooperativeKernel)
SINTER_NO_DEVICE(cuLaunchKernel)
SINTER_NO_DEVICE(cuLaunchKernelEx)
SINTER_NO_DEVICE(cuLibraryLoadFromFile)
SINTER_NO_DEVICE(cuLinkAddData)
SINTER_NO_DEVICE(cuLinkComplete)
SINTER_NO_DEVICE(cuLinkCreate)
SINTER_NO_DEVICE(cuLinkDestroy)
SINTER_NO_DEVICE(cuModuleGetFunction)
SINTER_NO_DEVICE(cuModuleLoadData)
SINTER_NO_DEVICE(cuModuleUnload)
SINTER_NO_DEVICE(cuOccupancyMaxPotentialClusterSize)
SINTER_NO_DEVICE(cuStreamGetCtx)
SINTER_NO_DEVICE(cuTensorMapEncodeIm2col)
SINTER_NO_DEVICE(cuTensorMapEncodeTiled)
#undef SINTER_NO_DEVICE

}  // extern "C"
