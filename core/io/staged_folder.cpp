#include "core/io/staged_folder.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <set>
#include <system_error>

#include "core/error.h"

namespace sinter {
namespace fs = std::filesystem;
namespace {

constexpr const char* kLeftover = ".tmp-";
constexpr const char* kMovedAside = ".old";
constexpr std::size_t kMaxManifestBytes = std::size_t{4} << 20;

bool is_plain_name(std::string_view name) {
  return !name.empty() && name != "." && name != ".." && name.size() <= 255 &&
         name.find_first_of(std::string_view("/\0", 2)) == std::string_view::npos;
}

Json load_manifest(const fs::path& folder) {
  JsonLimits limits;
  limits.max_bytes = kMaxManifestBytes;
  return Json::load(folder / StagedFolder::kManifest, limits);
}

// An entry of the folder that its manifest does not list; "" where there is none.
std::string foreign_entry(const fs::path& folder) {
  std::set<std::string> ours = {StagedFolder::kManifest};
  if (fs::exists(folder / StagedFolder::kManifest)) {
    const Json manifest = load_manifest(folder);
    for (const Json& file : manifest.at("files").elements()) ours.insert(file.get<std::string>("name"));
  }
  for (const auto& entry : fs::directory_iterator(folder)) {
    const std::string name = entry.path().filename().string();
    if (!ours.contains(name) || !entry.is_regular_file()) return name;
  }
  return "";
}

void check_replaceable(const fs::path& target) {
  if (const std::string reason = why_not_replaced(target); !reason.empty())
    fail(ErrorCode::usage, reason, "; saving would remove it, name another folder");
}

fs::path make_staging_folder(const fs::path& target) {
  const std::string base = kLeftover + target.filename().string() + "." + std::to_string(::getpid());
  for (int attempt = 0;; ++attempt) {  // a killed process with our number may have left one
    const fs::path staging = target.parent_path() / (attempt == 0 ? base : base + "-" + std::to_string(attempt));
    if (::mkdir(staging.c_str(), 0777) == 0) return staging;
    if (errno != EEXIST || attempt == 100) fail_system("create the folder", staging);
  }
}

// Moves staging to target; whatever was at target is at staging afterwards.
void exchange(const fs::path& staging, const fs::path& target) {
  const auto rename_with = [&](unsigned flags) {
    return ::renameat2(AT_FDCWD, staging.c_str(), AT_FDCWD, target.c_str(), flags) == 0;
  };
  if (rename_with(RENAME_NOREPLACE)) return;
  if (errno == EEXIST && rename_with(RENAME_EXCHANGE)) return;
  if (errno != EINVAL && errno != ENOSYS) fail_system("rename the finished folder to", target);
  // A file system without these flags: between the two renames the old folder is at `aside` and target is absent.
  const fs::path aside = staging.string() + kMovedAside;
  const bool had_old = ::rename(target.c_str(), aside.c_str()) == 0;
  if (!had_old && errno != ENOENT) fail_system("move aside", target);
  if (::rename(staging.c_str(), target.c_str()) != 0) fail_system("rename the finished folder to", target);
  if (had_old && ::rename(aside.c_str(), staging.c_str()) != 0) fail_system("rename", aside);
}

std::string file_fault(const fs::path& folder, const Json& entry) {
  const std::string name = entry.get<std::string>("name");
  const std::int64_t size = entry.get<std::int64_t>("size", 0);
  const std::string digest = entry.get<std::string>("sha256");
  if (!is_plain_name(name)) return "the manifest lists \"" + name + "\", which is no plain file name";
  const fs::path path = folder / name;
  const fs::file_status status = fs::symlink_status(path);
  if (!fs::exists(status)) return name + " is missing";
  if (!fs::is_regular_file(status)) return name + " is not a regular file";
  const InputFile file(path);
  if (file.size() != static_cast<std::uint64_t>(size))
    return name + " has " + std::to_string(file.size()) + " bytes, the manifest says " + std::to_string(size);
  Sha256 hash;
  std::vector<char> chunk(static_cast<std::size_t>(std::min<std::uint64_t>(file.size(), 1u << 20)));
  for (std::uint64_t at = 0; at < file.size();) {
    const auto bytes = static_cast<std::size_t>(std::min<std::uint64_t>(chunk.size(), file.size() - at));
    file.read(at, chunk.data(), bytes);
    hash.update(chunk.data(), bytes);
    at += bytes;
  }
  return hash.hex_digest() == digest ? "" : name + " was changed: its SHA-256 is not the manifest's";
}

}  // namespace

StagedFolder::StagedFolder(fs::path target) : target_(fs::absolute(target).lexically_normal()) {
  if (!target_.has_filename()) target_ = target_.parent_path();  // "results/" names "results"
  check_replaceable(target_);
  create_folders(target_.parent_path());
  staging_ = make_staging_folder(target_);
}

StagedFolder::~StagedFolder() {
  if (committed_) return;
  std::error_code ignored;  // what cannot be removed is a leftover that the next start removes
  fs::remove_all(staging_, ignored);
}

void StagedFolder::write(const std::string& name, const std::function<void(OutputFile&)>& fill) {
  if (!is_plain_name(name) || name == kManifest)
    fail(ErrorCode::usage, "\"", name, "\" is no name for a file in ", target_.string(), ", a plain name other than ",
         kManifest, " is needed");
  OutputFile out(staging_ / name);
  fill(out);
  const std::uint64_t size = out.size();
  const std::string digest = out.finish();
  files_.push_back(Json::object({{"name", name}, {"size", size}, {"sha256", digest}}));
}

void StagedFolder::write(const std::string& name, std::string_view bytes) {
  write(name, [bytes](OutputFile& out) { out.write(bytes); });
}

void StagedFolder::commit(const Json& facts) {
  Json manifest = facts;
  manifest.set("format_version", 1).set("files", files_);
  OutputFile out(staging_ / kManifest);
  out.write(manifest.dump() + "\n");
  out.finish();
  sync_folder(staging_);
  check_replaceable(target_);  // again: time has passed since the constructor
  exchange(staging_, target_);
  committed_ = true;
  sync_folder(target_.parent_path());
  std::error_code ignored;
  fs::remove_all(staging_, ignored);  // the folder that was replaced
}

std::vector<std::string> verify_manifest(const fs::path& folder) {
  std::vector<std::string> faults;
  const auto note = [&faults](const auto& check) {
    try {
      if (std::string fault = check(); !fault.empty()) faults.push_back(std::move(fault));
    } catch (const Error& error) {
      faults.push_back(error.what());
    }
  };
  Json manifest;
  note([&] {
    manifest = load_manifest(folder);
    manifest.get<std::int64_t>("format_version", 1, 1);
    manifest.at("files").elements();
    return std::string();
  });
  if (!faults.empty()) return faults;
  for (const Json& entry : manifest.at("files").elements()) note([&] { return file_fault(folder, entry); });
  return faults;
}

std::string why_not_replaced(const fs::path& target) {
  const fs::file_status status = fs::symlink_status(target);
  if (!fs::exists(status)) return "";
  if (!fs::is_directory(status)) return target.string() + " exists and is not a folder";
  try {
    const std::string name = foreign_entry(target);
    return name.empty() ? "" : target.string() + " holds " + name + ", which no manifest of sinter lists";
  } catch (const Error& error) {  // the manifest cannot be read
    return error.what();
  }
}

std::string remove_staged(const fs::path& folder) {
  try {
    if (!fs::exists(fs::symlink_status(folder))) return folder.string() + " is not there";
    if (std::string reason = why_not_replaced(folder); !reason.empty()) return reason;
    const fs::path trash =
        folder.parent_path() / (kLeftover + folder.filename().string() + "." + std::to_string(::getpid()));
    fs::rename(folder, trash);
    fs::remove_all(trash);
    return "";
  } catch (const fs::filesystem_error& error) {
    return error.what();
  }
}

bool is_leftover(std::string_view name) {
  if (name.ends_with(kMovedAside)) name.remove_suffix(std::string_view(kMovedAside).size());
  const std::size_t dot = name.rfind('.');
  return name.starts_with(kLeftover) && dot > std::string_view(kLeftover).size() && dot + 1 < name.size() &&
         name.find_first_not_of("0123456789-", dot + 1) == std::string_view::npos;
}

int remove_leftovers(const fs::path& parent) {
  std::vector<fs::path> leftovers;
  for (const auto& entry : fs::directory_iterator(parent))
    if (is_leftover(entry.path().filename().string())) leftovers.push_back(entry.path());
  for (const fs::path& leftover : leftovers) {
    std::error_code reason;
    fs::remove_all(leftover, reason);
    if (reason) fail(ErrorCode::io, "cannot remove ", leftover.string(), ": ", reason.message());
  }
  return static_cast<int>(leftovers.size());
}

}  // namespace sinter
