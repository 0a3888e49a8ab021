#include "core/ops/packing.h"

#include "core/error.h"
#include "core/ops/broadcast.h"

namespace sinter {
namespace {

std::shared_ptr<Packing> from_lengths(const std::vector<std::int64_t>& lengths) {
  auto packing = std::make_shared<Packing>();
  packing->sequences = static_cast<std::int64_t>(lengths.size());
  std::vector<std::int32_t> offsets{0}, sample, position;
  for (std::size_t b = 0; b < lengths.size(); ++b) {
    if (lengths[b] < 0) fail(ErrorCode::usage, "sequence ", b, " has length ", lengths[b]);
    packing->tokens += lengths[b];
    if (packing->tokens > INT32_MAX) fail(ErrorCode::usage, "a batch has more than 2^31 tokens");
    packing->max_length = std::max(packing->max_length, lengths[b]);
    for (std::int32_t s = 0; s < lengths[b]; ++s) {
      sample.push_back(static_cast<std::int32_t>(b));
      position.push_back(s);
    }
    offsets.push_back(static_cast<std::int32_t>(packing->tokens));
  }
  packing->offsets = Tensor::from(offsets, {packing->sequences + 1});
  packing->sample = Tensor::from(sample, {packing->tokens});
  packing->position = Tensor::from(position, {packing->tokens});
  return packing;
}

}  // namespace

std::shared_ptr<const Packing> Packing::packed(const std::vector<std::int64_t>& lengths) {
  return from_lengths(lengths);
}

std::shared_ptr<const Packing> Packing::padded(const Tensor& mask) {
  check_dtype("Packing::padded", "the mask", mask, Dtype::i64);
  if (mask.rank() != 2) fail(ErrorCode::usage, "an attention mask is [B, S], this one is ", mask.shape());
  auto packing = from_lengths(std::vector<std::int64_t>(static_cast<std::size_t>(mask.size(0)), mask.size(1)));
  packing->key_mask = mask.to(Device::cpu()).to(Dtype::boolean).to(Dtype::u8).reshape({packing->tokens});
  return packing;
}

const Packing& Packing::on(Device device) const {
  if (offsets.device() == device) return *this;
  const std::lock_guard guard(moved_->lock);
  for (const std::unique_ptr<const Packing>& packing : moved_->packings)
    if (packing->offsets.device() == device) return *packing;
  auto packing = std::make_unique<Packing>();
  packing->sequences = sequences;
  packing->tokens = tokens;
  packing->max_length = max_length;
  Tensors arrays{offsets, sample, position};
  if (key_mask.defined()) arrays.push_back(key_mask);
  const Tensors moved = upload(arrays, device);
  packing->offsets = moved[0];
  packing->sample = moved[1];
  packing->position = moved[2];
  if (key_mask.defined()) packing->key_mask = moved[3];
  moved_->packings.push_back(std::move(packing));
  return *moved_->packings.back();
}

}  // namespace sinter
