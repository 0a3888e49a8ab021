// Files that are whole or absent: bounded reading, atomic and durable writing.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <string>
#include <string_view>

#include "core/io/sha256.h"

namespace sinter {

/// Throws what the operating system refused, from errno: Error not_found when a file or folder is absent, else io.
/// "cannot write out/model.safetensors: No space left on device (4096 bytes to write, 0 bytes free)".
[[noreturn]] void fail_system(const char* operation, const std::filesystem::path& path,
                              std::uint64_t bytes_to_write = 0);

/// A regular file opened for reading with pread. It is never mapped: a mapped file that shrinks kills the process.
/// Links are followed, because HF's model cache is made of them.
class InputFile {
 public:
  explicit InputFile(const std::filesystem::path& path);
  ~InputFile();
  InputFile(InputFile&& other) noexcept;
  InputFile(const InputFile&) = delete;
  InputFile& operator=(const InputFile&) = delete;

  /// Fills dst with `bytes` bytes from `offset`. Error bad_input when the file ends before. Safe from several
  /// threads.
  void read(std::uint64_t offset, void* dst, std::size_t bytes) const;
  std::uint64_t size() const { return size_; }  ///< bytes, when it was opened
  const std::filesystem::path& path() const { return path_; }

 private:
  std::filesystem::path path_;
  int descriptor_ = -1;
  std::uint64_t size_ = 0;
};

/// The whole file. Error bad_input when it has more than max_bytes; nothing is allocated before that is known.
std::string read_file(const std::filesystem::path& path, std::size_t max_bytes);

/// A new file being written: created exclusively, never through a link, hashed while it is written. Without `finish`,
/// the destructor removes it.
class OutputFile {
 public:
  /// Error io when the file exists already.
  explicit OutputFile(const std::filesystem::path& path);
  ~OutputFile();
  OutputFile(const OutputFile&) = delete;
  OutputFile& operator=(const OutputFile&) = delete;

  void write(const void* data, std::size_t bytes);
  void write(std::string_view bytes) { write(bytes.data(), bytes.size()); }
  std::uint64_t size() const { return size_; }

  /// Syncs and closes; from here on the file stays. Returns the SHA-256 of what was written, in hexadecimal.
  std::string finish();

 private:
  void close_and_remove() noexcept;

  std::filesystem::path path_;
  int descriptor_ = -1;
  std::uint64_t size_ = 0;
  Sha256 hash_;
};

/// Replaces or creates `path` in one step: `fill` writes a sibling file, which is synced and renamed. A reader sees
/// the old file or the new one; when `fill` throws or the disk is full, the old one is untouched.
void write_file_atomically(const std::filesystem::path& path, const std::function<void(OutputFile&)>& fill);
void write_file_atomically(const std::filesystem::path& path, std::string_view bytes);

/// Makes the entries of a folder durable.
void sync_folder(const std::filesystem::path& folder);

/// Creates a folder and its missing parents, durably. Nothing happens when it is there.
void create_folders(const std::filesystem::path& folder);

/// Creates `folder` if needed and tries a write, sync, rename and removal in it, so that a run fails before its first
/// step and not at its first save. Error io names the folder and the reason.
void probe_writable(const std::filesystem::path& folder);

}  // namespace sinter
