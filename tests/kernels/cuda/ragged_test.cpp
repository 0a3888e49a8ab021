#include "kernels/cuda/ragged.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <string>
#include <vector>

#include "tests/kernels/cuda/device_under_test.h"

namespace sinter::kernels::testing {
namespace {

const DeviceApi& api() { return *device_under_test().device; }

/// `values` on the device, and back.
template <class T>
class OnDevice {
 public:
  explicit OnDevice(const std::vector<T>& values) : values_(values) {
    EXPECT_TRUE(api().allocate(0, bytes(), &memory_).ok());
    EXPECT_TRUE(api().copy(0, memory_, values_.data(), bytes(), {}).ok());
  }
  ~OnDevice() { api().deallocate(0, memory_); }
  OnDevice(const OnDevice&) = delete;
  OnDevice& operator=(const OnDevice&) = delete;

  T* data() const { return static_cast<T*>(memory_); }
  const std::vector<T>& read() {
    EXPECT_TRUE(api().copy(0, values_.data(), memory_, bytes(), {}).ok());
    EXPECT_TRUE(api().synchronize(0, {}).ok());
    return values_;
  }

 private:
  std::size_t bytes() const { return values_.size() * sizeof(T); }
  std::vector<T> values_;
  void* memory_ = nullptr;
};

/// Sequences of `length` tokens each but the second, which is empty, and of rows of 8 and of 2^30 elements; some
/// listed beyond them.
void check_tables(std::int64_t sequences, std::int64_t beyond) {
  SCOPED_TRACE(std::to_string(sequences) + " sequences and " + std::to_string(beyond));
  constexpr int length = 3;
  std::vector<std::int32_t> offsets = {0};
  for (std::int64_t b = 0; b < sequences; ++b) offsets.push_back(offsets.back() + (b == 1 ? 0 : length));
  const std::int64_t listed = sequences + beyond;
  const auto count = static_cast<std::size_t>(listed);
  const OnDevice<std::int32_t> on_device(offsets);
  for_each_schedule([&](const std::string& schedule) {
    SCOPED_TRACE(schedule);
    OnDevice<std::int64_t> begins(std::vector<std::int64_t>(2 * (count + 1), -1));
    OnDevice<std::int32_t> lengths(std::vector<std::int32_t>(count, -1));
    const cuda::RaggedTables tables{
        .tokens = offsets.back(), .sequences = sequences, .max_length = length, .listed = listed,
                        .offsets = on_device.data(), .tensors = 2, .stride = {8, std::int64_t{1} << 30},
                        .begins = begins.data(), .lengths = lengths.data()};
    ASSERT_TRUE(cuda::write_ragged_tables(tables, {}).ok());
    for (std::size_t b = 0; b <= count; ++b) {
      const std::size_t at = std::min(b, offsets.size() - 1);
      EXPECT_EQ(begins.read()[b], std::int64_t{8} * offsets[at]);
      EXPECT_EQ(begins.read()[count + 1 + b], (std::int64_t{1} << 30) * offsets[at]);
      if (b < count) {
        EXPECT_EQ(lengths.read()[b], b + 1 < offsets.size() ? offsets[b + 1] - offsets[b] : 0);
      }
    }
  });
}

TEST(RaggedOnDevice, TablesListEverySequence) {
  for (const std::int64_t beyond : {0, 1, 7}) check_tables(3, beyond);
  check_tables(1, 0);
  check_tables(900, 3);   // more than an emulated grid has threads
}

TEST(RaggedOnDevice, StopsAtWrongOffsets) {
  if (std::string(device_under_test().name) == "cuda") GTEST_SKIP() << "later cases would fail with it";
  OnDevice<std::int64_t> begins({0, 0, 0});
  OnDevice<std::int32_t> lengths({0, 0});
  for (const std::vector<std::int32_t>& wrong : {std::vector<std::int32_t>{0, 5, 4}, {0, 2, 5}, {0, 4, 4}}) {
    const OnDevice<std::int32_t> offsets(wrong);
    const cuda::RaggedTables tables{.tokens = 4, .sequences = 2, .max_length = wrong[2] == 4 && wrong[1] == 4 ? 3 : 5,
                              .listed = 2, .offsets = offsets.data(), .tensors = 1, .stride = {1},
                              .begins = begins.data(), .lengths = lengths.data()};
    Status status = cuda::write_ragged_tables(tables, {});
    if (status.ok()) status = api().synchronize(0, {});
    EXPECT_EQ(status.code, StatusCode::device_error) << wrong[1] << " " << wrong[2];
  }
}

TEST(RaggedOnDevice, Transposes) {
  for (const std::int64_t rows : {1, 12, 700}) {
    const std::int64_t cols = 3;
    std::vector<float> values(static_cast<std::size_t>(rows * cols));
    for (std::size_t i = 0; i < values.size(); ++i) values[i] = static_cast<float>(i);
    const OnDevice<float> from(values);
    for_each_schedule([&](const std::string& schedule) {
      SCOPED_TRACE(schedule);
      OnDevice<float> to(std::vector<float>(values.size(), -1));
      ASSERT_TRUE(cuda::transpose_rows(from.data(), to.data(), rows, cols, {}).ok());
      const std::vector<float>& now = to.read();
      for (std::int64_t r = 0; r < rows; ++r)
        for (std::int64_t c = 0; c < cols; ++c)
          EXPECT_EQ(now[static_cast<std::size_t>(c * rows + r)], static_cast<float>(r * cols + c));
    });
  }
  EXPECT_TRUE(cuda::transpose_rows(nullptr, nullptr, 0, 3, {}).ok());
}

}  // namespace
}  // namespace sinter::kernels::testing
