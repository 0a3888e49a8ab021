#include "core/runtime/staging.h"

#include <cstring>

namespace sinter {

using kernels::Status;

namespace {

constexpr std::size_t kGranule = 64;

}  // namespace

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

Status StagingBuffer::copy(void* dst, const void* src, std::size_t bytes) {
  const std::lock_guard guard(lock_);
  if (memory_ == nullptr)
    if (const Status status = make(); !status.ok()) return status;
  if (bytes > kHalf - used_)
    if (const Status status = turn(); !status.ok()) return status;
  std::byte* const place = memory_ + static_cast<std::size_t>(half_) * kHalf + used_;
  used_ += (bytes + kGranule - 1) / kGranule * kGranule;
  std::memcpy(place, src, bytes);
  return api_.copy(device_, dst, place, bytes, stream_);
}

}  // namespace sinter
