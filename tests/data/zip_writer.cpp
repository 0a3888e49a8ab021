#include "tests/data/zip_writer.h"

#include <zlib.h>

namespace sinter::data {
namespace {

void put(std::string& out, std::uint64_t value, int bytes) {
  for (int i = 0; i < bytes; ++i, value >>= 8) out += static_cast<char>(value & 0xFF);
}

std::string deflated(std::string bytes) {
  z_stream stream = {};
  deflateInit2(&stream, 9, Z_DEFLATED, -MAX_WBITS, 9, Z_DEFAULT_STRATEGY);
  std::string out(deflateBound(&stream, bytes.size()), '\0');
  stream.next_in = reinterpret_cast<Bytef*>(bytes.data());
  stream.avail_in = static_cast<uInt>(bytes.size());
  stream.next_out = reinterpret_cast<Bytef*>(out.data());
  stream.avail_out = static_cast<uInt>(out.size());
  deflate(&stream, Z_FINISH);
  out.resize(stream.total_out);
  deflateEnd(&stream);
  return out;
}

}  // namespace

std::string zip_of(const std::vector<ZipFile>& files, const std::string& comment) {
  std::string out, directory;
  for (const ZipFile& file : files) {
    const ZipClaims& claims = file.claims;
    const std::string data = claims.method == 8 ? deflated(file.bytes) : file.bytes;
    const std::string local = claims.local_name.value_or(file.name);
    const auto offset = static_cast<std::uint32_t>(out.size());
    const auto facts = [&](std::string& to) {   // what both headers hold, from the flags on
      put(to, claims.flags, 2);
      put(to, claims.method, 2);
      put(to, 0, 4);
      const auto sum = crc32_z(0, reinterpret_cast<const Bytef*>(file.bytes.data()), file.bytes.size());
      put(to, claims.checksum.value_or(static_cast<std::uint32_t>(sum)), 4);
      put(to, claims.compressed_size.value_or(static_cast<std::uint32_t>(data.size())), 4);
      put(to, claims.size.value_or(static_cast<std::uint32_t>(file.bytes.size())), 4);
    };
    out += "PK\3\4";
    put(out, 20, 2);
    facts(out);
    put(out, local.size(), 2);
    put(out, 0, 2);
    out += local + data;
    directory += "PK\1\2";
    put(directory, 20, 2);
    put(directory, 20, 2);
    facts(directory);
    put(directory, file.name.size(), 2);
    put(directory, 0, 12);
    put(directory, claims.header_offset.value_or(offset), 4);
    directory += file.name;
  }
  const std::size_t offset = out.size();
  out += directory + "PK\5\6";
  put(out, 0, 4);
  put(out, files.size(), 2);
  put(out, files.size(), 2);
  put(out, directory.size(), 4);
  put(out, offset, 4);
  put(out, comment.size(), 2);
  return out + comment;
}

}  // namespace sinter::data
