// The memory of an emulated device: a reserved range of addresses in which buffers lie with gaps between them.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>

namespace sinter::kernels::simt {

class Checker;

/// Host code cannot touch the buffers under the address sanitizer and in the checked build, but inside an AccessScope.
class DeviceMemory {
 public:
  static constexpr std::size_t kReserved = std::size_t{4} << 30;
  static constexpr std::size_t kGap = 256;   ///< after each buffer, and its alignment

  DeviceMemory();
  ~DeviceMemory();
  DeviceMemory(const DeviceMemory&) = delete;
  DeviceMemory& operator=(const DeviceMemory&) = delete;

  /// Null when no gap of the reserved range is large enough. The buffer holds 0xff bytes and counts as never written.
  std::byte* allocate(std::size_t bytes);
  /// False for a pointer that is no buffer's begin.
  bool deallocate(void* memory);

  bool contains(const void* address) const {
    return static_cast<std::size_t>(static_cast<const std::byte*>(address) - base_) < kReserved;
  }
  struct Buffer {
    std::byte* begin;
    std::size_t bytes;
  };
  /// The buffer at or before the address; {null, 0} where there is none.
  Buffer nearest(const void* address) const;
  /// True for a range of host memory, and for one that lies in one buffer.
  bool is_sound(const void* begin, std::size_t bytes) const;
  std::size_t bytes_in_use() const { return bytes_in_use_; }
  const std::byte* base() const { return base_; }

  /// Null but in the checked build.
  Checker* checker() { return checker_.get(); }

  /// The buffers can be touched while one lives.
  class AccessScope {
   public:
    explicit AccessScope(DeviceMemory& memory) : memory_(memory) { memory_.set_accessible(true); }
    ~AccessScope() { memory_.set_accessible(false); }
    AccessScope(const AccessScope&) = delete;
    AccessScope& operator=(const AccessScope&) = delete;

   private:
    DeviceMemory& memory_;
  };

 private:
  void set_accessible(bool accessible);

  std::byte* base_ = nullptr;
  std::size_t used_ = 0;                              // highest end of a buffer ever, from base_
  std::size_t bytes_in_use_ = 0;
  int scopes_ = 0;
  std::map<std::byte*, std::size_t> buffers_;
  std::map<std::byte*, std::size_t> free_;            // by address, neighbours merged
  std::unique_ptr<Checker> checker_;
};

}  // namespace sinter::kernels::simt
