#include "optim/schedule.h"

#include <algorithm>
#include <cmath>
#include <numbers>

#include "core/error.h"

namespace sinter::optim {

double Schedule::factor(std::int64_t completed) const {
  if (kind_ == Kind::constant) return 1;
  const auto i = static_cast<double>(completed);
  if (completed < warmup_) return i / static_cast<double>(std::max<std::int64_t>(1, warmup_));
  if (kind_ == Kind::constant_with_warmup) return 1;
  const auto rest = static_cast<double>(std::max<std::int64_t>(1, total_ - warmup_));
  if (kind_ == Kind::linear) return std::max(0.0, static_cast<double>(total_ - completed) / rest);
  const double progress = static_cast<double>(completed - warmup_) / rest;
  return std::max(0.0, 0.5 * (1 + std::cos(std::numbers::pi * progress)));
}

Schedule get_scheduler(const std::string& name, std::int64_t warmup_steps, std::int64_t total_steps) {
  for (const auto& [known, kind] : {std::pair{"linear", Schedule::Kind::linear},
                                    std::pair{"cosine", Schedule::Kind::cosine},
                                    std::pair{"constant", Schedule::Kind::constant},
                                    std::pair{"constant_with_warmup", Schedule::Kind::constant_with_warmup}})
    if (name == known) return {kind, warmup_steps, total_steps};
  fail(ErrorCode::usage, "lr_scheduler_type is \"", name,
       "\", it must be linear, cosine, constant or constant_with_warmup");
}

}  // namespace sinter::optim
