// The shared memory of the block that runs.
#pragma once

#include <cstddef>
#include <vector>

namespace sinter::kernels::simt {

inline constexpr std::size_t kStaticSharedBytes = 64 << 10;    ///< 48 KiB as on the device, and red zones
inline constexpr std::size_t kMostStaticSharedBytes = 48 << 10;
/// Of a block, static and dynamic together.
inline constexpr std::size_t kSharedBytesByDefault = 48 << 10;
inline constexpr std::size_t kMostSharedBytes = 227 << 10;     ///< of sm_90, with allow_dynamic_shared

/// Static arrays, each with a red zone behind it, and one dynamic array. All of it holds 0xff bytes (NaN) when a block
/// begins. What lies outside the arrays is poisoned under the address sanitizer.
class SharedMemory {
 public:
  SharedMemory();
  ~SharedMemory();
  SharedMemory(const SharedMemory&) = delete;
  SharedMemory& operator=(const SharedMemory&) = delete;

  /// `most_bytes`: what the block may have, static and dynamic together.
  void begin_block(std::size_t dynamic_bytes, std::size_t most_bytes);
  /// The array of `key` in this block; null where the block has no room for it.
  std::byte* static_array(const void* key, std::size_t bytes);
  std::byte* dynamic_array() { return dynamic_; }
  const std::byte* statics() const { return static_; }
  std::size_t static_arrays() const { return arrays_.size(); }

 private:
  struct Array {
    const void* key;
    std::byte* begin;
  };
  std::byte* static_ = nullptr;
  std::byte* dynamic_ = nullptr;
  std::size_t arena_used_ = 0, static_bytes_ = 0;
  std::size_t most_static_bytes_ = 0;
  std::vector<Array> arrays_;
};

}  // namespace sinter::kernels::simt
