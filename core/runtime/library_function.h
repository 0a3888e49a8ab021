// Functions of shared libraries that stand beside the program, so that one program starts on every machine.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

namespace sinter {

/// A function that a library exports, or the reason why it cannot be used.
struct LibraryFunction {
  void* address = nullptr;      ///< null where it cannot be used
  std::string why_unusable;     ///< half a sentence: "it was not built: there is no ..."; "" where it can
  std::filesystem::path path;   ///< of the library, empty where no folder has it
  void* library = nullptr;      ///< for dlsym(); stays loaded for ever
};

/// Loads library `file` ("libsinter_cuda.so") from the first of `folders` that has it, and finds function `name` in it.
/// Anything that is wrong with it is an answer and not an exception: no such file, a file that the system cannot load
/// (its own words), a library without that function, which is no `kind` ("backend") then.
LibraryFunction load_function(const std::string& file, const std::vector<std::filesystem::path>& folders,
                              const char* name, const char* kind);

}  // namespace sinter
