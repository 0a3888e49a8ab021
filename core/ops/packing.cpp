#include "core/ops/packing.h"

#include "core/error.h"
#include "core/ops/broadcast.h"

namespace sinter {
namespace {

std::shared_ptr<Packing> from_lengths(const std::vector<std::int64_t>& lengths, std::int64_t fillers) {
  auto packing = std::make_shared<Packing>();
  packing->sequences = static_cast<std::int64_t>(lengths.size());
  packing->fillers = fillers;
  if (fillers < 0 || fillers > packing->sequences)
    fail(ErrorCode::usage, "a batch of ", packing->sequences, " sequences cannot have ", fillers, " fillers");
  std::vector<std::int32_t> offsets{0}, sample, position;
  std::vector<std::int64_t> first;
  for (std::size_t b = 0; b < lengths.size(); ++b) {
    if (lengths[b] < 0) fail(ErrorCode::usage, "sequence ", b, " has length ", lengths[b]);
    if (static_cast<std::int64_t>(b) < packing->sequences - fillers) first.push_back(packing->tokens);
    packing->tokens += lengths[b];
    if (packing->tokens > INT32_MAX) fail(ErrorCode::usage, "a batch has more than 2^31 tokens");
    packing->max_length = std::max(packing->max_length, lengths[b]);
    packing->pairs += lengths[b] * lengths[b];
    for (std::int32_t s = 0; s < lengths[b]; ++s) {
      sample.push_back(static_cast<std::int32_t>(b));
      position.push_back(s);
    }
    offsets.push_back(static_cast<std::int32_t>(packing->tokens));
  }
  packing->offsets = Tensor::from(offsets, {packing->sequences + 1});
  packing->sample = Tensor::from(sample, {packing->tokens});
  packing->position = Tensor::from(position, {packing->tokens});
  packing->first = Tensor::from(first, {packing->sequences - fillers});
  return packing;
}

std::unique_ptr<Packing> sizes_of(const Packing& like) {
  auto packing = std::make_unique<Packing>();
  packing->sequences = like.sequences;
  packing->fillers = like.fillers;
  packing->tokens = like.tokens;
  packing->max_length = like.max_length;
  packing->pairs = like.pairs;
  return packing;
}

}  // namespace

std::shared_ptr<const Packing> Packing::packed(const std::vector<std::int64_t>& lengths, std::int64_t fillers) {
  return from_lengths(lengths, fillers);
}

std::shared_ptr<const Packing> Packing::padded(const Tensor& mask) {
  check_dtype("Packing::padded", "the mask", mask, Dtype::i64);
  if (mask.rank() != 2) fail(ErrorCode::usage, "an attention mask is [B, S], this one is ", mask.shape());
  auto packing = from_lengths(std::vector<std::int64_t>(static_cast<std::size_t>(mask.size(0)), mask.size(1)), 0);
  packing->key_mask = mask.to(Device::cpu()).to(Dtype::boolean).to(Dtype::u8).reshape({packing->tokens});
  return packing;
}

const Packing& Packing::on(Device device) const {
  if (offsets.device() == device) return *this;
  const std::lock_guard guard(moved_->lock);
  for (const std::unique_ptr<const Packing>& packing : moved_->packings)
    if (packing->offsets.device() == device) return *packing;
  auto packing = sizes_of(*this);
  Tensors arrays{offsets, sample, position, first};
  if (key_mask.defined()) arrays.push_back(key_mask);
  const Tensors moved = upload(arrays, device);
  packing->offsets = moved[0];
  packing->sample = moved[1];
  packing->position = moved[2];
  packing->first = moved[3];
  if (key_mask.defined()) packing->key_mask = moved[4];
  moved_->packings.push_back(std::move(packing));
  return *moved_->packings.back();
}

std::shared_ptr<const Packing> Packing::placed(const Packing& like, const Tensor& offsets, const Tensor& sample,
                                               const Tensor& position, const Tensor& first, std::int64_t max_length) {
  check_shape("Packing::placed", "offsets", offsets, like.offsets.shape());
  check_shape("Packing::placed", "sample", sample, like.sample.shape());
  check_shape("Packing::placed", "position", position, like.position.shape());
  check_shape("Packing::placed", "first", first, like.first.shape());
  if (like.key_mask.defined()) fail(ErrorCode::usage, "Packing::placed: a padded grid has a mask, which has no place");
  if (max_length < like.max_length)
    fail(ErrorCode::usage, "Packing::placed: a sequence has ", like.max_length, " tokens, more than ", max_length);
  std::shared_ptr<Packing> host = sizes_of(like);
  host->offsets = like.offsets;
  host->sample = like.sample;
  host->position = like.position;
  host->first = like.first;
  auto there = sizes_of(like);
  there->offsets = offsets;
  there->sample = sample;
  there->position = position;
  there->first = first;
  host->max_length = there->max_length = max_length;
  host->moved_->packings.push_back(std::move(there));
  return host;
}

}  // namespace sinter
