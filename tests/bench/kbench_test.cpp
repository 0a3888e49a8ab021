// The calls that kbench times on a GPU, run once on the emulated device at small sizes: each is accepted, stays inside
// its memory (the device reports what does not), and no kernel is without one.
#include "bench/kbench_cases.h"

#include <gtest/gtest.h>

#include <set>

#include "kernels/simt/module.h"

namespace sinter::bench {
namespace {

constexpr Sizes kSmall = {.tokens = 64, .small_tokens = 32, .tiny_tokens = 9, .hidden = 64, .intermediate = 72,
                          .heads = 1, .vocab = 50, .positions = 40, .sequence = 16, .middle_sequence = 24,
                          .long_sequence = 32, .parameters = 3 * 4096 + 5};

std::vector<kernels::KernelId> kernels_of(const std::vector<MakeCase>& cases) {
  std::vector<kernels::KernelId> ids;
  for (const MakeCase& make : cases) ids.push_back(make()->id());
  return ids;
}

TEST(Kbench, EveryKernelHasACase) {
  const std::vector<kernels::KernelId> ids = kernels_of(kernel_cases(kSmall));
  const std::set<kernels::KernelId> found(ids.begin(), ids.end());
  for (int id = 0; id < kernels::kKernelCount; ++id)
    EXPECT_TRUE(found.contains(static_cast<kernels::KernelId>(id))) << name(static_cast<kernels::KernelId>(id));
}

TEST(Kbench, CasesRunOnTheEmulatedDevice) {
  const kernels::BackendModule& device = kernels::simt_module();
  for (const MakeCase& make : kernel_cases(kSmall)) {
    const std::unique_ptr<KernelCase> made = make();
    SCOPED_TRACE(made->name());
    const kernels::KernelEntry* const entry = find(device, made->id());
    if (entry == nullptr) continue;  // a family that is still empty
    ASSERT_TRUE(made->place(device, 2).ok());
    EXPECT_GT(made->work().bytes(), 0);
    for (int variant = -1; variant < entry->variant_count; ++variant) {  // -1: the selected one
      kernels::Status status = run(device, made->id(), made->params_size(), made->params(variant & 1), {}, variant);
      if (variant >= 0 && status.code == kernels::StatusCode::unsupported) continue;
      if (status.ok()) status = device.device->synchronize(0, {});
      EXPECT_TRUE(status.ok()) << "variant " << variant << ": " << status.what;
    }
  }
}

}  // namespace
}  // namespace sinter::bench
