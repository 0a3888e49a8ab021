// Where a tensor lives.
#pragma once

#include <cstdint>
#include <string>

namespace sinter {

enum class DeviceType : std::uint8_t {
  cpu,
  cuda,
  simt,  ///< the CUDA kernels emulated on the CPU; behaves as CUDA and is only used when named
};

/// A device by type and ordinal: "cpu", "cuda:0", "simt:0".
class Device {
 public:
  constexpr Device() = default;
  static constexpr Device cpu() { return {DeviceType::cpu, 0}; }
  static constexpr Device cuda(int index = 0) { return {DeviceType::cuda, index}; }
  static constexpr Device simt(int index = 0) { return {DeviceType::simt, index}; }

  /// From "cpu", "cuda", "cuda:1", "simt" ...; anything else is a usage error that lists the forms.
  static Device parse(const std::string& text);

  constexpr DeviceType type() const { return type_; }
  constexpr int index() const { return index_; }
  constexpr bool is_cpu() const { return type_ == DeviceType::cpu; }
  /// True on CUDA devices, emulated ones included.
  constexpr bool is_cuda() const { return type_ != DeviceType::cpu; }
  std::string str() const;

  friend constexpr bool operator==(Device, Device) = default;

 private:
  constexpr Device(DeviceType type, int index) : type_(type), index_(index) {}
  DeviceType type_ = DeviceType::cpu;
  int index_ = 0;
};

}  // namespace sinter
