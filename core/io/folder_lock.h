// One writer for a folder.
#pragma once

#include <filesystem>

namespace sinter {

/// Holds `folder` (which must exist) for this process until destruction; the kernel frees it when the process dies. The
/// file folder/.lock stays behind and holds the number of the last process. Error usage with that number when another
/// process holds the folder.
class FolderLock {
 public:
  explicit FolderLock(const std::filesystem::path& folder);
  ~FolderLock();
  FolderLock(const FolderLock&) = delete;
  FolderLock& operator=(const FolderLock&) = delete;

 private:
  int descriptor_ = -1;
};

}  // namespace sinter
