// The options of the program sst2: HF run_glue's names, those of TrainingArguments, and what a prediction needs.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "train/training_arguments.h"

namespace sinter::train {

struct CommandLine {
  std::string data_dir;             ///< GLUE's SST-2: a folder or the zip file; "": generated reviews
  std::string model_name_or_path;   ///< "": a new small BERT for the generated reviews
  std::int64_t max_seq_length = 128;
  bool pad_to_max_length = false;   ///< pad every batch to max_seq_length; else no pads are computed at all
  std::optional<std::int64_t> max_train_samples, max_eval_samples, max_predict_samples;
  bool ignore_mismatched_sizes = false;

  std::vector<std::string> sentences;   ///< to classify
  std::string predict_file;             ///< one sentence a line; "-": standard input; "": none

  std::int64_t num_threads = 0;   ///< 0: all cores, or the rank's share of them
  std::int64_t nproc = 0;         ///< ranks to start through mpirun; 0: none, this process is the only one or a rank
  std::int64_t ddp_timeout = 60;  ///< seconds without a sign of life until a rank counts as lost
  std::string cpu_isa;            ///< "": the best

  bool overwrites_demonstration = false;   ///< the generated reviews' own output_dir may be written again
  TrainingArguments args;

  /// Neither trains nor evaluates: sentences are classified, and nothing is written but the answers.
  bool only_classifies() const;
};

/// Reads the arguments of main(). Values come from the defaults of the job (SST-2 or the generated reviews), over them
/// from the file of --config (JSON with the same names), over them from the other options. Without --do_train,
/// --do_eval, --do_predict and sentences it trains and evaluates. Nothing when --help was asked for, which is printed.
/// Error(usage) or Error(bad_input) that names the option, its value and the rule.
std::optional<CommandLine> parse_command_line(int argc, char** argv);

/// The arguments of main() without an option and its value: "--nproc 2" and "--nproc=2" are the same.
std::vector<std::string> without_option(int argc, char** argv, const std::string& name);

}  // namespace sinter::train
