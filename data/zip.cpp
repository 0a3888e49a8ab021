#include "data/zip.h"

#define ZLIB_CONST   // zlib reads its input and does not write it
#include <zlib.h>

#include <algorithm>
#include <string_view>

#include "core/error.h"
#include "core/io/shown.h"

namespace sinter::data {

namespace {

constexpr std::size_t kEndSize = 22, kEntrySize = 46, kHeaderSize = 30;
constexpr std::size_t kLongestComment = 65535;
constexpr unsigned kEncrypted = 1u << 0;
constexpr unsigned kStored = 0, kDeflated = 8;

// Little-endian number of `bytes` bytes.
std::uint64_t number(std::string_view text, std::size_t at, int bytes) {
  std::uint64_t value = 0;
  for (int i = bytes - 1; i >= 0; --i)
    value = value << 8 | static_cast<unsigned char>(text[at + static_cast<std::size_t>(i)]);
  return value;
}

}  // namespace

template <class... Parts>
void ZipArchive::refuse(const Parts&... parts) const {
  fail(ErrorCode::bad_input, file_.path().string(), ": ", parts...);
}

ZipArchive::ZipArchive(const std::filesystem::path& path) : file_(path) {
  // The end record is the last thing in the file but for a comment of any length.
  const std::uint64_t tail_size = std::min<std::uint64_t>(file_.size(), kEndSize + kLongestComment);
  std::string tail(static_cast<std::size_t>(tail_size), '\0');
  file_.read(file_.size() - tail_size, tail.data(), tail.size());
  for (std::size_t at = tail.size() < kEndSize ? 0 : tail.size() - kEndSize + 1; at-- > 0;) {
    const std::string_view end = std::string_view(tail).substr(at);
    if (!end.starts_with("PK\5\6") || number(end, 20, 2) != end.size() - kEndSize) continue;
    const std::uint64_t count = number(end, 10, 2), size = number(end, 12, 4), offset = number(end, 16, 4);
    if (count == 0xFFFF || size == 0xFFFFFFFF || offset == 0xFFFFFFFF)
      refuse("this is a zip64 archive; only zip archives below 4 GiB are read");
    if (number(end, 4, 2) != 0 || number(end, 6, 2) != 0 || number(end, 8, 2) != count)
      refuse("this is a part of an archive that was split; only whole zip archives are read");
    const std::uint64_t end_offset = file_.size() - tail_size + at;
    if (offset > end_offset || size > end_offset - offset)
      refuse("the directory of the archive, ", size, " bytes at ", offset, ", lies outside the file");
    directory_offset_ = offset;
    std::string directory(static_cast<std::size_t>(size), '\0');
    file_.read(offset, directory.data(), directory.size());
    read_directory(directory, count);
    return;
  }
  refuse("this is no zip archive, or its end is missing");
}

void ZipArchive::read_directory(std::string_view directory, std::uint64_t count) {
  for (std::uint64_t i = 0; i < count; ++i) {
    if (directory.size() < kEntrySize || !directory.starts_with("PK\1\2"))
      refuse("the directory of the archive is damaged at file ", i + 1, " of ", count);
    const std::uint64_t name = number(directory, 28, 2), rest = number(directory, 30, 2) + number(directory, 32, 2);
    if (name + rest > directory.size() - kEntrySize)
      refuse("the directory of the archive ends inside file ", i + 1, " of ", count);
    Entry entry;
    entry.name = std::string(directory.substr(kEntrySize, static_cast<std::size_t>(name)));
    entry.flags = static_cast<unsigned>(number(directory, 8, 2));
    entry.method = static_cast<unsigned>(number(directory, 10, 2));
    entry.checksum = static_cast<std::uint32_t>(number(directory, 16, 4));
    entry.compressed_size = number(directory, 20, 4);
    entry.size = number(directory, 24, 4);
    entry.header_offset = number(directory, 42, 4);
    entries_.push_back(std::move(entry));
    directory.remove_prefix(kEntrySize + static_cast<std::size_t>(name + rest));
  }
}

std::vector<std::string> ZipArchive::names() const {
  std::vector<std::string> names;
  for (const Entry& entry : entries_) names.push_back(entry.name);
  return names;
}

const ZipArchive::Entry& ZipArchive::find(const std::string& name) const {
  const Entry* found = nullptr;
  for (const Entry& entry : entries_) {
    if (entry.name != name) continue;
    if (found != nullptr) refuse("the file \"", shown(name), "\" is there twice");
    found = &entry;
  }
  if (found == nullptr) fail(ErrorCode::not_found, file_.path().string(), ": there is no file \"", shown(name), "\"");
  return *found;
}

std::string ZipArchive::read(const std::string& name, std::size_t max_bytes) const {
  const Entry& entry = find(name);
  if ((entry.flags & kEncrypted) != 0) refuse("\"", shown(name), "\" is encrypted; give an archive without a password");
  if (entry.size == 0xFFFFFFFF || entry.compressed_size == 0xFFFFFFFF || entry.header_offset == 0xFFFFFFFF)
    refuse("\"", shown(name), "\" needs zip64; only zip archives below 4 GiB are read");
  if (entry.method != kStored && entry.method != kDeflated)
    refuse("\"", shown(name), "\" is compressed by method ", entry.method,
           "; only stored (0) and deflated (8) files are read");
  if (entry.size > max_bytes)
    refuse("\"", shown(name), "\" has ", entry.size, " bytes, at most ", max_bytes, " are read");
  // Deflate makes at most 1032 bytes of one: nothing is allocated for a size that cannot be true.
  const std::uint64_t most = entry.method == kStored ? entry.compressed_size : entry.compressed_size * 1032;
  if (entry.size > most)
    refuse("\"", shown(name), "\" claims ", entry.size, " bytes, which its ", entry.compressed_size,
           " stored bytes cannot hold");
  const std::string compressed = read_data(entry);
  std::string bytes = entry.method == kStored ? compressed : inflate_all(entry, compressed);
  if (bytes.size() != entry.size)
    refuse("\"", shown(name), "\" has ", bytes.size(), " bytes, the directory says ", entry.size);
  const auto checksum = ::crc32_z(0, reinterpret_cast<const Bytef*>(bytes.data()), bytes.size());
  if (checksum != entry.checksum) refuse("\"", shown(name), "\" is damaged: its checksum differs");
  return bytes;
}

std::string ZipArchive::read_data(const Entry& entry) const {
  const auto room = [&](std::uint64_t offset, std::uint64_t bytes) {
    if (offset > directory_offset_ || bytes > directory_offset_ - offset)
      refuse("the data of \"", shown(entry.name), "\" lies outside the archive");
  };
  room(entry.header_offset, kHeaderSize);
  std::string header(kHeaderSize, '\0');
  file_.read(entry.header_offset, header.data(), header.size());
  const std::uint64_t name_size = number(header, 26, 2), extra_size = number(header, 28, 2);
  const std::uint64_t name_offset = entry.header_offset + kHeaderSize;
  if (!header.starts_with("PK\3\4")) refuse("\"", shown(entry.name), "\" does not begin where the directory says");
  room(name_offset, name_size);
  std::string name(static_cast<std::size_t>(name_size), '\0');
  file_.read(name_offset, name.data(), name.size());
  if (name != entry.name) refuse("\"", shown(entry.name), "\" has another name beside its data");
  const std::uint64_t data_offset = name_offset + name_size + extra_size;
  room(data_offset, entry.compressed_size);
  std::string data(static_cast<std::size_t>(entry.compressed_size), '\0');
  file_.read(data_offset, data.data(), data.size());
  return data;
}

std::string ZipArchive::inflate_all(const Entry& entry, const std::string& compressed) const {
  // One byte more than the directory claims, so that a longer stream is noticed.
  std::string bytes(static_cast<std::size_t>(entry.size) + 1, '\0');
  z_stream stream = {};
  constexpr int kRawDeflate = -MAX_WBITS;
  if (::inflateInit2(&stream, kRawDeflate) != Z_OK) fail(ErrorCode::out_of_memory, "zlib could not start: no memory");
  stream.next_in = reinterpret_cast<const Bytef*>(compressed.data());
  stream.avail_in = static_cast<uInt>(compressed.size());
  stream.next_out = reinterpret_cast<Bytef*>(bytes.data());
  stream.avail_out = static_cast<uInt>(bytes.size());
  const int outcome = ::inflate(&stream, Z_FINISH);
  const std::uint64_t made = stream.total_out;
  ::inflateEnd(&stream);
  if (outcome != Z_STREAM_END || made != entry.size)
    refuse("\"", shown(entry.name), "\" is damaged: it cannot be inflated");
  bytes.resize(static_cast<std::size_t>(made));
  return bytes;
}

}  // namespace sinter::data
