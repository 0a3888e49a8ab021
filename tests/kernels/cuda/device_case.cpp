#include "tests/kernels/cuda/device_case.h"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <map>
#include <random>
#include <set>
#include <utility>

#include "kernels/ref/element.h"
#include "tests/kernels/cuda/device_under_test.h"

namespace sinter::kernels::testing {
namespace {

constexpr std::size_t kAlignment = 256;
constexpr auto kGuardByte = std::byte{0xa5};
// Where every access out of bounds is a report of its own, guards would only hide it.
#if defined(__SANITIZE_ADDRESS__) || defined(SINTER_SIMT_CHECKED)
constexpr std::size_t kGuard = 0;
#else
constexpr std::size_t kGuard = 256;
#endif

std::set<std::pair<KernelId, int>>& ran_variants() {
  static std::set<std::pair<KernelId, int>> ran;
  return ran;
}

std::set<std::string>& excused_variants() {
  static std::set<std::string> excused;
  return excused;
}

void expect_ok(const Status& status, const char* what) { ASSERT_TRUE(status.ok()) << what << ": " << status.what; }

/// Bytes on the device with a guard zone on both sides.
class DeviceBuffer {
 public:
  DeviceBuffer(const std::vector<std::byte>& values, std::size_t misalignment)
      : bytes_(values.size()), begin_(kGuard + misalignment) {
    const DeviceApi& api = *device_under_test().device;
    std::vector<std::byte> image(begin_ + bytes_ + kGuard, kGuardByte);
    std::copy(values.begin(), values.end(), image.begin() + static_cast<std::ptrdiff_t>(begin_));
    expect_ok(api.allocate(0, std::max<std::size_t>(image.size(), 1), &memory_), "allocate");
    expect_ok(api.copy(0, memory_, image.data(), image.size(), {}), "copy to the device");
  }
  ~DeviceBuffer() { device_under_test().device->deallocate(0, memory_); }
  DeviceBuffer(const DeviceBuffer&) = delete;
  DeviceBuffer& operator=(const DeviceBuffer&) = delete;

  void* data() const { return static_cast<std::byte*>(memory_) + begin_; }

  /// The bytes as they are now; a guard that changed is a failure.
  std::vector<std::byte> read(const std::string& name) const {
    std::vector<std::byte> image(begin_ + bytes_ + kGuard);
    expect_ok(device_under_test().device->copy(0, image.data(), memory_, image.size(), {}), "copy to the host");
    for (std::size_t i = 0; i < image.size(); ++i)
      if ((i < begin_ || i >= begin_ + bytes_) && image[i] != kGuardByte) {
        ADD_FAILURE() << name << ": a write outside, at byte "
                      << static_cast<std::ptrdiff_t>(i) - static_cast<std::ptrdiff_t>(begin_) << " of " << bytes_;
        break;
      }
    const auto first = image.begin() + static_cast<std::ptrdiff_t>(begin_);
    return {first, first + static_cast<std::ptrdiff_t>(bytes_)};
  }

 private:
  std::size_t bytes_, begin_;
  void* memory_ = nullptr;
};

/// Largest relative error of one rounding to `dtype`.
double unit_roundoff(Dtype dtype) {
  switch (dtype) {
    case Dtype::f16: return 0x1p-11;
    case Dtype::bf16: return 0x1p-8;
    case Dtype::f32: return 0x1p-24;
    case Dtype::f64: return 0x1p-53;
    default: return 0;
  }
}

std::vector<double> random_values(std::int64_t n, unsigned seed, const auto& distribution) {
  std::mt19937 generator(seed);
  auto draw = distribution;
  std::vector<double> values(static_cast<std::size_t>(n));
  for (double& value : values) value = static_cast<double>(draw(generator));
  return values;
}

}  // namespace

std::vector<double> normal_values(std::int64_t n, unsigned seed, double mean, double stddev) {
  return random_values(n, seed, std::normal_distribution<double>(mean, stddev));
}

std::vector<double> whole_values(std::int64_t n, std::int64_t low, std::int64_t high, unsigned seed) {
  return random_values(n, seed, std::uniform_int_distribution<std::int64_t>(low, high - 1));
}

std::vector<double> exact_values(std::int64_t n, unsigned seed) {
  std::vector<double> values = whole_values(n, -64, 64, seed);
  for (double& value : values) value /= 16;
  return values;
}

std::vector<std::byte> any_elements(Dtype dtype, std::int64_t n, unsigned seed) {
  constexpr double kSpecials[] = {NAN, INFINITY, -INFINITY, 0.0, -0.0, 0.5, 1.5, -1.5, 255.5, 3e9, -3e9, 1e19, -1e19,
                                  65519.0, 65520.0, 6e-8, 2.5e-5, 1e30, -0.99};
  std::vector<std::byte> bytes(static_cast<std::size_t>(n) * size_of(dtype));
  std::mt19937_64 generator(seed);
  std::normal_distribution<double> normal(0, 3);
  for (std::int64_t i = 0; i < n; ++i) {
    if (is_floating(dtype))
      ref::store(dtype, bytes.data(), i,
                 generator() % 8 == 0 ? kSpecials[generator() % std::size(kSpecials)] : normal(generator));
    else
      ref::store_integer(dtype, bytes.data(), i,
                         static_cast<std::int64_t>(dtype == Dtype::boolean ? generator() & 1 : generator()));
  }
  return bytes;
}

std::size_t DeviceCaseBase::offset_of(const void* field) const {
  return static_cast<std::size_t>(static_cast<const std::byte*>(field) - static_cast<const std::byte*>(params_));
}

DeviceCaseBase::Operand& DeviceCaseBase::add(const void* field, Dtype dtype, std::int64_t count) {
  Operand& operand = operands_.emplace_back();
  operand.offset = offset_of(field);
  operand.dtype = dtype;
  operand.count = count;
  operand.before.assign(static_cast<std::size_t>(count) * size_of(dtype), std::byte{0xff});
  return operand;
}

DeviceCaseBase::Operand& DeviceCaseBase::add_values(const void* field, Dtype dtype, const std::vector<double>& values) {
  Operand& operand = add(field, dtype, static_cast<std::int64_t>(values.size()));
  for (std::size_t i = 0; i < values.size(); ++i)
    ref::store(dtype, operand.before.data(), static_cast<std::int64_t>(i), values[i]);
  return operand;
}

DeviceCaseBase::Operand& DeviceCaseBase::add_bytes(const void* field, Dtype dtype,
                                                   const std::vector<std::byte>& bytes) {
  Operand& operand = add(field, dtype, static_cast<std::int64_t>(bytes.size() / size_of(dtype)));
  operand.before = bytes;
  return operand;
}

namespace {

void set_pointer(std::vector<std::byte>& params, std::size_t offset, const void* value) {
  std::memcpy(params.data() + offset, &value, sizeof value);
}

}  // namespace

void DeviceCaseBase::set_shared(std::vector<std::byte>& params) const {
  for (const Shared& shared : shared_)
    std::memcpy(params.data() + shared.offset, params.data() + shared.other, sizeof(void*));
}

void DeviceCaseBase::run_reference() {
  std::vector<std::byte> params(bytes_);
  std::memcpy(params.data(), params_, bytes_);
  for (Operand& operand : operands_) {
    operand.expected = operand.before;
    set_pointer(params, operand.offset, operand.expected.data());
  }
  std::vector<std::byte> workspace;
  if (workspace_offset_ != kNone) {
    workspace.resize(find(ref_module(), id_)->workspace(params.data()));
    set_pointer(params, workspace_offset_, workspace.data());
  }
  set_shared(params);
  expect_ok(run(ref_module(), id_, bytes_, params.data(), {}), "reference");
}

/// False when the variant refuses the params.
bool DeviceCaseBase::run_once(const KernelEntry& entry, int variant,
                              std::vector<std::vector<std::byte>>* outputs) const {
  std::vector<std::byte> params(bytes_);
  std::memcpy(params.data(), params_, bytes_);
  std::vector<std::unique_ptr<DeviceBuffer>> buffers;
  for (const Operand& operand : operands_) {
    buffers.push_back(std::make_unique<DeviceBuffer>(operand.before, operand.misalignment));
    set_pointer(params, operand.offset, buffers.back()->data());
  }
  set_shared(params);
  if (workspace_offset_ != kNone) {
    const std::vector<std::byte> bytes(entry.workspace(params.data()), std::byte{0xff});
    buffers.push_back(std::make_unique<DeviceBuffer>(bytes, 0));
    set_pointer(params, workspace_offset_, buffers.back()->data());
  }
  Status status = run(device_under_test(), id_, bytes_, params.data(), {}, variant);
  if (status.code == StatusCode::unsupported) {
    EXPECT_NE(entry.select(params.data()), variant) << "is selected and refuses the params: " << status.what;
    return false;
  }
  if (status.ok()) status = device_under_test().device->synchronize(0, {});
  if (!stops_with_.empty()) {
    EXPECT_EQ(status.code, StatusCode::device_error);
    EXPECT_NE(std::string(status.what).find(stops_with_), std::string::npos) << status.what;
    return true;
  }
  EXPECT_TRUE(status.ok()) << status.what;
  for (std::size_t i = 0; i < buffers.size(); ++i) {
    std::vector<std::byte> now = buffers[i]->read(i < operands_.size() ? "operand " + std::to_string(i) : "workspace");
    if (i >= operands_.size()) break;
    EXPECT_TRUE(operands_[i].is_output || now == operands_[i].before) << "input " << i << " has changed";
    outputs->push_back(std::move(now));
  }
  return true;
}

bool DeviceCaseBase::run_variant(const KernelEntry& entry, int variant) {
  SCOPED_TRACE(std::string(name(id_)) + ", variant " + entry.variants[variant].name);
  std::vector<std::vector<std::byte>> first;
  bool ran = true;
  for_each_schedule([&](const std::string& schedule) {
    if (!ran) return;
    SCOPED_TRACE(schedule);
    std::vector<std::vector<std::byte>> outputs;
    ran = run_once(entry, variant, &outputs);
    if (!ran) return;
    for (std::size_t i = 0; i < operands_.size() && !::testing::Test::HasFatalFailure(); ++i) {
      if (!operands_[i].is_output) continue;
      if (first.empty()) compare(i, outputs[i]);
      EXPECT_TRUE(first.empty() || outputs[i] == first[i])
          << "operand " << i << ": other bits than in the first schedule";
    }
    if (first.empty()) first = std::move(outputs);
  });
  if (ran) ran_variants().emplace(id_, variant);
  return ran;
}

void DeviceCaseBase::compare(std::size_t number, const std::vector<std::byte>& actual) const {
  const Operand& operand = operands_[number];
  const Dtype computed = is_floating(operand.dtype) ? computed_dtype(operand.dtype) : operand.dtype;
  const bool rounded_again = operand.dtype != computed;
  double largest = operand.tolerance.floor;
  for (std::int64_t i = 0; i < operand.count; ++i) {
    const double e = ref::load(operand.dtype, operand.expected.data(), i);
    if (std::isfinite(e)) largest = std::max(largest, std::abs(e));
  }
  const auto allowed_at = [&](double e) {
    const double scale = operand.tolerance.each ? std::max(operand.tolerance.floor, std::abs(e)) : largest;
    return operand.tolerance.ulps * unit_roundoff(computed) * scale;
  };
  const auto size = static_cast<std::int64_t>(size_of(operand.dtype));
  double worst = 0;
  std::int64_t at = -1;
  for (std::int64_t i = 0; i < operand.count; ++i) {
    const double e = ref::load(operand.dtype, operand.expected.data(), i);
    const double a = ref::load(operand.dtype, actual.data(), i);
    if (is_floating(operand.dtype) ? e == a || (std::isnan(e) && std::isnan(a))
                                   : std::memcmp(actual.data() + i * size, operand.expected.data() + i * size,
                                                 size_of(operand.dtype)) == 0)
      continue;
    if (!is_floating(operand.dtype)) {
      at = i;
      break;
    }
    double beyond = std::abs(a - e) - allowed_at(e);
    if (rounded_again && operand.tolerance.ulps > 0)
      beyond -= 2 * unit_roundoff(operand.dtype) * std::abs(e) + (operand.dtype == Dtype::f16 ? 0x1p-24 : 0);
    if (std::isnan(beyond)) beyond = HUGE_VAL;
    if (beyond > worst) {
      worst = beyond;
      at = i;
    }
  }
  if (at < 0) return;
  ADD_FAILURE() << "operand " << number << " (" << name(operand.dtype) << "), element " << at << " of "
                << operand.count << " is " << ref::load(operand.dtype, actual.data(), at) << ", expected "
                << ref::load(operand.dtype, operand.expected.data(), at) << " +- "
                << allowed_at(ref::load(operand.dtype, operand.expected.data(), at));
}

/// `only`: the name of the one variant to run, "" for all.
void DeviceCaseBase::check_variants(const std::string& only) {
  const KernelEntry* entry = find(device_under_test(), id_);
  ASSERT_NE(entry, nullptr) << "no kernel " << name(id_) << " on " << device_under_test().name;
  ran_.clear();
  run_reference();
  if (::testing::Test::HasFatalFailure()) return;
  for (int variant = 0; variant < entry->variant_count; ++variant)
    if ((only.empty() || only == entry->variants[variant].name) && run_variant(*entry, variant))
      ran_.emplace_back(entry->variants[variant].name);
  EXPECT_FALSE(ran_.empty()) << name(id_) << ": no variant " << only << " takes these params";
}

void DeviceCaseBase::check() { check_variants(""); }

void DeviceCaseBase::check_only(const std::string& variant) { check_variants(variant); }

void DeviceCaseBase::check_stops(const std::string& says) {
  if (std::string(device_under_test().name) == "cuda") return;
  const KernelEntry* entry = find(device_under_test(), id_);
  ASSERT_NE(entry, nullptr) << "no kernel " << name(id_) << " on " << device_under_test().name;
  stops_with_ = says;
  bool ran = false;
  for (int variant = 0; variant < entry->variant_count; ++variant) {
    SCOPED_TRACE(std::string(name(id_)) + ", variant " + entry->variants[variant].name);
    std::vector<std::vector<std::byte>> outputs;
    if (run_once(*entry, variant, &outputs)) ran = true;
  }
  EXPECT_TRUE(ran) << name(id_) << ": no variant takes these params";
}

void DeviceCaseBase::check_with(const std::string& variant) {
  check();
  EXPECT_NE(std::find(ran_.begin(), ran_.end(), variant), ran_.end())
      << name(id_) << ": variant " << variant << " does not take these params";
}

void expect_refused(KernelId id, const void* params, std::size_t bytes, const std::string& says) {
  const Status status = run(device_under_test(), id, bytes, params, {});
  EXPECT_FALSE(status.ok()) << name(id) << " takes these params";
  EXPECT_NE(std::string(status.what).find(says), std::string::npos) << status.what;
}

const KernelEntry* find_on_device(KernelId id) { return find(device_under_test(), id); }

void excuse_variant(KernelId id, const std::string& variant, const std::string& why) {
  const std::string excused = std::string(name(id)) + " " + variant;
  if (excused_variants().insert(excused).second) std::printf("skipped: %s: %s\n", excused.c_str(), why.c_str());
}

std::vector<std::string> variants_that_never_ran(const BackendModule& module) {
  std::vector<std::string> never;
  const bool on_gpu = std::string(module.name) == "cuda";
  for (std::size_t e = 0; e < module.entry_count; ++e)
    for (int v = 0; v < module.entries[e].variant_count; ++v) {
      const Variant& variant = module.entries[e].variants[v];
      const std::string named = std::string(name(module.entries[e].id)) + " " + variant.name;
      if (variant.gpu_only && (!on_gpu || excused_variants().contains(named))) continue;
      if (!ran_variants().contains({module.entries[e].id, v})) never.push_back(named);
    }
  return never;
}

}  // namespace sinter::kernels::testing
