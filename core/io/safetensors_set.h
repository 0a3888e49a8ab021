// The weights of a model folder: one safetensors file, or several with an index.
#pragma once

#include <cstdint>
#include <deque>
#include <filesystem>
#include <optional>
#include <vector>

#include "core/io/safetensors.h"

namespace sinter {

/// The tensors of one safetensors file, or of the shards that an index lists, as HF writes them for large models:
///
///   model.safetensors.index.json = {"metadata": {"total_size": bytes}, "weight_map": {tensor: shard}}
///
/// Opening an index opens every shard and checks both ways: a shard is a plain file name beside the index, it is there,
/// it holds exactly the tensors that the index gives to it, and total_size, where it is given, is the sum of their
/// bytes. Each broken rule is an Error bad_input of one sentence. Reads no data.
class SafetensorsSet {
 public:
  /// `path` ends in .index.json, or is a safetensors file.
  explicit SafetensorsSet(const std::filesystem::path& path);

  struct Tensor {
    const SafetensorsEntry* entry = nullptr;
    const SafetensorsFile* file = nullptr;  ///< which holds it
  };
  const std::vector<Tensor>& tensors() const { return tensors_; }  ///< shard after shard, in the order of their data
  std::uint64_t bytes() const { return bytes_; }                   ///< of all tensors
  const std::filesystem::path& path() const { return path_; }

  /// The weights in `folder`: model.safetensors, else model.safetensors.index.json; nothing when there is neither.
  static std::optional<std::filesystem::path> find_in(const std::filesystem::path& folder);

 private:
  void open_shards();
  void add(const SafetensorsFile& file);

  std::filesystem::path path_;
  std::deque<SafetensorsFile> files_;  // tensors_ points into them
  std::vector<Tensor> tensors_;
  std::uint64_t bytes_ = 0;
};

}  // namespace sinter
