// How a batch gets to a device while that computes.
#pragma once

#include <cstddef>
#include <memory>
#include <mutex>
#include <optional>
#include <span>
#include <vector>

#include "core/device.h"
#include "core/runtime/staging.h"
#include "core/storage.h"

namespace sinter {

/// Fills memory of a device from the host in a stream of its own: a copy begins while the device computes what was
/// launched before it, and what is launched after it waits for it. The memory comes from the device's allocator in
/// blocks, which live as long as a tensor in them; once for a whole block, copies wait for the computation that may
/// still use what was in its place. Nobody else waits. Thread-safe.
///
/// Where the device allocates cheaply (an emulated one), every piece is memory of its own, whose ends it checks.
class Uploader {
 public:
  /// `computation` is the stream of the kernels that will read what is uploaded.
  Uploader(const kernels::DeviceApi& api, Device device, kernels::Stream computation)
      : api_(api), device_(device), computation_(computation) {}
  ~Uploader();
  Uploader(const Uploader&) = delete;
  Uploader& operator=(const Uploader&) = delete;

  static bool takes(std::span<const HostBytes> pieces) { return StagingBuffer::takes(pieces); }
  /// Appends a storage to `made` for each of the `pieces`, which takes() accepts and which go over in one transfer.
  [[nodiscard]] kernels::Status upload(std::span<const HostBytes> pieces, std::vector<std::shared_ptr<Storage>>* made);

 private:
  static constexpr std::size_t kBlock = StagingBuffer::kHalf;

  kernels::Status make();
  kernels::Status next_block(std::size_t bytes);
  kernels::Status upload_together(std::span<const HostBytes> pieces, std::vector<std::shared_ptr<Storage>>* made);

  const kernels::DeviceApi& api_;
  const Device device_;
  const kernels::Stream computation_;
  std::mutex lock_;
  kernels::Stream copies_;                  // made at the first upload, as all below
  kernels::Event computed_, copied_;
  std::optional<StagingBuffer> staging_;
  std::shared_ptr<Storage> block_;          // that is being filled
  std::size_t used_ = 0;                    // bytes of block_
};

}  // namespace sinter
