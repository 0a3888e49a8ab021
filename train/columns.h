// Which columns of a data set a run uses.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "data/dataset.h"
#include "nn/bert_config.h"
#include "train/training_arguments.h"

namespace sinter::train {

/// The label columns of `dataset`: args.label_names, or label, labels or label_ids. Empty when one of them is missing.
/// A single one may be called labels, which model_columns makes of it.
std::vector<std::string> label_columns(const TrainingArguments& args, const data::Dataset& dataset);

/// The integer labels of the first label column, which the loss counts; empty where there are none or of another kind.
std::span<const std::int64_t> item_labels(const TrainingArguments& args, const data::Dataset& dataset);

/// `dataset` as the model of `config` reads it: a single label column of another name becomes labels, and with
/// remove_unused_columns only input_ids, token_type_ids, attention_mask, the labels and args.length_column_name are
/// left. Labels that are all -1, as GLUE's test splits have them, are unknown: the column goes. Error(usage), beginning
/// with `what`, when input_ids are missing, or a label is neither a class of the model nor -100.
data::Dataset model_columns(const char* what, const data::Dataset& dataset, const TrainingArguments& args,
                            const nn::BertConfig& config);

}  // namespace sinter::train
