// Folders that appear in one step, and the manifest that proves that they are whole.
#pragma once

#include <filesystem>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "core/io/files.h"
#include "core/io/json.h"

namespace sinter {

/// A folder that appears whole or not at all. Its files are written to a hidden sibling `.tmp-NAME.PID`; `commit`
/// writes manifest.json last, syncs, and renames the folder into place. A process killed at any point leaves the old
/// folder, or the new one, and at most a sibling that `remove_leftovers` clears.
class StagedFolder {
 public:
  static constexpr const char* kManifest = "manifest.json";

  /// `target` may exist when it is empty, or when its manifest lists every file in it: then `commit` exchanges the
  /// two. Anything else is refused (Error usage), so that no foreign file is ever lost. Missing parents are created.
  explicit StagedFolder(std::filesystem::path target);
  ~StagedFolder();  ///< removes the staging folder when it was not committed
  StagedFolder(const StagedFolder&) = delete;
  StagedFolder& operator=(const StagedFolder&) = delete;

  /// Writes and syncs one file. `name` is a plain file name, given once.
  void write(const std::string& name, const std::function<void(OutputFile&)>& fill);
  void write(const std::string& name, std::string_view bytes);

  /// `facts` (an object, e.g. the step) stands in the manifest before format_version and files: [{name, size,
  /// sha256}].
  void commit(const Json& facts = Json::object());

 private:
  std::filesystem::path target_;
  std::filesystem::path staging_;
  Json files_ = Json::array();
  bool committed_ = false;
};

/// Checks every file that folder/manifest.json lists: present, a regular file, its size, its SHA-256. One sentence
/// for each fault; empty when the folder is sound. A missing or unreadable manifest is a fault too. Reads all bytes
/// of the folder.
std::vector<std::string> verify_manifest(const std::filesystem::path& folder);

/// Why a StagedFolder would not replace what stands at `target`, in a sentence; "" where it would.
std::string why_not_replaced(const std::filesystem::path& target);

/// Removes a folder that holds nothing but what its manifest lists, after renaming it, so that a kill leaves no half of
/// it under its name. Otherwise, or when the system refuses, nothing is removed, and the reason is returned; "": done.
std::string remove_staged(const std::filesystem::path& folder);

/// True for the names that unfinished folders and files have: ".tmp-NAME.PID".
bool is_leftover(std::string_view name);
/// Removes what killed processes left in `parent`. The caller holds whatever lock keeps other writers out of `parent`.
/// Returns how many there were.
int remove_leftovers(const std::filesystem::path& parent);

}  // namespace sinter
