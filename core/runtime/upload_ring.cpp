#include "core/runtime/upload_ring.h"

#include <atomic>
#include <utility>

namespace sinter {

using kernels::Status;

UploadRing::~UploadRing() {
  staging_.reset();   // waits for the copies
  api_.destroy_event(device_.index(), computed_);
  api_.destroy_event(device_.index(), copied_);
  api_.destroy_stream(device_.index(), copies_);
}

Status UploadRing::make() {
  Status status = api_.create_stream(device_.index(), &copies_);
  if (status.ok()) status = api_.create_event(device_.index(), &computed_);
  if (status.ok()) status = api_.create_event(device_.index(), &copied_);
  if (status.ok()) staging_.emplace(api_, device_.index(), copies_);
  return status;
}

/// Fills another block from now on.
Status UploadRing::turn(std::size_t bytes) {
  std::swap(block_, other_);
  const bool own_memory = api_.cheap_allocation();
  if (own_memory || block_ == nullptr || block_.use_count() > 1)
    block_ = std::make_shared<Storage>(device_, own_memory ? bytes : kBlock);
  std::atomic_thread_fence(std::memory_order_acquire);   // behind the last look at the count of other threads' tensors
  used_ = 0;
  const Status recorded = api_.record_event(device_.index(), computed_, computation_);
  return recorded.ok() ? api_.wait_event(device_.index(), copies_, computed_) : recorded;
}

Status UploadRing::upload(std::span<const HostBytes> pieces, std::vector<std::shared_ptr<Storage>>* made) {
  const std::lock_guard guard(lock_);
  if (!staging_)
    if (const Status status = make(); !status.ok()) return status;
  if (!api_.cheap_allocation()) return upload_together(pieces, made);
  for (std::size_t i = 0; i < pieces.size(); ++i) {
    if (const Status status = upload_together(pieces.subspan(i, 1), made); !status.ok()) return status;
    block_.reset();
  }
  return {};
}

Status UploadRing::upload_together(std::span<const HostBytes> pieces, std::vector<std::shared_ptr<Storage>>* made) {
  const std::size_t bytes = StagingBuffer::packed_bytes(pieces);
  if (block_ == nullptr || bytes > block_->bytes() - used_)
    if (const Status status = turn(bytes); !status.ok()) return status;
  Status status = staging_->copy(block_->data() + used_, pieces);
  if (status.ok()) status = api_.record_event(device_.index(), copied_, copies_);
  if (status.ok()) status = api_.wait_event(device_.index(), computation_, copied_);
  if (!status.ok()) return status;
  for (const HostBytes piece : pieces) {
    made->push_back(std::make_shared<Storage>(block_, used_, piece.size()));
    used_ += StagingBuffer::packed_bytes({&piece, 1});
  }
  return {};
}

}  // namespace sinter
