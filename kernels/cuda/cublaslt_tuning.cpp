#include "kernels/cuda/cublaslt_tuning.h"

#include <algorithm>
#include <cstdint>

#include "kernels/cuda/gemm_trials.h"

namespace sinter::kernels::cuda::lt {
namespace {

constexpr std::size_t kAlignment = 256;
constexpr std::size_t kFewestCopies = 2, kMostCopies = 64;

constexpr std::size_t rounded_up(std::size_t bytes) { return (bytes + kAlignment - 1) / kAlignment * kAlignment; }

/// Where an operand of every copy lies: behind the begin of the copy, aligned as the original up to 256 bytes.
struct Place {
  const void* original;
  std::size_t bytes;    // from the first element to the last one's end
  std::size_t offset = 0;

  Place(const void* data, Dtype dtype, std::int64_t rows, std::int64_t cols, std::int64_t ld, std::int64_t batch,
        std::int64_t stride)
      : original(data),
        bytes(static_cast<std::size_t>((rows - 1) * ld + cols + (batch - 1) * stride) * size_of(dtype)) {}

  /// Takes the place behind `end`, and moves that.
  void put(std::size_t* end) {
    offset = *end + reinterpret_cast<std::uintptr_t>(original) % kAlignment;
    *end = rounded_up(offset + bytes);
  }
};

/// Copies of a product's operands in memory of its device.
class Copies {
 public:
  Copies(int device, const Gemm& p)
      : device_(device),
        a_(p.a, p.dtype, p.transpose_a ? p.k : p.m, p.transpose_a ? p.m : p.k, p.lda, p.batch, p.batch_stride_a),
        b_(p.b, p.dtype, p.transpose_b ? p.n : p.k, p.transpose_b ? p.k : p.n, p.ldb, p.batch, p.batch_stride_b),
        c_(p.c, p.dtype, p.m, p.n, p.ldc, p.batch, p.batch_stride_c),
        product_(p) {
    for (Place* each : {&a_, &b_, &c_}) each->put(&each_bytes_);
    const std::size_t cold = trials::cache_bytes(device) * 3 / 2;
    count_ = std::clamp(cold / each_bytes_ + 1, kFewestCopies, kMostCopies);
  }
  ~Copies() { trials::device_api().deallocate(device_, memory_); }
  Copies(const Copies&) = delete;
  Copies& operator=(const Copies&) = delete;

  /// What stands in C has no effect on the time, so that becomes zero.
  Status make(Stream stream) {
    const DeviceApi& api = trials::device_api();
    if (const Status status = api.allocate(device_, count_ * each_bytes_, &memory_); !status.ok()) return status;
    for (std::size_t i = 0; i < count_; ++i) {
      for (const Place* each : {&a_, &b_})
        if (const Status status = api.copy(device_, at(i, *each), each->original, each->bytes, stream); !status.ok())
          return status;
      if (const Status status = api.fill(device_, at(i, c_), 0, c_.bytes, stream); !status.ok()) return status;
    }
    return {};
  }
  int count() const { return static_cast<int>(count_); }
  Gemm product(int i) const {
    Gemm p = product_;
    p.a = at(static_cast<std::size_t>(i), a_);
    p.b = at(static_cast<std::size_t>(i), b_);
    p.c = at(static_cast<std::size_t>(i), c_);
    return p;
  }

 private:
  void* at(std::size_t i, const Place& place) const {
    return static_cast<std::byte*>(memory_) + i * each_bytes_ + place.offset;
  }

  int device_;
  Place a_, b_, c_;
  Gemm product_;
  std::size_t each_bytes_ = 0, count_ = 0;
  void* memory_ = nullptr;
};

}  // namespace

std::optional<Choice> fastest(int device, Handle handle, const GemmProblem& problem, const Plan& plan, const Gemm& p,
                              Stream stream) {
  Copies copies(device, p);
  if (!copies.make(stream).ok()) return std::nullopt;
  std::optional<Choice> best;
  double shortest = 0;
  for (const Choice& each : proposals(handle, problem, plan, kMostProposals)) {
    const auto launch = [&](int i, Stream where) { return multiply(handle, plan, each, copies.product(i), where); };
    double milliseconds = 0;
    if (!trials::time(device, stream, copies.count(), launch, &milliseconds).ok()) continue;
    if (best && milliseconds >= shortest) continue;
    best = each;
    shortest = milliseconds;
  }
  return best;
}

}  // namespace sinter::kernels::cuda::lt
