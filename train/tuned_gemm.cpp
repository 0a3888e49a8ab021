#include "train/tuned_gemm.h"

#include <string>

#include "core/device.h"
#include "core/log.h"

namespace sinter::train {

std::unique_ptr<TunedGemm> TunedGemm::begin(const TrainingArguments& args,
                                            const std::optional<std::filesystem::path>& checkpoint,
                                            TrainerState& state) {
  if (!args.tune_gemm) return nullptr;
  const Device device = Device::parse(args.device);
  if (const std::string why = GemmTuning::why_none(device); !why.empty()) {
    log_info("tune_gemm has nothing to tune on " + device.str() + ": " + why);
    return nullptr;
  }
  return std::unique_ptr<TunedGemm>(new TunedGemm(args, checkpoint, state));
}

TunedGemm::TunedGemm(const TrainingArguments& args, const std::optional<std::filesystem::path>& checkpoint,
                     TrainerState& state)
    : tuning_(Device::parse(args.device)), cache_(cache_folder()) {
  bool goes_on = false;
  if (checkpoint && std::filesystem::exists(*checkpoint / kFile))
    goes_on = tuning_.read(*checkpoint / kFile);
  else if (checkpoint)
    log_info(checkpoint->string() + " has no " + kFile + ": products are tuned from here on");
  if (!goes_on) {
    tuning_.read_cache(cache_);
    state.gemm_tuning_ends = state.global_step + kUpdates;
  }
  ends_ = state.gemm_tuning_ends;
  known_ = tuning_.size();
}

void TunedGemm::keep() {
  if (tuning_.size() <= known_) return;
  std::string line = std::to_string(tuning_.size() - known_) + " matrix products were tuned";
  if (known_ > 0) line += ", beside " + std::to_string(known_) + " whose algorithms were known";
  if (tuning_.not_timed() > 0)
    line += "; " + std::to_string(tuning_.not_timed()) +
            " of them could not be timed and take the heuristic's algorithm";
  if (tuning_.size() == kernels::kMostGemmChoices) line += "; the table is full";
  log_info(line);
  tuning_.write_cache(cache_);
  known_ = tuning_.size();
}

TunedGemm::Recording::Recording(TunedGemm* of, std::int64_t step) : of_(of) {
  if (of_ == nullptr) return;
  if (step < of_->ends_)
    of_->tuning_.record(true);
  else
    of_->keep();
}

TunedGemm::Recording::~Recording() {
  if (of_ != nullptr) of_->tuning_.record(false);
}

}  // namespace sinter::train
