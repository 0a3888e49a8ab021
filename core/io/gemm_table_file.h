// Tables of tuned matrix products (kernels/gemm_table.h) as files: in checkpoints, and in a cache that runs share.
//
//   {"format": 1, "library": "cuBLASLt 13.1.0", "gpu": "NVIDIA H200, ...",
//    "entries": [{"dtype": "f16", "transpose_a": false, ..., "m": 256, ..., "algorithm": "<128 hexadecimal digits>"}]}
//
// An entry has every member of kernels::GemmProblem by its name, and the library's own words for the algorithm.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "core/io/json.h"
#include "kernels/gemm_table.h"

namespace sinter {

/// Choices mean nothing to another release of the library, or to another GPU.
struct GemmTable {
  std::string library, gpu;
  std::vector<kernels::GemmChoice> choices;

  Json to_json() const;
  /// Error(bad_input) for what is no such file: another format, a member too many or too few, a value out of its range,
  /// a problem that is there twice, more than kernels::kMostGemmChoices entries. Whether an algorithm can compute its
  /// product is for the library to say.
  static GemmTable from_json(const Json& json);
};

/// $XDG_CACHE_HOME/sinter, else ~/.cache/sinter; an empty path where neither variable says where. A variable that is
/// empty, or a cache folder that is no absolute path, counts as not set.
std::filesystem::path cache_folder();

/// The file for one library and GPU in `folder`: "gemm-cublaslt-13.1.0-nvidia-h200-....json".
std::filesystem::path gemm_cache_file(const std::filesystem::path& folder, const std::string& library,
                                      const std::string& gpu);

}  // namespace sinter
