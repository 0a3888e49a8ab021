// The largest block that a piece of code asks for, to show that no size in a file is believed before it is checked.
#pragma once

#include <cstddef>

namespace sinter::testing {

/// Counts from its construction on, in all threads. Including this file's .cpp replaces the global operator new of the
/// test program, under sanitizers too.
class AllocationWatch {
 public:
  AllocationWatch();
  /// Bytes of the largest single block that was asked for since.
  std::size_t largest() const;
  /// Bytes of all blocks that were asked for since, freed ones too.
  std::size_t total() const;
};

}  // namespace sinter::testing
