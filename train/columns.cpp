#include "train/columns.h"

#include <algorithm>

#include "core/error.h"
#include "data/collator.h"

namespace sinter::train {
namespace {

constexpr std::string_view kModelColumns[] = {"input_ids", "token_type_ids", "attention_mask"};

std::string joined(const std::vector<std::string>& names) {
  std::string text;
  for (const std::string& name : names) text += (text.empty() ? "" : ", ") + name;
  return text;
}

bool contains(const auto& names, const std::string& name) {
  return std::find(std::begin(names), std::end(names), name) != std::end(names);
}

}  // namespace

std::vector<std::string> label_columns(const TrainingArguments& args, const data::Dataset& dataset) {
  std::vector<std::string> names = args.label_names;
  if (names.empty())
    for (const char* name : {"label", "labels", "label_ids"})
      if (dataset.has_column(name)) names.emplace_back(name);
  if (names.size() == 1 && !dataset.has_column(names[0])) names[0] = "labels";   // as model_columns calls it
  for (const std::string& name : names)
    if (!dataset.has_column(name)) return {};
  return names;
}

std::span<const std::int64_t> item_labels(const TrainingArguments& args, const data::Dataset& dataset) {
  const std::vector<std::string> names = label_columns(args, dataset);
  if (names.empty() || !dataset.column(names.front()).is_integer()) return {};
  return dataset.column(names.front()).integers();
}

data::Dataset model_columns(const char* what, const data::Dataset& given, const TrainingArguments& args,
                            const nn::BertConfig& config) {
  if (!given.has_column("input_ids"))
    fail(ErrorCode::usage, what, " has the columns ", joined(given.column_names()),
         ", and the model reads input_ids; map a tokenizer over it first");
  if (args.label_names.size() > 1)
    fail(ErrorCode::usage, "label_names has ", args.label_names.size(), " columns (", joined(args.label_names),
         "), and this model has one label a sample; name one, or give compute_loss");
  std::vector<std::string> labels = label_columns(args, given);
  if (labels.size() == 1 && given.column(labels[0]).is_text())
    fail(ErrorCode::usage, what, ": the column ", labels[0], " of label_names holds texts, and labels are integers");
  data::Dataset dataset = given;
  if (labels.size() == 1 && labels[0] != "label" && labels[0] != "labels" && labels[0] != "label_ids") {
    std::vector<std::string> others;
    for (const char* name : {"label", "labels", "label_ids"})
      if (dataset.has_column(name)) others.emplace_back(name);
    dataset = dataset.remove_columns(others).rename_column(labels[0], "labels");
    labels[0] = "labels";
  }
  if (args.remove_unused_columns) {
    std::vector<std::string> unused;
    for (const std::string& name : dataset.column_names())
      if (!contains(kModelColumns, name) && !contains(labels, name) && name != args.length_column_name)
        unused.push_back(name);
    dataset = dataset.remove_columns(unused);
  }
  const std::span<const std::int64_t> values = data::labels_of(dataset);
  if (!values.empty() && std::all_of(values.begin(), values.end(), [](auto label) { return label == -1; }))
    return dataset.remove_columns(labels);
  if (config.num_labels == 1) return dataset;  // a regression
  for (std::size_t i = 0; i < values.size(); ++i)
    if (values[i] != -100 && (values[i] < 0 || values[i] >= config.num_labels))
      fail(ErrorCode::usage, what, ": label ", i, " is ", values[i], ", it must lie between 0 and ",
           config.num_labels - 1, ", or be -100 for a sample without one");
  return dataset;
}

}  // namespace sinter::train
