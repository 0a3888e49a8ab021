// Which checkpoints are there, and which go.
#include <algorithm>
#include <charconv>

#include "core/error.h"
#include "core/io/files.h"
#include "core/io/staged_folder.h"
#include "core/log.h"
#include "train/best_model.h"
#include "train/checkpoint.h"

namespace sinter::train {

void check_output_dir(const std::filesystem::path& output_dir) {
  if (std::filesystem::exists(output_dir) && !std::filesystem::is_directory(output_dir))
    fail(ErrorCode::usage, "output_dir ", output_dir.string(), " is not a folder; choose another one");
  try {
    probe_writable(output_dir);
  } catch (const Error& error) {
    fail(ErrorCode::usage, "output_dir ", output_dir.string(), " cannot be written (", error.what(),
         "); choose another one");
  }
  for (const char* file : {"config.json", "model.safetensors", "trainer_state.json", "all_results.json"})
    if (std::filesystem::is_directory(output_dir / file))
      fail(ErrorCode::usage, "output_dir ", output_dir.string(), " has a folder ", file,
           " where a file of this name will be written; choose another one");
}

std::filesystem::path checkpoint_folder(const std::filesystem::path& output_dir, std::int64_t step) {
  return output_dir / ("checkpoint-" + std::to_string(step));
}

std::vector<CheckpointFolder> list_checkpoints(const std::filesystem::path& output_dir) {
  std::vector<CheckpointFolder> found;
  if (!std::filesystem::is_directory(output_dir)) return found;
  constexpr std::string_view kPrefix = "checkpoint-";
  for (const auto& entry : std::filesystem::directory_iterator(output_dir)) {
    const std::string name = entry.path().filename().string();
    if (!entry.is_directory() || !name.starts_with(kPrefix)) continue;
    std::int64_t step = -1;
    const char* end = name.data() + name.size();
    const auto [stop, error] = std::from_chars(name.data() + kPrefix.size(), end, step);
    const bool ours = error == std::errc{} && stop == end && step >= 0 && name == checkpoint_folder("", step);
    if (ours) found.push_back({step, entry.path()});
  }
  std::sort(found.begin(), found.end(), [](const auto& a, const auto& b) { return a.step < b.step; });
  return found;
}

std::optional<std::filesystem::path> newest_valid_checkpoint(const std::filesystem::path& output_dir) {
  std::vector<CheckpointFolder> folders = list_checkpoints(output_dir);
  for (auto folder = folders.rbegin(); folder != folders.rend(); ++folder) {
    const std::vector<std::string> faults = verify_manifest(folder->path);
    if (faults.empty()) return folder->path;
    log_info(folder->path.string() + " is not valid and is passed over: " + faults.front());
  }
  return std::nullopt;
}

void remove_checkpoint(const std::filesystem::path& folder) {
  if (const std::string reason = remove_staged(folder); !reason.empty()) log_info("an old checkpoint stays: " + reason);
}

void rotate_checkpoints(const std::filesystem::path& output_dir, std::int64_t limit, std::int64_t current,
                        std::optional<std::int64_t> best) {
  std::vector<std::int64_t> steps;
  for (const CheckpointFolder& folder : list_checkpoints(output_dir)) steps.push_back(folder.step);
  for (const std::int64_t step : surplus_checkpoints(steps, limit, current, best))
    remove_checkpoint(checkpoint_folder(output_dir, step));
}

}  // namespace sinter::train
