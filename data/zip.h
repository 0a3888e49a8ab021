// Reading zip archives, as GLUE's data sets come in. Nothing is extracted to disk: a file's bytes are returned.
//
// Format: PKWARE's APPNOTE.TXT, sections 4.3 and 4.4. Stored and deflated files are read; archives of several parts,
// zip64, encryption and other methods are refused. No number of the archive is trusted: each is checked against the
// bytes that remain, the two copies of a file's name must agree, and a checksum that differs is an error.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

#include "core/io/files.h"

namespace sinter::data {

/// Errors are ErrorCode::bad_input and begin with the archive's path, unless the file itself cannot be read.
class ZipArchive {
 public:
  /// Reads the directory of the archive.
  explicit ZipArchive(const std::filesystem::path& path);

  /// Paths of the files, as the archive has them.
  std::vector<std::string> names() const;
  /// The bytes of one file. not_found for a name that is not there; bad_input for one that is there twice, or larger
  /// than max_bytes.
  std::string read(const std::string& name, std::size_t max_bytes) const;

 private:
  struct Entry {
    std::string name;
    std::uint64_t header_offset = 0, compressed_size = 0, size = 0;
    std::uint32_t checksum = 0;
    unsigned flags = 0, method = 0;
  };

  void read_directory(std::string_view directory, std::uint64_t count);
  const Entry& find(const std::string& name) const;
  std::string read_data(const Entry& entry) const;
  std::string inflate_all(const Entry& entry, const std::string& compressed) const;
  template <class... Parts>
  [[noreturn]] void refuse(const Parts&... parts) const;

  InputFile file_;
  std::uint64_t directory_offset_ = 0;
  std::vector<Entry> entries_;
};

}  // namespace sinter::data
