#include "kernels/update.h"

#include <cstring>

#include "tests/kernels/kernel_test.h"
#include "tests/kernels/update_cases.h"

namespace sinter::kernels::testing {
namespace {

static_assert(sizeof(UpdateState) == 80 && sizeof(UpdateRecord) == 40, "no bytes between members");

/// What one call leaves.
struct Outcome {
  Buffer<UpdateState> state{1};
  Buffer<UpdateRecord> records;
  Buffer<AdamWCoefficients> coefficients;

  Outcome(const BackendModule& module, const UpdateCase& tested)
      : records(tested.record_count), coefficients(static_cast<std::int64_t>(tested.groups.size())) {
    state[0] = tested.state;
    PrepareUpdate p = tested.params();
    p.state = state.data();
    p.records = records.data();
    p.coefficients = coefficients.data();
    EXPECT_TRUE(run_ok(module, p));
  }
};

TEST(PrepareUpdateOnCpu, MatchesReferenceToTheBit) {
  for (const UpdateCase& tested : update_cases()) {
    SCOPED_TRACE(tested.what);
    const Outcome expected(ref_module(), tested);
    for_each_cpu([&](const BackendModule& cpu) {
      const Outcome actual(cpu, tested);
      expect_same_bits(actual.state, expected.state, "state");
      expect_same_bits(actual.records, expected.records, "records");
      expect_same_bits(actual.coefficients, expected.coefficients, "coefficients");
    });
  }
}

// By hand: gradients of norm 3 at scale 2, so 1.5, clipped to 0.75; t = 3; the fourth rate of two.
TEST(PrepareUpdateOnCpu, OneByHand) {
  const UpdateCase tested{.state = {.scale = 2, .growth_tracker = 4, .global_step = 6, .scheduler_steps = 3,
                                    .adam_t = 2, .loss = 0.5},
                          .squared_norm = 9,
                          .max_norm = 0.75,
                          .loss_scale = LossScaleRules{.growth_factor = 4, .growth_interval = 5},
                          .lr = {1, 0.5},
                          .groups = {{0.5, 0.1}}};
  for_each_cpu([&](const BackendModule& cpu) {
    const Outcome actual(cpu, tested);
    const UpdateState& state = actual.state[0];
    EXPECT_EQ(state.scale, 8);
    EXPECT_EQ(state.loss_gradient, 8.0f);
    EXPECT_EQ(state.growth_tracker, 0);
    EXPECT_EQ(state.global_step, 7);
    EXPECT_EQ(state.scheduler_steps, 4);
    EXPECT_EQ(state.adam_t, 3);
    EXPECT_EQ(state.loss, 0);
    EXPECT_NEAR(state.clip, 0.25, 1e-6);   // 0.75 / 1.500001 / 2
    EXPECT_EQ(state.skip, 0);
    const UpdateRecord& record = actual.records[1];   // 6 % 5
    EXPECT_EQ(record.loss, 0.5);
    EXPECT_EQ(record.norm, 1.5);
    EXPECT_EQ(record.lr, 0.5);
    EXPECT_EQ(record.scale, 2);
    EXPECT_EQ(record.skipped, 0);
    EXPECT_EQ(record.halted, 0);
    const AdamWCoefficients wanted = coefficients(0.25, 0.1, 0.9, 0.999, 3);
    EXPECT_EQ(actual.coefficients[0].decay, 0.975);
    EXPECT_EQ(actual.coefficients[0].step_size, wanted.step_size);
    EXPECT_EQ(actual.coefficients[0].inverse_root, wanted.inverse_root);
  });
}

TEST(AccumulateLossOnCpu, AddsInDoublePrecision) {
  for_each_cpu([&](const BackendModule& cpu) {
    for (const BackendModule* module : {&cpu, &ref_module()}) {
      Buffer<UpdateState> state(1);
      state[0] = {.scale = 4, .adam_t = 7, .loss = 0x1p30};
      const double wide = 0x1p-20;
      const float single = 0x1p-22f;
      const f16 half = to_f16(0x1p-14f);
      const bf16 brain = to_bf16(3);
      for (const auto& [dtype, loss] : {std::pair<Dtype, const void*>{Dtype::f64, &wide},
                                        {Dtype::f32, &single}, {Dtype::f16, &half}, {Dtype::bf16, &brain}})
        ASSERT_TRUE(run_ok(*module, AccumulateLoss{dtype, loss, state.data()}));
      EXPECT_EQ(state[0].loss, 0x1p30 + 3 + 0x1p-14 + 0x1p-20 + 0x1p-22);
      EXPECT_EQ(state[0].scale, 4);
      EXPECT_EQ(state[0].adam_t, 7);
    }
  });
}

TEST(UpdateChecks, RefuseWhatTheContractForbids) {
  const UpdateCase tested{.squared_norm = 1, .loss_scale = LossScaleRules{}};
  const auto refused = [&](auto change, const std::string& says) {
    PrepareUpdate p = tested.params();
    change(p);
    EXPECT_NE(to_string(run(cpu_module(), p)).find(says), std::string::npos) << to_string(run(cpu_module(), p));
  };
  refused([](PrepareUpdate& p) { p.record_count = 0; }, "room for a record");
  refused([](PrepareUpdate& p) { p.lr_count = 0; }, "must be a learning rate");
  refused([](PrepareUpdate& p) { p.group_count = -1; }, "groups must not be negative");
  refused([](PrepareUpdate& p) { p.beta1 = 1; }, "betas");
  refused([](PrepareUpdate& p) { p.beta2 = -0.1; }, "betas");
  refused([](PrepareUpdate& p) { p.nonfinite = nullptr; }, "together or not at all");
  refused([](PrepareUpdate& p) { p.max_norm = 0; }, "max_norm must be positive");
  refused([](PrepareUpdate& p) { p.max_norm = std::numeric_limits<double>::quiet_NaN(); }, "max_norm");
  refused([](PrepareUpdate& p) { p.squared_norm = nullptr, p.nonfinite = nullptr; }, "needs the norm");
  refused([](PrepareUpdate& p) { p.loss_scale.growth_factor = 1; }, "must grow, shrink");
  refused([](PrepareUpdate& p) { p.loss_scale.backoff_factor = 1; }, "must grow, shrink");
  refused([](PrepareUpdate& p) { p.loss_scale.growth_interval = 0; }, "must grow, shrink");
  refused([](PrepareUpdate& p) { p.loss_scale.min_scale = 0; }, "must grow, shrink");
  refused([](PrepareUpdate& p) { p.scales_loss = false, p.max_nonfinite_in_a_row = 0; }, "max_nonfinite_in_a_row");
  EXPECT_EQ(run(cpu_module(), AccumulateLoss{.dtype = Dtype::i32}).code, StatusCode::unsupported);
}

TEST(UpdateChecks, RefuseNegativeCounters) {
  const auto says_so = [](const UpdateState& from) {
    UpdateState state = from;
    PrepareUpdate p = UpdateCase{}.params();
    p.state = &state;
    EXPECT_STREQ(run(cpu_module(), p).what, "a counter of the update's state is negative");
  };
  says_so({.global_step = -1});
  says_so({.scheduler_steps = -1});
  says_so({.adam_t = -1});
}

}  // namespace
}  // namespace sinter::kernels::testing
