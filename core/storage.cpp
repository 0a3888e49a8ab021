#include "core/storage.h"

#include "core/error.h"
#include "core/runtime/runtime.h"
#include "core/runtime/step_recorder.h"

namespace sinter {

Storage::Storage(Device device, std::size_t bytes) : device_(device), bytes_(bytes) {
  if (const StepRecorder* const recorder = StepRecorder::active(device)) {
    parent_ = recorder->arena();
    capture_ = recorder->capture();
  }
  data_ = static_cast<std::byte*>(Runtime::instance().allocate(device, bytes));
}

Storage::Storage(std::shared_ptr<Storage> parent, std::size_t offset, std::size_t bytes)
    : parent_(std::move(parent)), device_(parent_->device()), bytes_(bytes) {
  if (offset > parent_->bytes() || bytes > parent_->bytes() - offset)
    fail(ErrorCode::internal, "a slice of ", bytes, " bytes at ", offset, " leaves a storage of ", parent_->bytes());
  data_ = parent_->data() + offset;
}

Storage::~Storage() {
  if (capture_ == 0) {
    if (parent_ == nullptr) Runtime::instance().deallocate(device_, data_);
  } else if (StepRecorder* const recorder = StepRecorder::active(device_);
             recorder != nullptr && recorder->capture() == capture_) {
    recorder->deallocate(data_);   // else the recording has ended, and the memory was never the allocator's
  }
}

}  // namespace sinter
