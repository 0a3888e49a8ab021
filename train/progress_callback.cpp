#include "train/progress_callback.h"

#include <cstdio>

namespace sinter::train {

void PrinterCallback::on_log(CallbackContext& run) {
  std::printf("%s\n", log_line(*run.logs).c_str());
  std::fflush(stdout);
}

void ProgressCallback::on_train_begin(CallbackContext& run) {
  progress_ = std::make_unique<Progress>("train", run.state.max_steps, true);
}

void ProgressCallback::on_step_end(CallbackContext& run) {
  if (progress_ != nullptr) progress_->update(run.state.global_step);
}

void ProgressCallback::on_log(CallbackContext& run) {
  if (progress_ != nullptr) return progress_->line(log_line(*run.logs));
  std::printf("%s\n", log_line(*run.logs).c_str());
  std::fflush(stdout);
}

void ProgressCallback::on_train_end(CallbackContext&) { progress_.reset(); }

}  // namespace sinter::train
