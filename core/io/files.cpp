#include "core/io/files.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <system_error>
#include <utility>

#include "core/error.h"

namespace sinter {
namespace fs = std::filesystem;
namespace {

fs::path parent_of(const fs::path& path) { return path.has_parent_path() ? path.parent_path() : fs::path("."); }

}  // namespace

void fail_system(const char* operation, const fs::path& path, std::uint64_t bytes_to_write) {
  const int reason = errno;
  std::string text = std::string("cannot ") + operation + " " + path.string() + ": " + std::strerror(reason);
  struct statvfs disk = {};
  if ((reason == ENOSPC || reason == EDQUOT) && ::statvfs(path.parent_path().c_str(), &disk) == 0) {
    text += " (" + std::to_string(bytes_to_write) + " bytes to write, ";
    text += std::to_string(std::uint64_t{disk.f_bavail} * disk.f_frsize) + " bytes free)";
  }
  throw Error(reason == ENOENT || reason == ENOTDIR ? ErrorCode::not_found : ErrorCode::io, text);
}

// --- reading ---

InputFile::InputFile(const fs::path& path) : path_(path) {
  // O_NONBLOCK, so that a named pipe is refused below and does not wait for a writer.
  descriptor_ = ::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  if (descriptor_ < 0) fail_system("open", path);
  struct stat facts = {};
  const bool known = ::fstat(descriptor_, &facts) == 0;
  if (known && S_ISREG(facts.st_mode)) {
    size_ = static_cast<std::uint64_t>(facts.st_size);
    return;
  }
  const int reason = errno;
  ::close(descriptor_);
  errno = reason;
  if (!known) fail_system("examine", path);
  fail(ErrorCode::bad_input, path.string(), " is ", S_ISDIR(facts.st_mode) ? "a folder" : "a device or a pipe",
       ", a regular file is needed");
}

InputFile::~InputFile() {
  if (descriptor_ >= 0) ::close(descriptor_);
}

InputFile::InputFile(InputFile&& other) noexcept
    : path_(std::move(other.path_)), descriptor_(std::exchange(other.descriptor_, -1)), size_(other.size_) {}

void InputFile::read(std::uint64_t offset, void* dst, std::size_t bytes) const {
  auto* to = static_cast<char*>(dst);
  for (std::size_t done = 0; done < bytes;) {
    const ssize_t got = ::pread(descriptor_, to + done, bytes - done, static_cast<off_t>(offset + done));
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) fail_system("read", path_);
    if (got == 0)
      fail(ErrorCode::bad_input, path_.string(), " ends at byte ", offset + done, ", ", bytes - done,
           " bytes more are needed: it is truncated, or became shorter while it was read");
    done += static_cast<std::size_t>(got);
  }
}

std::string read_file(const fs::path& path, std::size_t max_bytes) {
  const InputFile file(path);
  if (file.size() > max_bytes)
    fail(ErrorCode::bad_input, path.string(), " has ", file.size(), " bytes, at most ", max_bytes, " are read");
  std::string content(static_cast<std::size_t>(file.size()), '\0');
  file.read(0, content.data(), content.size());
  return content;
}

// --- writing ---

OutputFile::OutputFile(const fs::path& path) : path_(path) {
  descriptor_ = ::open(path.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0666);
  if (descriptor_ < 0) fail_system("create", path);
}

OutputFile::~OutputFile() {
  if (descriptor_ >= 0) close_and_remove();
}

void OutputFile::close_and_remove() noexcept {
  ::close(std::exchange(descriptor_, -1));
  ::unlink(path_.c_str());
}

void OutputFile::write(const void* data, std::size_t bytes) {
  const auto* from = static_cast<const char*>(data);
  for (std::size_t done = 0; done < bytes;) {
    const ssize_t put = ::write(descriptor_, from + done, bytes - done);
    if (put < 0 && errno == EINTR) continue;
    if (put < 0) fail_system("write", path_, bytes - done);
    done += static_cast<std::size_t>(put);
  }
  hash_.update(data, bytes);
  size_ += bytes;
}

std::string OutputFile::finish() {
  if (::fsync(descriptor_) != 0) fail_system("sync", path_);
  if (::close(descriptor_) != 0) {
    const int reason = errno;
    descriptor_ = -1;  // closed all the same; the destructor must not close another file's descriptor
    ::unlink(path_.c_str());
    errno = reason;
    fail_system("close", path_);
  }
  descriptor_ = -1;
  return hash_.hex_digest();
}

void sync_folder(const fs::path& folder) {
  const int descriptor = ::open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (descriptor < 0) fail_system("open the folder", folder);
  const int outcome = ::fsync(descriptor);
  const int reason = errno;
  ::close(descriptor);
  errno = reason;
  // Some network file systems cannot sync a folder and say EINVAL: nothing more can be done there.
  if (outcome != 0 && reason != EINVAL) fail_system("sync the folder", folder);
}

void write_file_atomically(const fs::path& path, const std::function<void(OutputFile&)>& fill) {
  const fs::path folder = parent_of(path);
  fs::path sibling;
  for (int attempt = 0;; ++attempt) {  // a killed process with our number may have left one
    sibling = folder / (".tmp-" + path.filename().string() + "." + std::to_string(::getpid()) +
                        (attempt == 0 ? "" : "-" + std::to_string(attempt)));
    if (!fs::exists(fs::symlink_status(sibling)) || attempt == 100) break;
  }
  OutputFile out(sibling);
  fill(out);
  out.finish();
  if (::rename(sibling.c_str(), path.c_str()) != 0) {
    const int reason = errno;
    ::unlink(sibling.c_str());
    errno = reason;
    fail_system("replace", path);
  }
  sync_folder(folder);
}

void write_file_atomically(const fs::path& path, std::string_view bytes) {
  write_file_atomically(path, [bytes](OutputFile& out) { out.write(bytes); });
}

void create_folders(const fs::path& folder) {
  if (folder.empty() || fs::is_directory(folder)) return;
  const fs::path parent = parent_of(folder);
  if (parent != folder) create_folders(parent);
  if (::mkdir(folder.c_str(), 0777) != 0) {
    if (errno == EEXIST && fs::is_directory(folder)) return;  // another process was faster, or the path ends in '/'
    fail_system("create the folder", folder);
  }
  sync_folder(parent);
}

void probe_writable(const fs::path& folder) {
  create_folders(folder);
  const fs::path probe = folder / (".tmp-probe." + std::to_string(::getpid()));
  const fs::path renamed = folder / (".tmp-probe-renamed." + std::to_string(::getpid()));
  ::unlink(probe.c_str());
  OutputFile out(probe);
  out.write("sinter writes here");
  out.finish();
  if (::rename(probe.c_str(), renamed.c_str()) != 0) {
    const int reason = errno;
    ::unlink(probe.c_str());
    errno = reason;
    fail_system("rename a file in", folder);
  }
  if (::unlink(renamed.c_str()) != 0) fail_system("remove a file from", folder);
}

}  // namespace sinter
