#include "core/runtime/library_function.h"

#include <dlfcn.h>

namespace sinter {
namespace {

namespace fs = std::filesystem;

std::string last_words() {
  const char* said = dlerror();
  return said == nullptr ? "the system gave no reason" : said;
}

LibraryFunction load(const fs::path& path, const char* name, const std::string& kind) {
  LibraryFunction function{.path = path};
  function.library = dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL);
  if (function.library == nullptr) {
    function.why_unusable = "its library cannot be loaded (" + last_words() + ")";
    return function;
  }
  function.address = dlsym(function.library, name);
  if (function.address == nullptr)
    function.why_unusable = path.string() + " is no " + kind + " of sinter (" + last_words() + ")";
  return function;
}

}  // namespace

LibraryFunction load_function(const std::string& file, const std::vector<fs::path>& folders, const char* name,
                              const char* kind) {
  std::string looked_in;
  for (const fs::path& folder : folders) {
    std::error_code ignored;
    if (fs::exists(folder / file, ignored)) return load(folder / file, name, kind);
    looked_in += (looked_in.empty() ? "" : " or ") + folder.string();
  }
  return {.why_unusable = "it was not built: there is no " + file + " in " + looked_in};
}

}  // namespace sinter
