#include "core/io/safetensors_set.h"

#include <map>
#include <set>
#include <string>
#include <system_error>

#include "core/error.h"
#include "core/io/json.h"
#include "core/io/shown.h"

namespace sinter {
namespace fs = std::filesystem;
namespace {

/// Tensors of each shard, by name.
using ShardMap = std::map<std::string, std::set<std::string>>;

// A name from a file is never joined to a path unless it can only mean a file beside it.
bool is_plain_file_name(const std::string& name) {
  return !name.empty() && name != "." && name != ".." && name.find_first_of(std::string_view("/\\\0", 3)) == name.npos;
}

ShardMap read_weight_map(const Json& index) {
  ShardMap shards;
  const Json& weight_map = index.at("weight_map");
  for (const auto& [tensor, shard] : index.items("weight_map")) {
    const std::string name = weight_map.get<std::string>(tensor);
    if (!is_plain_file_name(name)) weight_map.refuse(tensor, "be the plain name of a file beside the index");
    shards[name].insert(tensor);
  }
  if (shards.empty()) index.refuse("weight_map", "name at least one tensor");
  return shards;
}

/// Every tensor of the shard stands in the index under this shard, and the other way round.
void check_shard(const std::string& index, const ShardMap& shards, const std::string& name,
                 const SafetensorsFile& file) {
  const auto& expected = shards.at(name);
  for (const SafetensorsEntry& entry : file.tensors()) {
    if (expected.contains(entry.name)) continue;
    for (const auto& [other, tensors] : shards)
      if (tensors.contains(entry.name))
        fail(ErrorCode::bad_input, index, ": tensor ", shown(entry.name), " is in ", shown(name),
             ", the index says that it is in ", shown(other));
    fail(ErrorCode::bad_input, index, ": ", shown(name), " holds the tensor ", shown(entry.name),
         ", which the index does not list");
  }
  for (const std::string& tensor : expected)
    if (file.find(tensor) == nullptr)
      fail(ErrorCode::bad_input, index, ": tensor ", shown(tensor), " is not in ", shown(name),
           ", where the index says that it is");
}

}  // namespace

SafetensorsSet::SafetensorsSet(const fs::path& path) : path_(path) {
  if (path.filename().string().ends_with(".index.json"))
    open_shards();
  else
    add(files_.emplace_back(path));
}

void SafetensorsSet::open_shards() {
  const Json index = Json::load(path_);
  const ShardMap shards = read_weight_map(index);
  for (const auto& [name, tensors] : shards) {
    const fs::path file = path_.parent_path() / name;
    std::error_code unreadable;
    if (!fs::exists(file, unreadable) && !unreadable)
      fail(ErrorCode::bad_input, path_.string(), " lists the shard ", shown(name),
           ", which is not there: the download is incomplete");
    files_.emplace_back(file);
  }
  auto file = files_.begin();
  for (const auto& [name, tensors] : shards) {
    check_shard(path_.string(), shards, name, *file);
    add(*file++);
  }
  const Json* metadata = index.find("metadata");
  if (metadata == nullptr || metadata->is_null() || index.items("metadata").empty()) return;
  // Some writers give it as 1.2e9: read as a number, exact up to 2^53.
  if (const double total = metadata->get_or<double>("total_size", static_cast<double>(bytes_));
      total != static_cast<double>(bytes_))
    metadata->refuse("total_size", "be " + std::to_string(bytes_) + ", the bytes of all tensors of the shards");
}

void SafetensorsSet::add(const SafetensorsFile& file) {
  for (const SafetensorsEntry& entry : file.tensors()) {
    tensors_.push_back({&entry, &file});
    bytes_ += entry.bytes();
  }
}

std::optional<fs::path> SafetensorsSet::find_in(const fs::path& folder) {
  for (const char* name : {"model.safetensors", "model.safetensors.index.json"}) {
    std::error_code unreadable;
    if (fs::exists(folder / name, unreadable)) return folder / name;
  }
  return std::nullopt;
}

}  // namespace sinter
