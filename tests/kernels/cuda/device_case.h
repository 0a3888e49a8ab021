// One call of a kernel on the device, compared with the reference.
//
//   DeviceCase<LayerNorm> c({.dtype = dtype, .rows = rows, .cols = cols});
//   c.input(c.params.x, dtype, normal_values(rows * cols, 1));
//   c.input(c.params.gamma, computed_dtype(dtype), normal_values(cols, 2, 1, 0.2));
//   c.output(c.params.y, dtype, rows * cols, {.ulps = 16, .floor = 1});
//   c.check();
//
// check() runs every variant that takes these params, under every schedule: outputs within their tolerance of the
// reference and with equal bits in all schedules, inputs and the bytes around every buffer as before, every output
// element written (they hold NaN before). A variant that refuses the params is passed over, unless `select` names it; a
// program whose cases never ran some variant fails at its end.
#pragma once

#include <gtest/gtest.h>

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <string>
#include <vector>

#include "kernels/base/dtype.h"
#include "kernels/base/kernel.h"

namespace sinter::kernels::testing {

/// How far an output may be from the reference: |actual - expected| <= ulps * u * max(floor, largest |expected|), u
/// being the unit roundoff of computed_dtype; for f16 and bf16 also one rounding of their own apart. Derive ulps from
/// the number of operations behind an element. {.ulps = 0}: the same values. Integers and booleans: always the same
/// bits.
struct Tolerance {
  double ulps = 0;
  double floor = 1e-30;
  bool each = false;   ///< relative to each element instead of the largest one
};

/// Normal random numbers, the same for the same seed.
std::vector<double> normal_values(std::int64_t n, unsigned seed, double mean = 0, double stddev = 1);
/// Whole numbers of [low, high), the same for the same seed.
std::vector<double> whole_values(std::int64_t n, std::int64_t low, std::int64_t high, unsigned seed);

/// Random multiples of 1 / 16 in [-4, 4): exact in every dtype, and so are sums of some of them in f32. For inputs of
/// what is rounded to 16 bits half-way: a last bit of f32 then never decides in which direction.
std::vector<double> exact_values(std::int64_t n, unsigned seed);

/// n random elements of any dtype as bytes, the same for the same seed: floating ones normal, with some NaN,
/// infinities, ties and huge values; integers over their whole range; booleans 0 or 1.
std::vector<std::byte> any_elements(Dtype dtype, std::int64_t n, unsigned seed);

/// The untyped half of DeviceCase.
class DeviceCaseBase {
 public:
  DeviceCaseBase(const DeviceCaseBase&) = delete;
  DeviceCaseBase& operator=(const DeviceCaseBase&) = delete;

  /// Runs the case; failures name kernel, variant and schedule.
  void check();
  /// As check(), and demands that the variant of this name takes the params.
  void check_with(const std::string& variant);
  /// As check_with(), and runs no other variant. For variants whose rounding differs.
  void check_only(const std::string& variant);
  /// The data break a rule that kernels check themselves: every variant that takes the params must stop with a sentence
  /// that contains `says`. Does nothing on a GPU, whose later cases would fail with it.
  void check_stops(const std::string& says);

 protected:
  struct Operand {
    std::size_t offset;               ///< of the pointer in the params
    Dtype dtype = Dtype::f32;
    std::int64_t count = 0;
    bool is_input = false, is_output = false;
    std::size_t misalignment = 0;     ///< bytes behind a multiple of 256
    Tolerance tolerance;
    std::vector<std::byte> before, expected;
  };

  DeviceCaseBase(KernelId id, void* params, std::size_t bytes) : id_(id), params_(params), bytes_(bytes) {}
  Operand& add(const void* field, Dtype dtype, std::int64_t count);
  Operand& add_bytes(const void* field, Dtype dtype, const std::vector<std::byte>& bytes);
  Operand& add_values(const void* field, Dtype dtype, const std::vector<double>& values);
  Operand& last_operand() { return operands_.back(); }
  void add_shared(const void* field, const void* other) { shared_.push_back({offset_of(field), offset_of(other)}); }
  void set_workspace(const void* field) { workspace_offset_ = offset_of(field); }

 private:
  struct Shared {
    std::size_t offset, other;   ///< the pointer at `offset` of the params is that at `other`
  };

  std::size_t offset_of(const void* field) const;
  void set_shared(std::vector<std::byte>& params) const;
  void check_variants(const std::string& only);
  void run_reference();
  bool run_variant(const KernelEntry& entry, int variant);
  bool run_once(const KernelEntry& entry, int variant, std::vector<std::vector<std::byte>>* outputs) const;
  void compare(std::size_t operand, const std::vector<std::byte>& actual) const;

  static constexpr std::size_t kNone = ~std::size_t{0};
  KernelId id_;
  void* params_;
  std::size_t bytes_, workspace_offset_ = kNone;
  std::vector<Operand> operands_;
  std::string stops_with_;         ///< part of the sentence that the kernel must stop with; "": it must not stop
  std::vector<Shared> shared_;
  std::vector<std::string> ran_;   ///< names of the variants that took the params in the last check
};

template <class P>
class DeviceCase : public DeviceCaseBase {
 public:
  explicit DeviceCase(const P& p) : DeviceCaseBase(P::id, &params, sizeof(P)), params(p) {}

  P params;

  /// `field` is a pointer member of `params`, at any depth.
  template <class T>
  void input(T*& field, Dtype dtype, const std::vector<double>& values) {
    add_values(&field, dtype, values).is_input = true;
  }
  /// As input(), with what any_elements made.
  template <class T>
  void input_elements(T*& field, Dtype dtype, const std::vector<std::byte>& elements) {
    add_bytes(&field, dtype, elements).is_input = true;
  }
  /// Holds `values` before; must hold what the reference leaves there.
  template <class T>
  void in_out(T*& field, Dtype dtype, const std::vector<double>& values, Tolerance tolerance) {
    Operand& operand = add_values(&field, dtype, values);
    operand.is_output = true;
    operand.tolerance = tolerance;
  }
  /// As in_out(), with what any_elements made.
  template <class T>
  void in_out_elements(T*& field, Dtype dtype, const std::vector<std::byte>& elements, Tolerance tolerance) {
    Operand& operand = add_bytes(&field, dtype, elements);
    operand.is_output = true;
    operand.tolerance = tolerance;
  }
  template <class T>
  void output(T*& field, Dtype dtype, std::int64_t count, Tolerance tolerance) {
    Operand& operand = add(&field, dtype, count);
    operand.is_output = true;
    operand.tolerance = tolerance;
  }
  /// `field` points to the memory of the operand `other`.
  template <class T, class U>
  void share(T*& field, U*& other) {
    add_shared(&field, &other);
  }
  /// The last operand begins this many bytes behind an aligned address.
  void misalign(std::size_t bytes) { last_operand().misalignment = bytes; }
  /// The kernel's own number of bytes, filled with NaN.
  template <class T>
  void workspace(T*& field) {
    set_workspace(&field);
  }
};

/// The params are refused on the device with a sentence that contains `says`.
void expect_refused(KernelId id, const void* params, std::size_t bytes, const std::string& says);
template <class P>
void expect_refused(const P& params, const std::string& says) {
  expect_refused(P::id, &params, sizeof params, says);
}

/// The device's row of a kernel.
const KernelEntry* find_on_device(KernelId id);

/// Name of the variant that the device would run for these params, which need not point to memory.
template <class P>
std::string selected_variant(const P& params) {
  const KernelEntry* entry = find_on_device(P::id);
  return entry->variants[entry->select(&params)].name;
}

/// A library's variant that takes no params on this GPU need not run; says so once, with the reason.
void excuse_variant(KernelId id, const std::string& variant, const std::string& why);

/// "gemm tiled" for each variant of the module's table that no case has run so far and that none excused. Variants for
/// GPUs only must run on a GPU, and there alone.
std::vector<std::string> variants_that_never_ran(const BackendModule& module);

/// The dtypes that the device computes in.
inline constexpr Dtype kDeviceDtypes[] = {Dtype::f32, Dtype::f64, Dtype::f16, Dtype::bf16};

}  // namespace sinter::kernels::testing
