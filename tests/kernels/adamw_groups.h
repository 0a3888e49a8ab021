// Groups of AdamW by their hyperparameters.
#pragma once

#include <vector>

#include "kernels/adamw.h"

namespace sinter::kernels::testing {

struct RatedGroup {
  std::int64_t begin = 0, end = 0;
  double lr = 0, weight_decay = 0;
};

/// What AdamW takes of these groups in update `t`, with its default betas.
struct AdamWGroups {
  std::vector<AdamWGroup> ranges;
  std::vector<AdamWCoefficients> now;

  AdamWGroups(std::initializer_list<RatedGroup> groups, std::int64_t t = 3) {
    for (const RatedGroup& group : groups) add(group, t);
  }
  void add(const RatedGroup& group, std::int64_t t = 3) {
    ranges.push_back({group.begin, group.end});
    now.push_back(coefficients(group.lr, group.weight_decay, AdamW{}.beta1, AdamW{}.beta2, t));
  }
  int count() const { return static_cast<int>(ranges.size()); }
  /// The coefficients one after the other.
  std::vector<double> numbers() const {
    std::vector<double> all;
    for (const AdamWCoefficients& c : now) all.insert(all.end(), {c.decay, c.step_size, c.inverse_root});
    return all;
  }
};

}  // namespace sinter::kernels::testing
