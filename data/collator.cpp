#include "data/collator.h"

#include <algorithm>
#include <limits>
#include <string>

#include "core/error.h"
#include "data/tokenizer.h"

namespace sinter::data {

namespace {

using Ids = std::span<const std::int32_t>;

// The columns that collators read.
class Inputs {
 public:
  explicit Inputs(const Dataset& dataset) : size_(dataset.size()), labels_(labels_of(dataset)) {
    if (!dataset.has_column("input_ids"))
      fail(ErrorCode::usage, "a batch needs the column \"input_ids\", which dataset.map with a tokenizer makes; ",
           "the columns: ", names(dataset));
    ids_ = lists(dataset, "input_ids");
    types_ = lists(dataset, "token_type_ids");
    mask_ = lists(dataset, "attention_mask");
  }

  // Checks the rows, and what both layouts share: counts, lengths and labels.
  CollatedBatch begin(std::span<const std::int64_t> rows, std::int64_t first_sample) const {
    CollatedBatch batch;
    batch.sample_count = static_cast<std::int64_t>(rows.size());
    batch.first_sample = first_sample;
    batch.lengths.reserve(rows.size());
    for (const std::int64_t row : rows) {
      if (row < 0 || row >= size_)
        fail(ErrorCode::usage, "row ", row, " was asked for in a data set of ", size_, " rows");
      check(row, types_, "token_type_ids");
      check(row, mask_, "attention_mask");
      const Ids mask = this->mask(row);
      const std::int64_t length = mask_ ? std::count_if(mask.begin(), mask.end(), [](auto bit) { return bit != 0; })
                                        : static_cast<std::int64_t>(ids(row).size());
      batch.lengths.push_back(length);
      batch.token_count += length;
      if (!labels_.empty()) batch.labels.push_back(labels_[static_cast<std::size_t>(row)]);
    }
    return batch;
  }

  Ids ids(std::int64_t row) const { return (*ids_)[row]; }
  Ids types(std::int64_t row) const { return types_ ? (*types_)[row] : Ids(); }   // empty: all 0
  Ids mask(std::int64_t row) const { return mask_ ? (*mask_)[row] : Ids(); }      // empty: all 1

 private:
  static std::string names(const Dataset& dataset) {
    std::string text;
    for (const std::string& name : dataset.column_names()) text += (text.empty() ? "" : ", ") + name;
    return text.empty() ? "none" : text;
  }

  static const Lists* lists(const Dataset& dataset, const char* name) {
    if (!dataset.has_column(name)) return nullptr;
    const Column& column = dataset.column(name);
    if (!column.is_list())
      fail(ErrorCode::usage, "the column \"", name, "\" holds values of the kind ", column.kind(),
           "; a batch needs lists of integers");
    return &column.lists();
  }

  void check(std::int64_t row, const Lists* lists, const char* name) const {
    if (lists != nullptr && (*lists)[row].size() != ids(row).size())
      fail(ErrorCode::usage, "row ", row, " has ", ids(row).size(), " input_ids and ", (*lists)[row].size(), " ", name);
  }

  std::int64_t size_;
  std::span<const std::int64_t> labels_;
  const Lists* ids_;
  const Lists* types_;
  const Lists* mask_;
};

std::int64_t longest(const Inputs& inputs, std::span<const std::int64_t> rows) {
  std::size_t length = 0;
  for (const std::int64_t row : rows) length = std::max(length, inputs.ids(row).size());
  return static_cast<std::int64_t>(length);
}

void check_equal_lengths(const Inputs& inputs, std::span<const std::int64_t> rows) {
  for (const std::int64_t row : rows)
    if (inputs.ids(row).size() != inputs.ids(rows[0]).size())
      fail(ErrorCode::usage, "rows ", rows[0], " and ", row, " have ", inputs.ids(rows[0]).size(), " and ",
           inputs.ids(row).size(), " tokens and cannot be stacked; DataCollatorWithPadding pads them to one length");
}

struct Padded {
  std::int64_t length;
  std::int64_t pad_token_id;
  Side side;
};

// Appends one row: the values, or `absent` for each of the tokens, and pads.
void append(std::vector<std::int64_t>& target, Ids values, std::size_t tokens, std::int64_t absent, std::int64_t pad,
            const Padded& padded) {
  const std::size_t begin = target.size(), end = begin + static_cast<std::size_t>(padded.length);
  if (padded.side == Side::left) target.resize(end - tokens, pad);
  target.insert(target.end(), values.begin(), values.end());
  target.resize(padded.side == Side::left ? end : begin + tokens, absent);
  target.resize(end, pad);
}

void fill_padded(CollatedBatch& batch, const Inputs& inputs, std::span<const std::int64_t> rows, const Padded& padded) {
  batch.sequence_length = padded.length;
  const auto width = static_cast<std::size_t>(padded.length);
  for (auto* array : {&batch.input_ids, &batch.token_type_ids, &batch.attention_mask})
    array->reserve(rows.size() * width);
  for (const std::int64_t row : rows) {
    const std::size_t tokens = inputs.ids(row).size();
    append(batch.input_ids, inputs.ids(row), tokens, 0, padded.pad_token_id, padded);
    append(batch.token_type_ids, inputs.types(row), tokens, 0, 0, padded);
    append(batch.attention_mask, inputs.mask(row), tokens, 1, 0, padded);
  }
}

}  // namespace

std::span<const std::int64_t> labels_of(const Dataset& dataset) {
  const char* found = nullptr;
  for (const char* name : {"label", "label_ids", "labels"}) {
    if (!dataset.has_column(name)) continue;
    if (found != nullptr)
      fail(ErrorCode::usage, "the data set has labels in two columns, \"", found, "\" and \"", name,
           "\"; remove_columns takes one away");
    found = name;
  }
  if (found == nullptr) return {};
  const Column& column = dataset.column(found);
  if (!column.is_integer())
    fail(ErrorCode::usage, "the column \"", found, "\" holds values of the kind ", column.kind(),
         "; labels are integers from 0");
  return column.integers();
}

DataCollatorWithPadding::DataCollatorWithPadding(const BertTokenizer& tokenizer, const DataCollatorOptions& options)
    : pad_token_id_(tokenizer.pad_token_id()), padding_side_(tokenizer.options().padding_side), options_(options) {
  for (const auto& [name, value] : {std::pair{"max_length", options.max_length},
                                    std::pair{"pad_to_multiple_of", options.pad_to_multiple_of}})
    if (value && *value < 1) fail(ErrorCode::usage, name, " is ", *value, ", it must be at least 1");
  if (!options.max_length) options_.max_length = tokenizer.options().model_max_length;
  if (options.padding == Padding::max_length && !options_.max_length)
    fail(ErrorCode::usage,
         "padding is \"max_length\", which needs a max_length: the tokenizer has no model_max_length");
}

CollatedBatch DataCollatorWithPadding::operator()(const Dataset& dataset, std::span<const std::int64_t> rows,
                                                  std::int64_t first_sample) const {
  const Inputs inputs(dataset);
  CollatedBatch batch = inputs.begin(rows, first_sample);
  std::int64_t length = longest(inputs, rows);
  if (options_.padding == Padding::do_not_pad) check_equal_lengths(inputs, rows);
  if (options_.padding == Padding::max_length) {
    if (length > *options_.max_length)
      fail(ErrorCode::usage, "a sample has ", length, " tokens, more than the max_length ", *options_.max_length,
           " that batches are padded to; the tokenizer cuts samples with truncation and the same max_length");
    length = *options_.max_length;
  }
  if (options_.padding != Padding::do_not_pad) {
    const std::int64_t multiple = options_.pad_to_multiple_of.value_or(1);
    length = (length + multiple - 1) / multiple * multiple;
  }
  fill_padded(batch, inputs, rows, {length, pad_token_id_, padding_side_});
  return batch;
}

CollatedBatch DefaultDataCollator::operator()(const Dataset& dataset, std::span<const std::int64_t> rows,
                                              std::int64_t first_sample) const {
  const Inputs inputs(dataset);
  CollatedBatch batch = inputs.begin(rows, first_sample);
  check_equal_lengths(inputs, rows);
  fill_padded(batch, inputs, rows, {longest(inputs, rows), 0, Side::right});
  return batch;
}

CollatedBatch DataCollatorWithFlattening::operator()(const Dataset& dataset, std::span<const std::int64_t> rows,
                                                     std::int64_t first_sample) const {
  const Inputs inputs(dataset);
  CollatedBatch batch = inputs.begin(rows, first_sample);
  if (batch.token_count > std::numeric_limits<std::int32_t>::max())
    fail(ErrorCode::usage, "a packed batch of ", batch.token_count, " tokens was asked for; it holds at most ",
         std::numeric_limits<std::int32_t>::max());
  batch.packed = true;
  const auto tokens = static_cast<std::size_t>(batch.token_count);
  for (auto* array : {&batch.input_ids, &batch.token_type_ids, &batch.position_ids}) array->reserve(tokens);
  batch.offsets.push_back(0);
  for (const std::int64_t row : rows) {
    const Ids ids = inputs.ids(row), types = inputs.types(row), mask = inputs.mask(row);
    for (std::size_t i = 0; i < ids.size(); ++i) {
      if (!mask.empty() && mask[i] == 0) continue;
      batch.input_ids.push_back(ids[i]);
      batch.token_type_ids.push_back(types.empty() ? 0 : types[i]);
      batch.position_ids.push_back(static_cast<std::int64_t>(i));
    }
    batch.offsets.push_back(static_cast<std::int32_t>(batch.input_ids.size()));
  }
  for (const std::int64_t length : batch.lengths) batch.sequence_length = std::max(batch.sequence_length, length);
  return batch;
}

}  // namespace sinter::data
