#include "data/collator.h"

#include <algorithm>
#include <limits>

#include "core/error.h"

namespace sinter::data {

namespace {

// What both layouts share: checks, counts, lengths and labels.
CollatedBatch begin_batch(std::span<const Encoding> encodings, std::span<const std::int64_t> labels,
                  std::span<const std::int64_t> indices, std::int64_t first_sample) {
  if (!labels.empty() && labels.size() != encodings.size()) {
    fail(ErrorCode::usage, "There are ", labels.size(), " labels for ", encodings.size(), " encodings.");
  }
  CollatedBatch batch;
  batch.sample_count = static_cast<std::int64_t>(indices.size());
  batch.first_sample = first_sample;
  batch.lengths.reserve(indices.size());
  for (const std::int64_t index : indices) {
    if (index < 0 || index >= static_cast<std::int64_t>(encodings.size())) {
      fail(ErrorCode::usage, "Sample ", index, " was asked for in a data set of ", encodings.size(), ".");
    }
    const std::int64_t length = encodings[static_cast<std::size_t>(index)].length();
    batch.lengths.push_back(length);
    batch.token_count += length;
    batch.sequence_length = std::max(batch.sequence_length, length);
    if (!labels.empty()) batch.labels.push_back(labels[static_cast<std::size_t>(index)]);
  }
  return batch;
}

void append(std::vector<std::int64_t>& target, const std::vector<std::int32_t>& values) {
  target.insert(target.end(), values.begin(), values.end());
}

}  // namespace

DataCollatorWithPadding::DataCollatorWithPadding(std::int64_t pad_token_id, std::int64_t pad_to_multiple_of)
    : pad_token_id_(pad_token_id), pad_to_multiple_of_(pad_to_multiple_of) {
  if (pad_token_id < 0) fail(ErrorCode::usage, "pad_token_id is ", pad_token_id, "; ids are not negative.");
  if (pad_to_multiple_of < 1) {
    fail(ErrorCode::usage, "pad_to_multiple_of is ", pad_to_multiple_of, "; it must be at least 1.");
  }
}

CollatedBatch DataCollatorWithPadding::operator()(std::span<const Encoding> encodings,
                                                  std::span<const std::int64_t> labels,
                                                  std::span<const std::int64_t> indices,
                                                  std::int64_t first_sample) const {
  CollatedBatch batch = begin_batch(encodings, labels, indices, first_sample);
  const std::int64_t multiples = (batch.sequence_length + pad_to_multiple_of_ - 1) / pad_to_multiple_of_;
  batch.sequence_length = multiples * pad_to_multiple_of_;
  const auto row = static_cast<std::size_t>(batch.sequence_length);
  for (auto* array : {&batch.input_ids, &batch.token_type_ids, &batch.attention_mask}) {
    array->reserve(indices.size() * row);
  }
  for (std::size_t b = 0; b < indices.size(); ++b) {
    const Encoding& encoding = encodings[static_cast<std::size_t>(indices[b])];
    append(batch.input_ids, encoding.ids);
    append(batch.token_type_ids, encoding.token_type_ids);
    append(batch.attention_mask, encoding.attention_mask);
    batch.input_ids.resize((b + 1) * row, pad_token_id_);
    batch.token_type_ids.resize((b + 1) * row, 0);
    batch.attention_mask.resize((b + 1) * row, 0);
  }
  return batch;
}

CollatedBatch DataCollatorWithFlattening::operator()(std::span<const Encoding> encodings,
                                                     std::span<const std::int64_t> labels,
                                                     std::span<const std::int64_t> indices,
                                                     std::int64_t first_sample) const {
  CollatedBatch batch = begin_batch(encodings, labels, indices, first_sample);
  if (batch.token_count > std::numeric_limits<std::int32_t>::max()) {
    fail(ErrorCode::usage, "A packed batch of ", batch.token_count, " tokens was asked for; offsets hold 2147483647.");
  }
  batch.packed = true;
  const auto tokens = static_cast<std::size_t>(batch.token_count);
  for (auto* array : {&batch.input_ids, &batch.token_type_ids, &batch.position_ids}) array->reserve(tokens);
  batch.offsets.push_back(0);
  for (const std::int64_t index : indices) {
    const Encoding& encoding = encodings[static_cast<std::size_t>(index)];
    append(batch.input_ids, encoding.ids);
    append(batch.token_type_ids, encoding.token_type_ids);
    for (std::int64_t position = 0; position < encoding.length(); ++position) batch.position_ids.push_back(position);
    batch.offsets.push_back(static_cast<std::int32_t>(batch.input_ids.size()));
  }
  return batch;
}

}  // namespace sinter::data
