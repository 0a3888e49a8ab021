#include "kernels/update.h"

#include "tests/kernels/cuda/device_case.h"
#include "tests/kernels/update_cases.h"

namespace sinter::kernels::testing {
namespace {

template <class T>
std::vector<std::byte> bytes_of(const T& x) {
  const auto* const bytes = reinterpret_cast<const std::byte*>(&x);
  return {bytes, bytes + sizeof(T)};
}

/// The counters and decisions must be the reference's to the bit. So must all that is computed without a power: roots,
/// quotients and products of f64 are rounded alike everywhere.
struct Prepared {
  DeviceCase<PrepareUpdate> device;

  explicit Prepared(const UpdateCase& tested) : device(tested.params()) {
    PrepareUpdate& p = device.params;
    const Tolerance same{.ulps = 0};
    device.in_out_elements(p.state, Dtype::i64, bytes_of(tested.state), same);
    const std::int64_t words = static_cast<std::int64_t>(sizeof(UpdateRecord) / 8) * tested.record_count;
    device.in_out_elements(p.records, Dtype::f64, any_elements(Dtype::f64, words, 1), same);   // norms may be NaN
    if (tested.squared_norm) {
      device.input(p.squared_norm, Dtype::f64, {*tested.squared_norm});
      device.input(p.nonfinite, Dtype::i32, {static_cast<double>(tested.nonfinite)});
    }
    device.input(p.lr, Dtype::f64, tested.lr);
    std::vector<double> groups;
    for (const UpdateGroup& group : tested.groups) groups.insert(groups.end(), {group.lr_scale, group.weight_decay});
    device.input(p.groups, Dtype::f64, groups);
    // A power that is 4 roundings off, less than 1 by 1 / 1000: 4,000 roundings, of which the root takes half away.
    device.output(p.coefficients, Dtype::f64, 3 * static_cast<std::int64_t>(tested.groups.size()),
                  {.ulps = 2000 + 8, .each = true});
  }
};

TEST(PrepareUpdateOnDevice, MatchesReference) {
  for (const UpdateCase& tested : update_cases()) {
    SCOPED_TRACE(tested.what);
    Prepared(tested).device.check();
  }
}

TEST(PrepareUpdateOnDevice, StopsAtNegativeCounters) {
  for (const UpdateState& state : {UpdateState{.global_step = -1}, UpdateState{.scheduler_steps = -1},
                                   UpdateState{.adam_t = -1}})
    Prepared({.state = state}).device.check_stops("a counter of the update's state is negative");
}

TEST(AccumulateLossOnDevice, MatchesReference) {
  for (const Dtype dtype : kDeviceDtypes) {
    SCOPED_TRACE(name(dtype));
    for (const double loss : {0.6931, 0.0, -2.5, static_cast<double>(std::numeric_limits<float>::infinity())}) {
      DeviceCase<AccumulateLoss> c({.dtype = dtype});
      c.input(c.params.loss, dtype, {loss});
      c.in_out_elements(c.params.state, Dtype::i64, bytes_of(UpdateState{.scale = 8, .adam_t = 3, .loss = 0x1p20}),
                        {.ulps = 0});
      c.check();
    }
  }
}

TEST(UpdateOnDeviceChecks, RefuseWhatTheContractForbids) {
  expect_refused(AccumulateLoss{.dtype = Dtype::i64}, "the dtype must be");
  expect_refused(PrepareUpdate{.record_count = 0}, "room for a record");
  expect_refused(PrepareUpdate{.scales_loss = true}, "needs the norm");
}

}  // namespace
}  // namespace sinter::kernels::testing
