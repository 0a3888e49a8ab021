#include "core/runtime/staging.h"

#include <cstring>

namespace sinter {

using kernels::Status;

namespace {

constexpr std::size_t kGranule = 64;

std::size_t in_granules(std::size_t bytes) { return (bytes + kGranule - 1) / kGranule * kGranule; }

}  // namespace

std::size_t StagingBuffer::packed_bytes(std::span<const HostBytes> pieces) {
  std::size_t bytes = 0;
  for (const HostBytes piece : pieces) bytes += in_granules(piece.size());
  return bytes;
}

StagingBuffer::~StagingBuffer() {
  for (const kernels::Event event : passed_) api_.destroy_event(device_, event);
  api_.deallocate_host(device_, memory_);   // waits for the copies
}

Status StagingBuffer::make() {
  for (kernels::Event& event : passed_)
    if (event.handle == nullptr)
      if (const Status status = api_.create_event(device_, &event); !status.ok()) return status;
  void* memory = nullptr;
  const Status status = api_.allocate_host(device_, 2 * kHalf, &memory);
  if (status.ok()) memory_ = static_cast<std::byte*>(memory);
  return status;
}

/// The other half is filled from now on.
Status StagingBuffer::turn() {
  if (const Status status = api_.record_event(device_, passed_[half_], stream_); !status.ok()) return status;
  half_ = 1 - half_;
  used_ = 0;
  return api_.synchronize_event(device_, passed_[half_]);
}

Status StagingBuffer::copy(void* dst, std::span<const HostBytes> pieces) {
  const std::lock_guard guard(lock_);
  if (memory_ == nullptr)
    if (const Status status = make(); !status.ok()) return status;
  if (packed_bytes(pieces) > kHalf - used_)
    if (const Status status = turn(); !status.ok()) return status;
  std::byte* const place = memory_ + static_cast<std::size_t>(half_) * kHalf + used_;
  std::size_t at = 0, end = 0;
  for (const HostBytes piece : pieces) {
    if (!piece.empty()) std::memcpy(place + at, piece.data(), piece.size());
    end = at + piece.size();
    at += in_granules(piece.size());
  }
  used_ += at;
  return end == 0 ? Status{} : api_.copy(device_, dst, place, end, stream_);
}

}  // namespace sinter
