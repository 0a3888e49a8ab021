// SHA-256, which fingerprints the files of a checkpoint.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

namespace sinter {

/// Running SHA-256 (FIPS 180-4). It guards against truncated and flipped files, not against an attacker who can also
/// rewrite the manifest.
class Sha256 {
 public:
  /// Appends `bytes` bytes of the message; pieces may be of any size.
  void update(const void* data, std::size_t bytes);

  /// The digest of everything so far in 64 lower-case hexadecimal digits. Ends this object: call it once, last.
  std::string hex_digest();

 private:
  void compress(const unsigned char* block);

  std::array<std::uint32_t, 8> state_ = {0x6a09e667u, 0xbb67ae85u, 0x3c6ef372u, 0xa54ff53au,
                                         0x510e527fu, 0x9b05688cu, 0x1f83d9abu, 0x5be0cd19u};
  std::array<unsigned char, 64> pending_ = {};
  std::uint64_t length_ = 0;  // bytes of the message so far; length_ % 64 of them wait in pending_
};

/// Digest of one string.
std::string sha256(std::string_view message);

}  // namespace sinter
