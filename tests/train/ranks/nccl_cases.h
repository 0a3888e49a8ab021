// What ranks on devices must compute through NcclGroup: run with a pretended NCCL on emulated devices, and with the
// real one on GPUs.
#pragma once

#include <functional>
#include <ostream>
#include <span>
#include <vector>

#include "train/ranks/nccl/nccl_group.h"

namespace sinter::train::testing {

/// All ranks call `run`, which expects with GoogleTest's macros. The group can be used afterwards.
struct NcclCase {
  const char* name;
  void (*run)(NcclGroup& group);
};

inline std::ostream& operator<<(std::ostream& out, const NcclCase& tested) { return out << tested.name; }

std::span<const NcclCase> nccl_cases();

/// Runs `rank` in a thread for each device, with a group of them all, which it finishes. What it throws is a failure of
/// the test.
void run_on_devices(const nccl::Functions& functions, const std::vector<Device>& devices,
                    const std::function<void(NcclGroup&)>& rank, const NcclOptions& options = {});

}  // namespace sinter::train::testing
