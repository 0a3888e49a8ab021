#include "core/runtime/uploader.h"

namespace sinter {

using kernels::Status;

Uploader::~Uploader() {
  staging_.reset();   // waits for the copies
  api_.destroy_event(device_.index(), computed_);
  api_.destroy_event(device_.index(), copied_);
  api_.destroy_stream(device_.index(), copies_);
}

Status Uploader::make() {
  Status status = api_.create_stream(device_.index(), &copies_);
  if (status.ok()) status = api_.create_event(device_.index(), &computed_);
  if (status.ok()) status = api_.create_event(device_.index(), &copied_);
  if (status.ok()) staging_.emplace(api_, device_.index(), copies_);
  return status;
}

/// Fills another block from now on. Whoever had its memory before may still use it.
Status Uploader::next_block(std::size_t bytes) {
  block_ = std::make_shared<Storage>(device_, api_.cheap_allocation() ? bytes : kBlock);
  used_ = 0;
  const Status recorded = api_.record_event(device_.index(), computed_, computation_);
  return recorded.ok() ? api_.wait_event(device_.index(), copies_, computed_) : recorded;
}

Status Uploader::upload(std::span<const HostBytes> pieces, std::vector<std::shared_ptr<Storage>>* made) {
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

Status Uploader::upload_together(std::span<const HostBytes> pieces, std::vector<std::shared_ptr<Storage>>* made) {
  const std::size_t bytes = StagingBuffer::packed_bytes(pieces);
  if (block_ == nullptr || bytes > block_->bytes() - used_)
    if (const Status status = next_block(bytes); !status.ok()) return status;
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
