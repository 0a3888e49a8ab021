#include "core/runtime/backend_library.h"

#include <gtest/gtest.h>

#include <fstream>

#include "core/runtime/runtime.h"
#include "tests/core/expect_error.h"
#include "tests/core/io/scratch_folder.h"

namespace sinter {
namespace {

namespace fs = std::filesystem;

/// The libraries of tests/core/backends.
const fs::path kFolder = SINTER_TEST_BACKENDS;

void expect_unusable(const std::string& file, const std::string& words) {
  const BackendLibrary library = load_backend(file, {kFolder / "nowhere", kFolder});
  EXPECT_EQ(library.module, nullptr);
  EXPECT_NE(library.why_unusable.find(words), std::string::npos) << library.why_unusable;
}

TEST(BackendLibrary, SaysWhyItCannotBeUsed) {
  expect_unusable("libsinter_none.so", "it was not built: there is no libsinter_none.so in " +
                                           (kFolder / "nowhere").string() + " or " + kFolder.string());
  expect_unusable("libno_backend.so", "libno_backend.so is no backend of sinter (");
  expect_unusable("libno_backend.so", "sinter_backend_module");   // the system's words
  expect_unusable("libother_version.so", "libother_version.so belongs to another version of sinter (its interface has "
                                         "number 999, this program's " + std::to_string(kernels::kBackendAbi) + ")");
  expect_unusable("libno_device.so", "somebody took the device away");
}

TEST(BackendLibrary, GivesTheSystemsWordsForABrokenFile) {
  const testing::ScratchFolder folder;
  std::ofstream(folder / "libbroken.so") << "no library";
  const BackendLibrary library = load_backend("libbroken.so", {folder.path()});
  EXPECT_EQ(library.module, nullptr);
  EXPECT_NE(library.why_unusable.find("its library cannot be loaded ("), std::string::npos) << library.why_unusable;
  EXPECT_NE(library.why_unusable.find("libbroken.so"), std::string::npos) << library.why_unusable;
}

TEST(BackendLibrary, IsLookedForBesideTheProgram) {
  const std::vector<fs::path> folders = backend_folders();
  ASSERT_FALSE(folders.empty());
  EXPECT_EQ(folders[0], fs::canonical("/proc/self/exe").parent_path());
}

TEST(Runtime, SaysWhichDevicesCanBeUsed) {
  Runtime& runtime = Runtime::instance();
  EXPECT_EQ(runtime.why_unusable(Device::cpu()), "");
  EXPECT_EQ(runtime.device_count(DeviceType::cpu), 1);
  for (const DeviceType type : {DeviceType::cuda, DeviceType::simt}) {
    const int count = runtime.device_count(type);
    const auto device = [&](int index) { return type == DeviceType::cuda ? Device::cuda(index) : Device::simt(index); };
    for (int i = 0; i < count; ++i) EXPECT_EQ(runtime.why_unusable(device(i)), "");
    const Device missing = device(count);
    EXPECT_NE(runtime.why_unusable(missing), "");
    testing::expect_error([&] { runtime.backend(missing); }, ErrorCode::not_found,
                          "device " + missing.str() + " is not usable: " + runtime.why_unusable(missing) +
                              "; use --device cpu");
  }
}

}  // namespace
}  // namespace sinter
