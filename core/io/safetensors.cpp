#include "core/io/safetensors.h"

#include <algorithm>
#include <array>
#include <bit>
#include <numeric>
#include <optional>

#include "core/error.h"
#include "core/io/json.h"
#include "core/io/shown.h"

namespace sinter {
namespace {

using kernels::Dtype;

static_assert(std::endian::native == std::endian::little, "the data is little-endian and is copied as it stands");

constexpr std::uint64_t kMaxHeaderBytes = 100'000'000;
constexpr const char* kMetadata = "__metadata__";

// In the order of the format's own list, which its writer follows downwards.
struct DtypeName {
  Dtype dtype;
  std::string_view name;
};
constexpr std::array<DtypeName, kernels::kDtypeCount> kDtypes = {{{Dtype::boolean, "BOOL"},
                                                                  {Dtype::u8, "U8"},
                                                                  {Dtype::f16, "F16"},
                                                                  {Dtype::bf16, "BF16"},
                                                                  {Dtype::i32, "I32"},
                                                                  {Dtype::f32, "F32"},
                                                                  {Dtype::f64, "F64"},
                                                                  {Dtype::i64, "I64"}}};

std::size_t rank_of(Dtype dtype) {
  return static_cast<std::size_t>(std::ranges::find(kDtypes, dtype, &DtypeName::dtype) - kDtypes.begin());
}

// Bytes that dtype and shape need; nothing when a size is negative or the product leaves 63 bits.
std::optional<std::uint64_t> bytes_needed(Dtype dtype, const std::vector<std::int64_t>& shape) {
  std::int64_t bytes = static_cast<std::int64_t>(kernels::size_of(dtype));
  for (const std::int64_t size : shape)
    if (size < 0 || __builtin_mul_overflow(bytes, size, &bytes)) return std::nullopt;
  return static_cast<std::uint64_t>(bytes);
}

SafetensorsEntry read_entry(const std::string& file, const std::string& name, const Json& info) {
  const auto refuse = [&](const auto&... parts) {
    fail(ErrorCode::bad_input, file, ": tensor ", shown(name), " ", parts...);
  };
  SafetensorsEntry entry;
  entry.name = name;
  const std::string dtype = info.get<std::string>("dtype");
  const auto* known = std::ranges::find(kDtypes, dtype, &DtypeName::name);
  if (known == kDtypes.end())
    refuse("has the unsupported dtype ", shown(info.at("dtype").dump()),
           ", it must be one of F32 F64 F16 BF16 I64 I32 U8 BOOL");
  entry.dtype = known->dtype;
  for (const Json& size : info.elements("shape")) entry.shape.push_back(size.as<std::int64_t>());
  const Json::Array& offsets = info.elements("data_offsets");
  if (offsets.size() != 2) refuse("has ", offsets.size(), " data_offsets, it must have begin and end");
  const std::int64_t begin = offsets[0].as<std::int64_t>();
  const std::int64_t end = offsets[1].as<std::int64_t>();
  if (begin < 0 || end < begin)
    refuse("has the data_offsets [", begin, ", ", end, "], they must satisfy 0 <= begin <= end");
  entry.begin = static_cast<std::uint64_t>(begin);
  entry.end = static_cast<std::uint64_t>(end);
  const std::optional<std::uint64_t> needed = bytes_needed(entry.dtype, entry.shape);
  const auto shape = [&info] { return shown(info.at("shape").dump({.indent = -1})); };
  if (!needed) refuse("has the shape ", shape(), ", its sizes must be at least 0 and its bytes below 2^63");
  if (*needed != entry.bytes())
    refuse("spans ", entry.bytes(), " bytes, but ", dtype, " ", shape(), " needs ", *needed);
  return entry;
}

}  // namespace

SafetensorsFile::SafetensorsFile(const std::filesystem::path& path) : file_(path) {
  read_header();
  check_layout();
}

void SafetensorsFile::read_header() {
  const std::string file = path().string();
  if (file_.size() < 8)
    fail(ErrorCode::bad_input, file, " has ", file_.size(), " bytes, a safetensors file begins with the 8 ",
         "of its header's length");
  unsigned char prefix[8];
  file_.read(0, prefix, sizeof prefix);
  const auto header_bytes = std::bit_cast<std::uint64_t>(prefix);
  if (header_bytes > kMaxHeaderBytes)
    fail(ErrorCode::bad_input, file, " says that its header has ", header_bytes, " bytes, at most ", kMaxHeaderBytes,
         " are allowed: it is no safetensors file, or damaged");
  if (header_bytes > file_.size() - 8)
    fail(ErrorCode::bad_input, file, " says that its header has ", header_bytes, " bytes, but only ", file_.size() - 8,
         " follow: it is truncated");
  std::string text(static_cast<std::size_t>(header_bytes), '\0');
  file_.read(8, text.data(), text.size());
  data_begin_ = 8 + header_bytes;

  JsonLimits limits;
  limits.max_bytes = static_cast<std::size_t>(kMaxHeaderBytes);
  const Json header = Json::parse(text, file, limits);
  for (const auto& [name, info] : header.items()) {
    if (name == kMetadata) {
      for (const auto& [key, value] : header.items(kMetadata)) metadata_[key] = info.get<std::string>(key);
    } else {
      tensors_.push_back(read_entry(file, name, info));
    }
  }
  std::ranges::stable_sort(tensors_, [](const auto& a, const auto& b) {
    return std::pair(a.begin, a.end) < std::pair(b.begin, b.end);
  });
  for (std::size_t i = 0; i < tensors_.size(); ++i) places_[tensors_[i].name] = i;
}

void SafetensorsFile::check_layout() const {
  const std::string file = path().string();
  std::uint64_t end = 0;
  for (const SafetensorsEntry& entry : tensors_) {
    if (entry.begin != end)
      fail(ErrorCode::bad_input, file, ": tensor ", shown(entry.name), " begins at byte ", entry.begin,
           " of the data, it must be ", end,
           entry.begin < end ? ": it overlaps the tensor before" : ": there is a hole before it");
    end = entry.end;
  }
  const std::uint64_t data_bytes = file_.size() - data_begin_;
  if (end > data_bytes)
    fail(ErrorCode::bad_input, file, " is truncated: its tensors need ", end, " bytes of data, ", data_bytes,
         " are there");
  if (end < data_bytes)
    fail(ErrorCode::bad_input, file, " has ", data_bytes - end, " bytes after its last tensor, none may follow");
}

const SafetensorsEntry* SafetensorsFile::find(std::string_view name) const {
  const auto place = places_.find(name);
  return place == places_.end() ? nullptr : &tensors_[place->second];
}

const SafetensorsEntry& SafetensorsFile::at(std::string_view name) const {
  if (const SafetensorsEntry* entry = find(name)) return *entry;
  fail(ErrorCode::bad_input, path().string(), " has no tensor ", shown(name));
}

void SafetensorsFile::read(std::string_view name, void* dst, std::size_t bytes) const {
  const SafetensorsEntry& entry = at(name);
  if (bytes != entry.bytes())
    fail(ErrorCode::usage, path().string(), ": tensor ", shown(name), " has ", entry.bytes(), " bytes, a buffer of ",
         bytes, " was given");
  file_.read(data_begin_ + entry.begin, dst, bytes);
  if (entry.dtype != Dtype::boolean) return;
  const auto* values = static_cast<const unsigned char*>(dst);
  const auto* bad = std::find_if(values, values + bytes, [](unsigned char value) { return value > 1; });
  if (bad != values + bytes)
    fail(ErrorCode::bad_input, path().string(), ": tensor ", shown(name), " is BOOL and has the byte ", int{*bad},
         " at ", bad - values, ", it must be 0 or 1");
}

void write_safetensors(OutputFile& out, std::span<const SafetensorsTensor> tensors,
                       const std::map<std::string, std::string>& metadata) {
  std::vector<const SafetensorsTensor*> ordered;
  for (const SafetensorsTensor& tensor : tensors) ordered.push_back(&tensor);
  std::ranges::sort(ordered, [](const auto* a, const auto* b) {
    const std::size_t left = rank_of(a->dtype);
    const std::size_t right = rank_of(b->dtype);
    return left != right ? left > right : a->name < b->name;
  });

  Json header = Json::object();
  if (!metadata.empty()) {
    Json texts = Json::object();
    for (const auto& [key, value] : metadata) texts.set(key, value);
    header.set(kMetadata, texts);
  }
  std::vector<std::size_t> sizes;
  std::int64_t end = 0;
  for (const SafetensorsTensor* tensor : ordered) {
    if (tensor->name == kMetadata || header.contains(tensor->name))
      fail(ErrorCode::usage, "a safetensors file cannot hold the tensor name ", tensor->name, " twice, nor ",
           kMetadata);
    const std::optional<std::uint64_t> bytes = bytes_needed(tensor->dtype, tensor->shape);
    const std::int64_t begin = end;
    if (!bytes || __builtin_add_overflow(end, static_cast<std::int64_t>(*bytes), &end))
      fail(ErrorCode::usage, "tensor ", tensor->name, " has a negative size, or the file would exceed 2^63 bytes");
    sizes.push_back(static_cast<std::size_t>(*bytes));
    const Json::Array shape(tensor->shape.begin(), tensor->shape.end());
    header.set(tensor->name, Json::object({{"dtype", kDtypes[rank_of(tensor->dtype)].name},
                                           {"shape", Json::array(shape)},
                                           {"data_offsets", Json::array({begin, end})}}));
  }
  std::string text = header.dump({.indent = -1});
  text.resize((text.size() + 7) / 8 * 8, ' ');
  const std::uint64_t length = text.size();
  out.write(&length, sizeof length);
  out.write(text);
  for (std::size_t i = 0; i < ordered.size(); ++i) out.write(ordered[i]->data, sizes[i]);
}

void write_safetensors(const std::filesystem::path& path, std::span<const SafetensorsTensor> tensors,
                       const std::map<std::string, std::string>& metadata) {
  write_file_atomically(path, [&](OutputFile& out) { write_safetensors(out, tensors, metadata); });
}

}  // namespace sinter
