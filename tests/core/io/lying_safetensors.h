// Safetensors files that lie, and what the refusal says: every rule of the format, broken once or more.
#pragma once

#include <cstdint>
#include <cstring>
#include <string>
#include <string_view>
#include <vector>

namespace sinter::testing {

/// A file of the format: the header's length, the header, the data.
inline std::string safetensors_bytes(std::string_view header, std::string_view data) {
  const std::uint64_t length = header.size();
  std::string bytes(8, '\0');
  std::memcpy(bytes.data(), &length, 8);
  return bytes.append(header).append(data);
}

struct LyingFile {
  std::string bytes;
  std::string says;
};

class LyingFiles : public std::vector<LyingFile> {
 public:
  LyingFiles() {
    add_headers();
    add_entries();
    add_layouts();
  }

 private:
  void raw(std::string bytes, std::string_view says) { push_back({std::move(bytes), std::string(says)}); }
  void lie(std::string_view header, std::size_t data_bytes, std::string_view says) {
    raw(safetensors_bytes(header, std::string(data_bytes, '\1')), says);
  }
  void add_headers();
  void add_entries();
  void add_layouts();   ///< overlaps, holes, trailing bytes
};

inline void LyingFiles::add_headers() {
  raw("", "has 0 bytes");
  raw("1234567", "has 7 bytes");
  raw(std::string(8, '\0'), "not valid JSON");
  raw(std::string(8, '\xff'), "at most 100000000");
  raw(std::string("\x01\xe1\xf5\x05\0\0\0\0{}", 10), "at most 100000000");
  raw(std::string("\x03\0\0\0\0\0\0\0{}", 10), "only 2 follow");
  lie("{", 0, "not valid JSON");
  lie("{}x", 0, "not valid JSON");
  lie("\xff\xfe", 0, "not valid JSON");
  lie("{\"\xff\":1}", 0, "UTF-8");
  raw(std::string("\xff\xff\xff\xff\xff\xff\xff\x7f{}", 10), "at most 100000000");
  raw(std::string("\xf8\xff\xff\xff\xff\xff\xff\xff{}", 10), "at most 100000000");  // N + 8 is 0 in 64 bits
  raw(std::string("\0\xe1\xf5\x05\0\0\0\0{}", 10),
      "its header has 100000000 bytes, but only 2 follow: it is truncated");
  lie("[]", 0, "must be an object");
  lie("3", 0, "must be an object");
  lie(std::string(100, '['), 0, "deeper than 64");
}

inline void LyingFiles::add_entries() {
  lie(R"({"w":1})", 0, "must be an object");
  lie(R"({"w":{}})", 0, "w.dtype is missing");
  lie(R"({"w":{"dtype":"F32","shape":[1]}})", 4, "w.data_offsets is missing");
  lie(R"({"w":{"dtype":"F8_E4M3","shape":[4],"data_offsets":[0,4]}})", 4, "unsupported dtype \"F8_E4M3\"");
  lie(R"({"w":{"dtype":"f32","shape":[1],"data_offsets":[0,4]}})", 4, "unsupported dtype");
  lie(R"({"w":{"dtype":4,"shape":[1],"data_offsets":[0,4]}})", 4, "w.dtype is 4");
  lie(R"({"w":{"dtype":"F32","shape":1,"data_offsets":[0,4]}})", 4, "must be an array");
  lie(R"({"w":{"dtype":"F32","shape":[1.0],"data_offsets":[0,4]}})", 4, "must be an integer");
  lie(R"({"w":{"dtype":"F32","shape":["1"],"data_offsets":[0,4]}})", 4, "must be an integer");
  lie(R"({"w":{"dtype":"F32","shape":[-1],"data_offsets":[0,4]}})", 4, "at least 0");
  lie(R"({"w":{"dtype":"F32","shape":[-1,-1],"data_offsets":[0,4]}})", 4, "at least 0");
  lie(R"({"w":{"dtype":"F32","shape":[1],"data_offsets":[0,4,8]}})", 4, "3 data_offsets");
  lie(R"({"w":{"dtype":"F32","shape":[1],"data_offsets":[4,0]}})", 4, "begin <= end");
  lie(R"({"w":{"dtype":"F32","shape":[1],"data_offsets":[-4,0]}})", 4, "begin <= end");
  lie(R"({"w":{"dtype":"F32","shape":[2],"data_offsets":[0,4]}})", 4, "needs 8");
  lie(R"({"w":{"dtype":"F32","shape":[2,18446744073709551614],"data_offsets":[0,16]}})", 16, "must be an integer");
  lie(R"({"w":{"dtype":"F32","shape":[2,9223372036854775807],"data_offsets":[0,16]}})", 16, "below 2^63");
  lie(R"({"w":{"dtype":"U8","shape":[4294967296,4294967296],"data_offsets":[0,0]}})", 0, "below 2^63");
  lie(R"({"w":{"dtype":"F64","shape":[1152921504606846976],"data_offsets":[0,0]}})", 0, "below 2^63");
  lie(R"({"w":{"dtype":"U8","shape":[9223372036854775807],"data_offsets":[0,9223372036854775807]}})", 4,
         "is truncated: its tensors need 9223372036854775807 bytes of data, 4 are there");
  lie(R"({"w":{"dtype":"U8","shape":[1],"data_offsets":[9223372036854775807,9223372036854775808]}})", 1,
         "must be an integer");
  lie(R"({"w":{"dtype":"U8","shape":[1],"data_offsets":{"0":0,"1":1}}})", 1, "must be an array");
  lie(R"({"w":{"dtype":"U8","shape":[1],"data_offsets":[]}})", 1, "0 data_offsets");
  lie(R"({"w":{"dtype":"U8","shape":[[1]],"data_offsets":[0,1]}})", 1, "must be an integer");
  lie(R"({"w":{"dtype":"U8","dtype":"I8","shape":[1],"data_offsets":[0,1]}})", 1, "w.dtype is given twice");
  lie("{\"w\\n" + std::string(1000, 'x') + R"(":{"dtype":"U8","shape":[1],"data_offsets":[0,2]}})", 2,
         "tensor w?" + std::string(78, 'x') + " ... spans 2 bytes, but U8 [1] needs 1");
  lie(R"({"w":{"dtype":")" + std::string(1000, 'x') + R"(","shape":[1],"data_offsets":[0,1]}})", 1,
         "xxx ..., it must be");
  lie(R"({"__metadata__":{"format":1}})", 0, "__metadata__.format is 1");
  lie(R"({"__metadata__":{"format":null}})", 0, "__metadata__.format is null");
  lie(R"({"__metadata__":{"format":{}}})", 0, "__metadata__.format is an object");
  lie(R"({"__metadata__":[]})", 0, "must be an object");
}

inline void LyingFiles::add_layouts() {
  const std::string a = R"("a":{"dtype":"U8","shape":[4],"data_offsets":[0,4]})";
  lie("{" + a + "," + a + "}", 4, "a is given twice");
  lie("{" + a + R"(,"b":{"dtype":"U8","shape":[4],"data_offsets":[0,4]}})", 4, "overlaps");
  lie("{" + a + R"(,"b":{"dtype":"U8","shape":[4],"data_offsets":[2,6]}})", 6, "overlaps");
  lie("{" + a + R"(,"b":{"dtype":"U8","shape":[1],"data_offsets":[5,6]}})", 6, "hole");
  lie(R"({"b":{"dtype":"U8","shape":[1],"data_offsets":[1,2]}})", 2, "hole");
  lie("{" + a + R"(,"z":{"dtype":"U8","shape":[0],"data_offsets":[2,2]}})", 4, "z begins at byte 2 of the data");
  lie("{" + a + "}", 3, "truncated");
  lie("{" + a + "}", 5, "1 bytes after its last tensor");
  lie("{}", 1, "1 bytes after its last tensor");
  lie(R"({"a":{"dtype":"U8","shape":[0],"data_offsets":[1,1]}})", 0, "hole");
}

}  // namespace sinter::testing
