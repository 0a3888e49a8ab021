#include "core/runtime/backend_library.h"

#include <dlfcn.h>

#include <algorithm>
#include <sstream>

namespace sinter {
namespace {

namespace fs = std::filesystem;

template <class... Parts>
BackendLibrary unusable(const Parts&... parts) {
  std::ostringstream text;
  (text << ... << parts);
  return {.why_unusable = text.str()};
}

std::string last_words() {
  const char* said = dlerror();
  return said == nullptr ? "the system gave no reason" : said;
}

BackendLibrary load(const fs::path& path) {
  void* const library = dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL);
  if (library == nullptr) return unusable("its library cannot be loaded (", last_words(), ")");
  using Exported = const kernels::BackendModule* (*)();
  const auto exported = reinterpret_cast<Exported>(dlsym(library, "sinter_backend_module"));
  if (exported == nullptr) return unusable(path.string(), " is no backend of sinter (", last_words(), ")");
  const kernels::BackendModule* const module = exported();
  if (module->abi != kernels::kBackendAbi)
    return unusable(path.string(), " belongs to another version of sinter (its interface has number ", module->abi,
                    ", this program's ", kernels::kBackendAbi, ")");
  if (module->device->device_count() == 0) return unusable(module->device->why_unavailable());
  using ExportedTuner = const kernels::GemmTuner* (*)();
  const auto exported_tuner = reinterpret_cast<ExportedTuner>(dlsym(library, "sinter_gemm_tuner"));
  const kernels::GemmTuner* const tuner = exported_tuner == nullptr ? nullptr : exported_tuner();
  if (tuner != nullptr && tuner->abi != kernels::kGemmTunerAbi)
    return unusable(path.string(), " belongs to another version of sinter (its tables of products have number ",
                    tuner->abi, ", this program's ", kernels::kGemmTunerAbi, ")");
  return {.module = module, .gemm_tuner = tuner};
}

}  // namespace

BackendLibrary load_backend(const std::string& file, const std::vector<fs::path>& folders) {
  std::string looked_in;
  for (const fs::path& folder : folders) {
    std::error_code ignored;
    if (fs::exists(folder / file, ignored)) return load(folder / file);
    looked_in += (looked_in.empty() ? "" : " or ") + folder.string();
  }
  return unusable("it was not built: there is no ", file, " in ", looked_in);
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
