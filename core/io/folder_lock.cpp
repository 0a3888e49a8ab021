#include "core/io/folder_lock.h"

#include <fcntl.h>
#include <sys/file.h>
#include <unistd.h>

#include <string>

#include "core/error.h"
#include "core/io/files.h"

namespace sinter {

FolderLock::FolderLock(const std::filesystem::path& folder) {
  const std::filesystem::path path = folder / ".lock";
  descriptor_ = open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0644);
  if (descriptor_ < 0) fail_system("open", path);
  if (flock(descriptor_, LOCK_EX | LOCK_NB) != 0) {
    char holder[32] = {};
    const ssize_t length = pread(descriptor_, holder, sizeof(holder) - 1, 0);
    close(descriptor_);
    fail(ErrorCode::usage, "folder ", folder.string(), " is in use by process ", length > 0 ? holder : "?",
         "; wait for it or choose another folder");
  }
  const std::string self = std::to_string(getpid());
  if (ftruncate(descriptor_, 0) != 0 || pwrite(descriptor_, self.data(), self.size(), 0) < 0) {
    close(descriptor_);
    fail_system("write", path, self.size());
  }
}

FolderLock::~FolderLock() { close(descriptor_); }

}  // namespace sinter
