#include "core/io/hub_cache.h"

#include <algorithm>
#include <cstdlib>
#include <optional>
#include <system_error>
#include <vector>

#include "core/error.h"
#include "core/io/files.h"

namespace sinter {
namespace fs = std::filesystem;
namespace {

using Names = std::initializer_list<std::string_view>;

constexpr const char* kFirstBertOrg = "google-bert";

std::optional<std::string> variable(const char* name) {
  const char* value = std::getenv(name);
  return value != nullptr && *value != '\0' ? std::optional<std::string>(value) : std::nullopt;
}

fs::path with_home(const std::string& path) {
  const std::optional<std::string> home = variable("HOME");
  const bool relative_to_home = path == "~" || path.starts_with("~/");
  return relative_to_home && home ? fs::path(*home + path.substr(1)) : fs::path(path);
}

[[noreturn]] void fail_unreadable(const fs::path& path, const std::error_code& reason) {
  fail(ErrorCode::io, "cannot examine ", path.string(), ": ", reason.message());
}

/// Whether a file is there, a link followed: a snapshot's files are links to blobs. A link to nothing is a broken
/// download.
bool has_any(const fs::path& folder, Names files) {
  return std::ranges::any_of(files, [&](std::string_view file) {
    std::error_code unreadable;
    const bool there = fs::exists(folder / file, unreadable);
    if (unreadable) fail_unreadable(folder / file, unreadable);
    return there;
  });
}

bool is_folder(const fs::path& path) {
  std::error_code unreadable;
  const bool there = fs::exists(path, unreadable);
  if (unreadable) fail_unreadable(path, unreadable);
  return there && fs::is_directory(path, unreadable);
}

std::string listed(Names files) {
  std::string text;
  for (const std::string_view file : files) text.append(text.empty() ? "" : " or ").append(file);
  return text;
}

/// HF's rule for "name" and "org/name"; anything else can only be a path.
bool is_hub_name(const std::string& name) {
  const auto plain = [](std::string_view part) {
    const auto allowed = [](unsigned char c) {
      return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-' || c == '_' ||
             c == '.';
    };
    const auto at_border = [](char c) { return c == '-' || c == '.'; };
    return !part.empty() && std::ranges::all_of(part, allowed) && !at_border(part.front()) &&
           !at_border(part.back()) && part.find("--") == part.npos && part.find("..") == part.npos;
  };
  const std::size_t slash = name.find('/');
  if (name.size() > 96) return false;
  if (slash == std::string::npos) return plain(name);
  return plain(std::string_view(name).substr(0, slash)) && plain(std::string_view(name).substr(slash + 1));
}

/// The commit that refs/main names; nothing when it is absent or could not be the name of a folder.
std::optional<std::string> main_commit(const fs::path& repository) {
  try {
    std::string commit = read_file(repository / "refs/main", 256);
    while (!commit.empty() && static_cast<unsigned char>(commit.back()) <= ' ') commit.pop_back();
    const auto in_a_hash = [](unsigned char c) { return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f'); };
    if (!commit.empty() && std::ranges::all_of(commit, in_a_hash)) return commit;
  } catch (const Error&) {  // a cache without it is usable, see the caller
  }
  return std::nullopt;
}

/// The snapshot to use; nothing when none has a needed file.
std::optional<fs::path> find_snapshot(const fs::path& repository, Names needed) {
  const fs::path snapshots = repository / "snapshots";
  if (const auto commit = main_commit(repository); commit && is_folder(snapshots / *commit)) {
    // Never an older snapshot instead: model and tokenizer would come from different commits unseen.
    if (has_any(snapshots / *commit, needed)) return snapshots / *commit;
    return std::nullopt;
  }
  std::optional<fs::path> newest;
  fs::file_time_type newest_time;
  if (!is_folder(snapshots)) return newest;
  std::error_code unreadable;
  fs::directory_iterator entries(snapshots, unreadable);
  if (unreadable) fail_unreadable(snapshots, unreadable);
  for (const fs::directory_entry& entry : entries) {
    if (!has_any(entry.path(), needed)) continue;
    const fs::file_time_type time = entry.last_write_time(unreadable);
    const bool newer = !newest || time > newest_time || (time == newest_time && entry.path() > *newest);
    if (newer) {
      newest = entry.path();
      newest_time = time;
    }
  }
  return newest;
}

[[noreturn]] void fail_not_cached(const std::string& name, Names needed, const fs::path& cache,
                                  const std::vector<fs::path>& repositories) {
  std::string looked;
  std::string found;
  for (const fs::path& repository : repositories) {
    looked += (looked.empty() ? "" : " and ") + repository.filename().string();
    if (found.empty() && is_folder(repository)) found = repository.string();
  }
  const std::string fetch = "fetch it with: hf download " + name + R"( "*.json" "*.txt" "*.safetensors")";
  if (!found.empty())
    fail(ErrorCode::not_found, name, " in HF's cache has no ", listed(needed), " (looked in ", found,
         "/snapshots); ", fetch);
  fail(ErrorCode::not_found, "there is no folder ", name, ", and HF's cache has no such model (looked for ", looked,
       " in ", cache.empty() ? std::string("no folder: HOME is not set") : cache.string(), "); ", fetch);
}

}  // namespace

fs::path hub_cache_folder() {
  if (const auto hub = variable("HF_HUB_CACHE")) return with_home(*hub);
  if (const auto home = variable("HF_HOME")) return with_home(*home) / "hub";
  if (const auto caches = variable("XDG_CACHE_HOME")) return with_home(*caches) / "huggingface/hub";
  if (const auto home = variable("HOME")) return fs::path(*home) / ".cache/huggingface/hub";
  return {};
}

fs::path resolve_pretrained(const std::string& name_or_path, Names needed_files, const fs::path& cache) {
  if (name_or_path.empty()) fail(ErrorCode::usage, "the name of the model is empty, it must be a folder or a name");
  const fs::path folder = with_home(name_or_path);
  if (is_folder(folder)) {
    if (has_any(folder, needed_files)) return folder;
    fail(ErrorCode::not_found, "the folder ", folder.string(), " has no ", listed(needed_files),
         "; copy it from where the model came");
  }
  std::error_code unreadable;
  if (fs::exists(folder, unreadable))
    fail(ErrorCode::bad_input, folder.string(), " is a file, it must be the folder of a model");
  if (!is_hub_name(name_or_path)) fail(ErrorCode::not_found, "there is no folder ", name_or_path);

  std::string flat = name_or_path;
  const std::size_t slash = flat.find('/');
  if (slash != std::string::npos) flat.replace(slash, 1, "--");
  std::vector<fs::path> repositories = {cache / ("models--" + flat)};
  if (slash == std::string::npos)
    repositories.push_back(cache / (std::string("models--") + kFirstBertOrg + "--" + flat));
  for (const fs::path& repository : repositories)
    if (!cache.empty())
      if (const auto snapshot = find_snapshot(repository, needed_files)) return *snapshot;
  fail_not_cached(name_or_path, needed_files, cache, repositories);
}

fs::path resolve_pretrained(const std::string& name_or_path, std::string_view needed_file, const fs::path& cache) {
  return resolve_pretrained(name_or_path, {needed_file}, cache);
}

}  // namespace sinter
