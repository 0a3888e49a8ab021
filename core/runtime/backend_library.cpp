#include "core/runtime/backend_library.h"

#include <dlfcn.h>

#include <algorithm>
#include <sstream>

#include "core/runtime/library_function.h"

namespace sinter {
namespace {

namespace fs = std::filesystem;

template <class... Parts>
BackendLibrary unusable(const Parts&... parts) {
  std::ostringstream text;
  (text << ... << parts);
  return {.why_unusable = text.str()};
}

BackendLibrary checked(const LibraryFunction& function) {
  using Exported = const kernels::BackendModule* (*)();
  const std::string path = function.path.string();
  const kernels::BackendModule* const module = reinterpret_cast<Exported>(function.address)();
  if (module->abi != kernels::kBackendAbi)
    return unusable(path, " belongs to another version of sinter (its interface has number ", module->abi,
                    ", this program's ", kernels::kBackendAbi, ")");
  if (module->device->device_count() == 0) return unusable(module->device->why_unavailable());
  using ExportedTuner = const kernels::GemmTuner* (*)();
  const auto exported_tuner = reinterpret_cast<ExportedTuner>(dlsym(function.library, "sinter_gemm_tuner"));
  const kernels::GemmTuner* const tuner = exported_tuner == nullptr ? nullptr : exported_tuner();
  if (tuner != nullptr && tuner->abi != kernels::kGemmTunerAbi)
    return unusable(path, " belongs to another version of sinter (its tables of products have number ",
                    tuner->abi, ", this program's ", kernels::kGemmTunerAbi, ")");
  return {.module = module, .gemm_tuner = tuner};
}

}  // namespace

BackendLibrary load_backend(const std::string& file, const std::vector<fs::path>& folders) {
  const LibraryFunction function = load_function(file, folders, "sinter_backend_module", "backend");
  return function.address == nullptr ? unusable(function.why_unusable) : checked(function);
}

std::vector<fs::path> backend_folders() {
  std::vector<fs::path> folders;
  const auto add = [&](const fs::path& file) {
    std::error_code failed;
    const fs::path folder = fs::canonical(file, failed).parent_path();
    if (!failed && std::find(folders.begin(), folders.end(), folder) == folders.end()) folders.push_back(folder);
  };
  add("/proc/self/exe");
  Dl_info here;
  if (dladdr(reinterpret_cast<const void*>(&backend_folders), &here) != 0 && here.dli_fname != nullptr)
    add(here.dli_fname);
  return folders;
}

}  // namespace sinter
