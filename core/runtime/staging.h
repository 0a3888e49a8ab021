// Pinned host memory through which small copies go to a device without anybody waiting for it.
#pragma once

#include <cstddef>
#include <mutex>
#include <span>

#include "kernels/base/kernel.h"

namespace sinter {

using HostBytes = std::span<const std::byte>;

/// A ring of two halves. A copy is taken over into the half that is being filled and put into the stream from there; a
/// full half is filled again when the stream has passed its last copy. So the caller may change its memory at once, and
/// waits only when it is a whole half ahead of the device. Thread-safe.
class StagingBuffer {
 public:
  static constexpr std::size_t kHalf = std::size_t{1} << 20;

  StagingBuffer(const kernels::DeviceApi& api, int device, kernels::Stream stream)
      : api_(api), device_(device), stream_(stream) {}
  ~StagingBuffer();
  StagingBuffer(const StagingBuffer&) = delete;
  StagingBuffer& operator=(const StagingBuffer&) = delete;

  /// Of pieces that stand one behind the other, each at a multiple of 64 bytes.
  static std::size_t packed_bytes(std::span<const HostBytes> pieces);
  static bool takes(std::span<const HostBytes> pieces) { return packed_bytes(pieces) <= kHalf / 4; }
  /// Pieces that takes() accepts to memory of the device, packed as above, in one transfer. What lies between them
  /// there is overwritten, with anything.
  [[nodiscard]] kernels::Status copy(void* dst, std::span<const HostBytes> pieces);

 private:
  kernels::Status make();
  kernels::Status turn();

  const kernels::DeviceApi& api_;
  int device_;
  kernels::Stream stream_;
  std::mutex lock_;
  std::byte* memory_ = nullptr;    // 2 * kHalf bytes, made at the first copy
  kernels::Event passed_[2];       // behind the last copy of each half
  int half_ = 0;
  std::size_t used_ = 0;           // bytes of the half that is being filled
};

}  // namespace sinter
