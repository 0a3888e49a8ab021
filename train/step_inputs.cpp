#include "train/step_inputs.h"

#include <algorithm>
#include <bit>
#include <cstring>

#include "core/error.h"
#include "core/ops/cross_entropy.h"
#include "core/ops/gather.h"
#include "core/runtime/runtime.h"

namespace sinter::train {
namespace {

constexpr std::int64_t kShortest = 64;      // class of max_length: up to here attention's kernels are the same
constexpr std::int64_t kGranule = 32;       // of tokens
constexpr std::size_t kAlignment = 64;
constexpr std::size_t kCopy = std::size_t{256} << 10;   // bytes that go through the staging buffer at once

std::int64_t rounded_up(std::int64_t n, std::int64_t granule) { return (n + granule - 1) / granule * granule; }

/// Of the bucket that ends with `tokens`, and of those that lie between it and the power of two below.
std::int64_t granule_of(std::int64_t tokens) {
  const auto below = std::bit_floor(static_cast<std::uint64_t>(std::max<std::int64_t>(tokens - 1, 1)));
  return std::max(kGranule, static_cast<std::int64_t>(below) / 8);
}

/// A collator of one's own may err; nothing is copied by counts that do not fit.
void check_sizes(const data::CollatedBatch& batch) {
  const auto require = [](const char* what, std::size_t found, std::int64_t expected) {
    if (static_cast<std::int64_t>(found) != expected)
      fail(ErrorCode::usage, "a batch of the train_dataset has ", found, " ", what, ", it must have ", expected,
           "; look at the data_collator");
  };
  const std::int64_t elements = batch.packed ? batch.token_count : batch.sample_count * batch.sequence_length;
  require("labels", batch.labels.size(), batch.sample_count);
  require("lengths", batch.lengths.size(), batch.sample_count);
  require("input_ids", batch.input_ids.size(), elements);
  require("token_type_ids", batch.token_type_ids.size(), elements);
  if (batch.packed)
    require("position_ids", batch.position_ids.size(), elements);
  else
    require("values in attention_mask", batch.attention_mask.size(), elements);
  std::int64_t tokens = 0;
  for (const std::int64_t length : batch.lengths) {
    if (length < 0 || (!batch.packed && length > batch.sequence_length))
      fail(ErrorCode::usage, "a sample of the train_dataset has a length of ", length, "; look at the data_collator");
    tokens += length;
  }
  if (batch.packed) require("tokens in its samples", static_cast<std::size_t>(tokens), batch.token_count);
}

}  // namespace

std::int64_t StepBucket::fillers() const {
  const std::int64_t most = of_ranks ? tokens : granule_of(tokens) - 1;
  return (most + max_length - 1) / max_length;
}

std::string StepBucket::str() const {
  std::string text = "T " + std::to_string(tokens) + ", longest " + std::to_string(max_length) + ", B " +
                     std::to_string(samples);
  if (!first) text += ", accumulating";
  if (last) text += ", update";
  if (of_ranks) text += ", of all ranks";
  return text;
}

StepBucket bucket_of(std::int64_t tokens, std::int64_t longest, std::int64_t samples, std::int64_t positions) {
  StepBucket bucket;
  bucket.tokens = rounded_up(std::max<std::int64_t>(tokens, 1), granule_of(tokens));
  const auto length = static_cast<std::uint64_t>(std::max(kShortest, longest));
  bucket.max_length = std::min(static_cast<std::int64_t>(std::bit_ceil(length)), positions);
  bucket.samples = samples;
  return bucket;
}

bool pack(const data::CollatedBatch& batch, PackedBatch& packed) {
  check_sizes(batch);
  packed.lengths = batch.lengths;
  packed.labels = batch.labels;
  if (batch.packed) {
    packed.ids = batch.input_ids;
    packed.types = batch.token_type_ids;
    packed.positions = batch.position_ids;
    return true;
  }
  const auto width = static_cast<std::size_t>(batch.sequence_length);
  for (std::size_t b = 0; b < batch.lengths.size(); ++b) {
    const auto length = static_cast<std::size_t>(batch.lengths[b]);
    for (std::size_t s = 0; s < width; ++s)
      if ((batch.attention_mask[b * width + s] != 0) != (s < length)) return false;
    for (std::size_t s = 0; s < length; ++s) {
      packed.ids.push_back(batch.input_ids[b * width + s]);
      packed.types.push_back(batch.token_type_ids[b * width + s]);
      packed.positions.push_back(static_cast<std::int64_t>(s));
    }
  }
  return true;
}

std::int64_t longest_of(const PackedBatch& batch) {
  return batch.lengths.empty() ? 0 : *std::ranges::max_element(batch.lengths);
}

std::optional<StepBucket> bucket_of_ranks(std::span<const data::CollatedBatch> batches, std::int64_t positions) {
  std::int64_t tokens = 0, longest = 0;
  for (const data::CollatedBatch& batch : batches) {
    PackedBatch packed;
    if (batch.sample_count != batches[0].sample_count || !pack(batch, packed)) return std::nullopt;
    tokens = std::max(tokens, std::ssize(packed.ids));
    longest = std::max(longest, longest_of(packed));
  }
  StepBucket bucket = bucket_of(tokens, longest, batches[0].sample_count, positions);
  bucket.of_ranks = true;
  return bucket;
}

/// Places in the block, in bytes.
struct StepInputs::Layout {
  std::size_t counters, item_factor, labels, first, ids, types, positions, offsets, sample, position, bytes = 0;

  explicit Layout(const StepBucket& bucket) {
    const auto take = [&](std::int64_t elements, std::size_t size) {
      const std::size_t at = bytes;
      bytes = (at + static_cast<std::size_t>(elements) * size + kAlignment - 1) / kAlignment * kAlignment;
      return at;
    };
    counters = take(2, 4);
    item_factor = take(1, 8);
    labels = take(bucket.samples, 8);
    first = take(bucket.samples, 8);
    ids = take(bucket.tokens, 8);
    types = take(bucket.tokens, 8);
    positions = take(bucket.tokens, 8);
    offsets = take(bucket.samples + bucket.fillers() + 1, 4);
    sample = take(bucket.tokens, 4);
    position = take(bucket.tokens, 4);
  }
};

StepInputs::StepInputs(Device device, const StepBucket& bucket, std::int64_t pad_token_id, Dtype parameters)
    : device_(device),
      bucket_(bucket),
      pad_token_id_(pad_token_id),
      parameters_(parameters),
      host_(Layout(bucket).bytes),
      block_(std::make_shared<Storage>(device, host_.size())) {}

nn::BertInputs StepInputs::arrays() const { return arrays_; }

/// Makes the tensors of the block, for a packing of the bucket's sizes.
void StepInputs::place(const Packing& packing) {
  const Layout at(bucket_);
  const auto view = [&](std::size_t offset, const Shape& shape, Dtype dtype) {
    return Tensor::view_of(block_, static_cast<std::int64_t>(offset / size_of(dtype)), shape, contiguous_strides(shape),
                           dtype);
  };
  const Shape tokens{bucket_.tokens}, samples{bucket_.samples};
  counters_ = std::make_shared<const StepCounters>(view(at.counters, {2}, Dtype::i32));
  arrays_.item_factor = view(at.item_factor, {}, parameters_);
  arrays_.labels = view(at.labels, samples, Dtype::i64);
  arrays_.input_ids = view(at.ids, tokens, Dtype::i64);
  arrays_.token_type_ids = view(at.types, tokens, Dtype::i64);
  arrays_.position_ids = view(at.positions, tokens, Dtype::i64);
  arrays_.packing = Packing::placed(packing, view(at.offsets, packing.offsets.shape(), Dtype::i32),
                                    view(at.sample, tokens, Dtype::i32), view(at.position, tokens, Dtype::i32),
                                    view(at.first, samples, Dtype::i64), bucket_.max_length);
}

namespace {

/// The batch's lengths, and those of the fillers: as few as are needed, then empty ones.
std::vector<std::int64_t> with_fillers(const std::vector<std::int64_t>& lengths, std::int64_t tokens,
                                       const StepBucket& bucket) {
  std::vector<std::int64_t> all = lengths;
  std::int64_t rest = bucket.tokens - tokens;
  for (std::int64_t f = 0; f < bucket.fillers(); ++f) {
    all.push_back(std::min(rest, bucket.max_length));
    rest -= all.back();
  }
  return all;
}

void check(const PackedBatch& batch, const nn::BertForSequenceClassification& model) {
  const nn::BertConfig& config = model.config;
  nn::check_lengths(batch.lengths, config.max_position_embeddings);
  const auto check_ids = [](const char* what, const std::vector<std::int64_t>& ids, std::int64_t rows) {
    check_indices("embedding_layer_norm", what, Tensor::from(ids, {static_cast<std::int64_t>(ids.size())}), rows);
  };
  check_ids("token id", batch.ids, config.vocab_size);
  check_ids("token type", batch.types, config.type_vocab_size);
  check_ids("position", batch.positions, config.max_position_embeddings);
  if (model.classifies_one_label())
    check_labels(Tensor::from(batch.labels, {static_cast<std::int64_t>(batch.labels.size())}), config.num_labels);
}

}  // namespace

void StepInputs::fill(const PackedBatch& batch, const StepNumbers& numbers,
                      const nn::BertForSequenceClassification& model) {
  check(batch, model);
  const auto tokens = static_cast<std::int64_t>(batch.ids.size());
  const auto packing = Packing::packed(with_fillers(batch.lengths, tokens, bucket_), bucket_.fillers());
  if (counters_ == nullptr) place(*packing);
  const Layout at(bucket_);
  const auto put = [&](std::size_t offset, const auto& values) {
    std::memcpy(host_.data() + offset, values.data(), values.size() * sizeof values[0]);
  };
  const auto put_tensor = [&](std::size_t offset, const Tensor& tensor) {
    const std::size_t bytes = static_cast<std::size_t>(tensor.numel()) * size_of(tensor.dtype());
    if (bytes > 0) std::memcpy(host_.data() + offset, tensor.data(), bytes);
  };
  /// The batch's values and, for the fillers' tokens, `filler`.
  const auto put_tokens = [&](std::size_t offset, const std::vector<std::int64_t>& values, std::int64_t filler) {
    std::vector<std::int64_t> all = values;
    all.resize(static_cast<std::size_t>(bucket_.tokens), filler);
    put(offset, all);
  };
  put(at.counters, std::vector<std::uint32_t>{numbers.global_step, numbers.first_sample});
  if (parameters_ == Dtype::f64)
    put(at.item_factor, std::vector<double>{numbers.item_factor});
  else
    put(at.item_factor, std::vector<float>{static_cast<float>(numbers.item_factor)});
  put(at.labels, batch.labels);
  put_tensor(at.first, packing->first);
  put_tokens(at.ids, batch.ids, pad_token_id_);
  put_tokens(at.types, batch.types, 0);
  put_tokens(at.positions, batch.positions, 0);
  put_tensor(at.offsets, packing->offsets);
  put_tensor(at.sample, packing->sample);
  put_tensor(at.position, packing->position);
  for (std::size_t done = 0; done < host_.size(); done += kCopy)
    Runtime::instance().copy(device_, block_->data() + done, Device::cpu(), host_.data() + done,
                             std::min(kCopy, host_.size() - done));
}

}  // namespace sinter::train
