// One call of a kernel with its memory on a device, for timing.
#pragma once

#include <cstddef>
#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "kernels/base/dtype.h"
#include "kernels/base/kernel.h"

namespace sinter::bench {

/// What a call should reach on an H200; 0 where nothing is set.
struct Goal {
  double of_copy = 0;        ///< share of the bandwidth of a plain copy
  double tflops = 0;
  double microseconds = 0;
};

/// Normal numbers as bytes: `bytes` of them, or about a million elements if that is less.
std::vector<std::byte> normal_bytes(kernels::Dtype dtype, std::size_t bytes);

/// One call. Copies of its operands take turns: with enough of them none is in the cache when its turn comes.
class KernelCase {
 public:
  virtual ~KernelCase() = default;
  KernelCase(const KernelCase&) = delete;
  KernelCase& operator=(const KernelCase&) = delete;

  const std::string& name() const { return name_; }
  kernels::KernelId id() const { return id_; }
  std::size_t params_size() const { return bytes_; }
  const kernels::Cost& work() const { return work_; }
  const Goal& goal() const { return goal_; }
  std::size_t operand_bytes() const;

  /// Takes memory for `copies` copies from device 0 of the backend and fills it. The case must go before the backend.
  kernels::Status place(const kernels::BackendModule& backend, int copies);
  int copies() const { return static_cast<int>(placed_.size()); }
  const void* params(int copy) const { return placed_[static_cast<std::size_t>(copy)].data(); }

 protected:
  struct Operand {
    std::size_t offset, bytes;
    std::vector<std::byte> values;   ///< repeated to its end; none: undefined content
  };

  KernelCase(std::string name, kernels::KernelId id, const void* params, std::size_t bytes, const Goal& goal)
      : name_(std::move(name)), id_(id), goal_(goal), params_(params), bytes_(bytes) {}
  void add(const void* field, std::size_t bytes, std::vector<std::byte> values = {});
  void set_work(const kernels::Cost& work) { work_ = work; }
  void set_workspace(const void* field) { workspace_ = offset_of(field); }

 private:
  std::size_t offset_of(const void* field) const;
  kernels::Status place_copy(const kernels::BackendModule& backend);
  kernels::Status allocate(std::size_t bytes, std::vector<std::byte>& params, std::size_t offset, void** memory);

  static constexpr std::size_t kNone = ~std::size_t{0};
  std::string name_;
  kernels::KernelId id_;
  Goal goal_;
  kernels::Cost work_;
  const void* params_;
  std::size_t bytes_, workspace_ = kNone;
  std::vector<Operand> operands_;
  std::vector<std::vector<std::byte>> placed_;
  std::vector<std::unique_ptr<void, std::function<void(void*)>>> memory_;
  const kernels::DeviceApi* device_ = nullptr;
};

/// The case of params P. Operands are declared by the member that points to them.
template <class P>
class Case : public KernelCase {
 public:
  Case(const std::string& what, const P& p, const Goal& goal = {})
      : KernelCase(std::string(kernels::name(P::id)) + " " + what, P::id, &params, sizeof(P), goal), params(p) {}

  P params;

  template <class F>
  void normal(F*& field, kernels::Dtype dtype, std::int64_t n) {
    const std::size_t bytes = static_cast<std::size_t>(n) * size_of(dtype);
    add(&field, bytes, normal_bytes(dtype, bytes));
  }
  template <class F>
  void output(F*& field, kernels::Dtype dtype, std::int64_t n) {
    add(&field, static_cast<std::size_t>(n) * size_of(dtype));
  }
  /// n elements that repeat v.
  template <class F, class T>
  void repeated(F*& field, std::int64_t n, const std::vector<T>& v) {
    add(&field, static_cast<std::size_t>(n) * sizeof(T), bytes_of(v));
  }
  /// `v` outlives done(): until then the member points to it, since costs read some of them.
  template <class T>
  void values(const T*& field, const std::vector<T>& v) {
    field = v.data();
    add(&field, v.size() * sizeof(T), bytes_of(v));
  }
  /// Costs and workspace are known from here on.
  void done() {
    set_work(cost(params));
    if constexpr (requires { params.workspace; }) set_workspace(&params.workspace);
  }

 private:
  template <class T>
  static std::vector<std::byte> bytes_of(const std::vector<T>& v) {
    const auto* const bytes = reinterpret_cast<const std::byte*>(v.data());
    return {bytes, bytes + v.size() * sizeof(T)};
  }
};

}  // namespace sinter::bench
