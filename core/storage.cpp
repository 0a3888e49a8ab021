#include "core/storage.h"

#include "core/error.h"
#include "core/runtime/runtime.h"

namespace sinter {

Storage::Storage(Device device, std::size_t bytes)
    : device_(device),
      data_(static_cast<std::byte*>(Runtime::instance().allocate(device, bytes))),
      bytes_(bytes) {}

Storage::Storage(std::shared_ptr<Storage> parent, std::size_t offset, std::size_t bytes)
    : parent_(std::move(parent)), device_(parent_->device()), bytes_(bytes) {
  if (offset > parent_->bytes() || bytes > parent_->bytes() - offset)
    fail(ErrorCode::internal, "a slice of ", bytes, " bytes at ", offset, " leaves a storage of ", parent_->bytes());
  data_ = parent_->data() + offset;
}

Storage::~Storage() {
  if (parent_ == nullptr) Runtime::instance().deallocate(device_, data_);
}

}  // namespace sinter
