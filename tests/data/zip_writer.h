// Zip archives for tests, whole or damaged on purpose.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace sinter::data {

/// What the archive says of a file instead of the truth.
struct ZipClaims {
  std::uint16_t method = 8;   ///< 8 deflates, 0 stores; any other number is written over stored bytes
  std::uint16_t flags = 0;
  std::optional<std::uint32_t> checksum = std::nullopt, compressed_size = std::nullopt, size = std::nullopt,
                               header_offset = std::nullopt;
  std::optional<std::string> local_name = std::nullopt;
};

struct ZipFile {
  std::string name;
  std::string bytes;
  ZipClaims claims = {};
};

std::string zip_of(const std::vector<ZipFile>& files, const std::string& comment = "");

}  // namespace sinter::data
