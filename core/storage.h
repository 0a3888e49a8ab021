// A range of device memory with a version, shared by the tensors that view it.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>

#include "core/device.h"

namespace sinter {

/// Memory from the runtime's allocator, or a slice of another storage. Every in-place write raises `version` and leaves
/// the writer's name, so that backward can say who changed a saved tensor. A slice counts its own versions.
class Storage {
 public:
  Storage(Device device, std::size_t bytes);
  /// Bytes [offset, offset + bytes) of `parent`, which is kept alive.
  Storage(std::shared_ptr<Storage> parent, std::size_t offset, std::size_t bytes);
  ~Storage();
  Storage(const Storage&) = delete;
  Storage& operator=(const Storage&) = delete;

  std::byte* data() const { return data_; }
  std::size_t bytes() const { return bytes_; }
  Device device() const { return device_; }

  std::uint64_t version() const { return version_; }
  const char* last_writer() const { return last_writer_; }
  /// `writer` is a string literal: the name of the in-place operation.
  void mark_written(const char* writer) {
    ++version_;
    last_writer_ = writer;
  }

 private:
  std::shared_ptr<Storage> parent_;
  std::uint64_t capture_ = 0;   // the recording whose arena it is a part of (core/runtime/step_recorder.h); 0: none
  Device device_;
  std::byte* data_ = nullptr;
  std::size_t bytes_ = 0;
  std::uint64_t version_ = 0;
  const char* last_writer_ = "";
};

}  // namespace sinter
