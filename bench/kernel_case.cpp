#include "bench/kernel_case.h"

#include <algorithm>
#include <cstring>
#include <random>

namespace sinter::bench {

using namespace kernels;

std::vector<std::byte> normal_bytes(Dtype dtype, std::size_t bytes) {
  const std::size_t n = std::min<std::size_t>(bytes / size_of(dtype), std::size_t{1} << 20);
  std::vector<std::byte> out(n * size_of(dtype));
  std::mt19937 generator(1);
  std::normal_distribution<float> normal;
  for (std::size_t i = 0; i < n; ++i) {
    const float x = normal(generator);
    const f16 half = to_f16(x);
    const bf16 brain = to_bf16(x);
    const double wide = x;
    const void* const from = dtype == Dtype::f16    ? static_cast<const void*>(&half)
                             : dtype == Dtype::bf16 ? static_cast<const void*>(&brain)
                             : dtype == Dtype::f64  ? static_cast<const void*>(&wide)
                                                    : static_cast<const void*>(&x);
    std::memcpy(out.data() + i * size_of(dtype), from, size_of(dtype));
  }
  return out;
}

std::size_t KernelCase::offset_of(const void* field) const {
  return static_cast<std::size_t>(static_cast<const std::byte*>(field) - static_cast<const std::byte*>(params_));
}

void KernelCase::add(const void* field, std::size_t bytes, std::vector<std::byte> values) {
  operands_.push_back({offset_of(field), bytes, std::move(values)});
}

std::size_t KernelCase::operand_bytes() const {
  std::size_t sum = 0;
  for (const Operand& operand : operands_) sum += operand.bytes;
  return sum;
}

Status KernelCase::allocate(std::size_t bytes, std::vector<std::byte>& params, std::size_t offset, void** memory) {
  if (const Status status = device_->allocate(0, std::max<std::size_t>(bytes, 1), memory); !status.ok()) return status;
  memory_.emplace_back(*memory, [device = device_](void* block) { device->deallocate(0, block); });
  std::memcpy(params.data() + offset, memory, sizeof *memory);
  return {};
}

Status KernelCase::place_copy(const BackendModule& backend) {
  std::vector<std::byte>& params = placed_.emplace_back(bytes_);
  std::memcpy(params.data(), params_, bytes_);
  void* memory = nullptr;
  for (const Operand& operand : operands_) {
    if (const Status status = allocate(operand.bytes, params, operand.offset, &memory); !status.ok()) return status;
    if (operand.values.empty()) continue;
    for (std::size_t at = 0; at < operand.bytes; at += operand.values.size()) {
      const std::size_t piece = std::min(operand.values.size(), operand.bytes - at);
      const Status status = device_->copy(0, static_cast<std::byte*>(memory) + at, operand.values.data(), piece, {});
      if (!status.ok()) return status;
    }
    if (const Status status = device_->synchronize(0, {}); !status.ok()) return status;
  }
  if (workspace_ == kNone) return {};
  return allocate(find(backend, id_)->workspace(params.data()), params, workspace_, &memory);
}

Status KernelCase::place(const BackendModule& backend, int copies) {
  device_ = backend.device;
  for (int i = 0; i < copies; ++i)
    if (const Status status = place_copy(backend); !status.ok()) return status;
  return {};
}

}  // namespace sinter::bench
