// The devices, beside the CPU, that tests of core and of what stands on it run on.
#pragma once

#include <gtest/gtest.h>

#include <string>

#include "core/runtime/runtime.h"

namespace sinter::testing {

/// Why `device` cannot be used, as a sentence; "" where it can.
inline std::string why_not_on(Device device) {
  const std::string why = Runtime::instance().why_unusable(device);
  return why.empty() ? "" : device.str() + " is not usable: " + why;
}

/// Another device of the same type; the device itself where it is the only one.
inline Device another(Device device) {
  if (Runtime::instance().device_count(device.type()) < 2) return device;
  const int index = device.index() == 0 ? 1 : 0;
  return device.type() == DeviceType::cuda ? Device::cuda(index) : Device::simt(index);
}

/// "cpu0", "simt0", "cuda0"
inline std::string name_of(const ::testing::TestParamInfo<Device>& tested) {
  const DeviceType type = tested.param.type();
  const char* const name = type == DeviceType::cuda ? "cuda" : type == DeviceType::simt ? "simt" : "cpu";
  return name + std::to_string(tested.param.index());
}

/// Runs the TEST_Ps of a fixture on the emulated device, on one whose work waits until somebody waits for it, and on a
/// GPU.
#define SINTER_ON_OTHER_DEVICES(Fixture)                                                                 \
  INSTANTIATE_TEST_SUITE_P(                                                                              \
      Devices, Fixture,                                                                                  \
      ::testing::Values(::sinter::Device::simt(), ::sinter::Device::simt(1), ::sinter::Device::cuda()), \
      ::sinter::testing::name_of)

}  // namespace sinter::testing
