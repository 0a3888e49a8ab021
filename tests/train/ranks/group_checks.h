// What every ProcessGroup must do, whatever carries its bytes: run by threads and, under mpirun, by processes.
#pragma once

#include <cstdint>
#include <ostream>
#include <span>

#include "core/process_group.h"

namespace sinter::train::testing {

/// All ranks of the group call `run`, which expects with GoogleTest's macros. The group can be used afterwards.
struct GroupCheck {
  const char* name;
  void (*run)(ProcessGroup& group);
};

inline std::ostream& operator<<(std::ostream& out, const GroupCheck& check) { return out << check.name; }

std::span<const GroupCheck> group_checks();

/// Every reduction of about `numel` elements of f32 against a plain loop, and an all_gather and a broadcast.
void check_numel(ProcessGroup& group, std::int64_t numel);

/// The last call in a group of at least two: `end` ends it on the last rank while the others call all_reduce.
void check_early_end(ProcessGroup& group, void (*end)(ProcessGroup& group));

}  // namespace sinter::train::testing
