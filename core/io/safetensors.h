// The safetensors format: named tensors after a JSON header, read without trust and written as HF's own writer does.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <map>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "core/io/files.h"
#include "kernels/base/dtype.h"

namespace sinter {

/// One tensor of a file. Elements are little-endian and row-major.
struct SafetensorsEntry {
  std::string name;
  kernels::Dtype dtype = kernels::Dtype::f32;
  std::vector<std::int64_t> shape;  ///< [] is a scalar; a size may be 0
  std::uint64_t begin = 0;          ///< bytes [begin, end) after the header; end - begin is what dtype and shape need
  std::uint64_t end = 0;

  std::size_t bytes() const { return static_cast<std::size_t>(end - begin); }
};

/// A safetensors file opened for reading.
///
/// File: N as 8 bytes little-endian, N bytes of JSON {name: {dtype, shape, data_offsets: [begin, end]},
/// "__metadata__": {text: text}}, then the data. Opening checks all of it and reads no data: N is at most 100,000,000
/// and fits the file; the header is UTF-8 JSON, no key given twice; dtypes are ones that sinter stores; sizes do not
/// overflow and equal the offsets; the tensors tile the data exactly, with no overlap, hole or trailing byte. Each
/// broken rule is an Error bad_input that names the file and the tensor. Whether names, dtypes and shapes suit a
/// model is for the model to check.
class SafetensorsFile {
 public:
  explicit SafetensorsFile(const std::filesystem::path& path);

  const std::vector<SafetensorsEntry>& tensors() const { return tensors_; }  ///< in the order of their data
  const std::map<std::string, std::string>& metadata() const { return metadata_; }
  const SafetensorsEntry* find(std::string_view name) const;  ///< nullptr when absent
  const SafetensorsEntry& at(std::string_view name) const;    ///< Error bad_input when absent
  const std::filesystem::path& path() const { return file_.path(); }

  /// Copies one tensor to dst, whose size must be the tensor's (Error usage otherwise). Error bad_input when the file
  /// became shorter, or when a BOOL holds a byte other than 0 and 1. Safe from several threads.
  void read(std::string_view name, void* dst, std::size_t bytes) const;

 private:
  void read_header();
  void check_layout() const;

  InputFile file_;
  std::uint64_t data_begin_ = 0;
  std::vector<SafetensorsEntry> tensors_;
  std::map<std::string, std::size_t, std::less<>> places_;  // name -> index in tensors_
  std::map<std::string, std::string> metadata_;
};

/// One tensor to write; `data` holds size_of(dtype) times the product of `shape` bytes.
struct SafetensorsTensor {
  std::string name;
  kernels::Dtype dtype = kernels::Dtype::f32;
  std::vector<std::int64_t> shape;
  const void* data = nullptr;
};

/// Writes the same bytes as HF's writer: wider dtypes first, then by name, the header padded with spaces to 8 bytes.
/// HF's readers want the metadata {"format": "pt"} in a model file. Error usage for a name given twice or a negative
/// size.
void write_safetensors(OutputFile& out, std::span<const SafetensorsTensor> tensors,
                       const std::map<std::string, std::string>& metadata = {});
/// The same to a path, atomically.
void write_safetensors(const std::filesystem::path& path, std::span<const SafetensorsTensor> tensors,
                       const std::map<std::string, std::string>& metadata = {});

}  // namespace sinter
