// Operands of a dropout site on the device: what params.dropout and params.map point to.
#pragma once

#include "tests/kernels/cuda/device_case.h"
#include "tests/kernels/row_cases.h"

namespace sinter::kernels::testing {

/// A site of the tests without memory of its own; p = 0: off.
inline Dropout16 site_on_device(double p) {
  return {.seed = 0x123456789abcdefull, .site = 7, .threshold = dropout_threshold(p)};
}

/// Gives the case its step and first sample, and a map of rows if `mapped`: sequences of three lengths, the last one
/// cut.
template <class P>
void add_dropout(DeviceCase<P>& c, std::int64_t rows, bool first_sample, bool mapped) {
  c.input(c.params.dropout.step, Dtype::i32, std::vector<double>{41});
  if (first_sample) c.input(c.params.dropout.first_sample, Dtype::i32, std::vector<double>{1000});
  if (!mapped) return;
  std::vector<double> sample, position;
  for (std::int64_t r = 0; r < rows; ++r) {
    const std::int64_t in_cycle = r % 12;   // sequences of 1, 4 and 7 rows
    const std::int64_t sequence = in_cycle == 0 ? 0 : in_cycle < 5 ? 1 : 2;
    sample.push_back(static_cast<double>(r / 12 * 3 + sequence));
    position.push_back(static_cast<double>(in_cycle - (sequence == 0 ? 0 : sequence == 1 ? 1 : 5)));
  }
  c.input(c.params.map.sample, Dtype::i32, sample);
  c.input(c.params.map.position, Dtype::i32, position);
}

}  // namespace sinter::kernels::testing
