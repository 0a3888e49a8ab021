// What a run prints.
#pragma once

#include <memory>

#include "train/progress.h"
#include "train/trainer_callback.h"

namespace sinter::train {

/// Prints each log entry as one line on standard output. The Trainer's with disable_tqdm.
class PrinterCallback final : public TrainerCallback {
 public:
  void on_log(CallbackContext& run) override;
  bool looks_inside_steps() const override { return false; }
};

/// The same above a progress bar. The Trainer's without disable_tqdm.
class ProgressCallback final : public TrainerCallback {
 public:
  void on_train_begin(CallbackContext& run) override;
  void on_step_end(CallbackContext& run) override;
  void on_log(CallbackContext& run) override;
  void on_train_end(CallbackContext& run) override;
  bool looks_inside_steps() const override { return false; }

 private:
  std::unique_ptr<Progress> progress_;
};

}  // namespace sinter::train
