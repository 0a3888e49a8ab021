// Hugging Face's load_dataset, for the data sets that are served here from local files.
#pragma once

#include <concepts>
#include <map>
#include <string>

#include "data/dataset.h"

namespace sinter::data {

struct LoadDatasetOptions {
  std::string data_dir = {};                             ///< of "glue": the data set's folder or its zip file
  std::map<std::string, std::string> data_files = {};    ///< of "csv" and "tsv": split -> file
  bool strict_utf8 = false;                              ///< refuse bytes that are not UTF-8, which else are dropped
};

/// load_dataset("glue", "sst2", {.data_dir = "SST-2"}): the Stanford Sentiment Treebank as GLUE publishes it
/// (data/glue.h). Nothing is downloaded; without data_dir the error says how to get it.
///
/// load_dataset("csv" or "tsv", {.data_files = {{"train", "a.csv"}}}): own tables (data/delimited.h has the rules). A
/// column whose values are all integers, or all numbers, is one of integers or reals; the others are texts.
///
/// load_dataset("path/to/SST-2" or "SST-2.zip"): as the first, for a folder or zip file that is there. "glue/sst2" and
/// the hub's names of the data set mean the first, too.
///
/// ErrorCode::usage for a name that is not served, listing those that are, and for options that it does not take.
DatasetDict load_dataset(const std::string& path, const LoadDatasetOptions& options = {});
DatasetDict load_dataset(const std::string& path, const std::string& name, const LoadDatasetOptions& options);
/// A template, so that braces in this place are always options.
template <std::convertible_to<std::string> Name>
DatasetDict load_dataset(const std::string& path, const Name& name) {
  return load_dataset(path, std::string(name), LoadDatasetOptions());
}

}  // namespace sinter::data
