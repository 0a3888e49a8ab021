// What reports of this folder are written with.
#pragma once

#include <string>
#include <vector>

#include "core/io/json.h"

namespace sinter::bench {

/// printf into a string of up to 1023 characters.
__attribute__((format(printf, 1, 2))) std::string text(const char* format, ...);

/// Of measurements that were repeated.
struct Spread {
  double median = 0, low = 0, high = 0;
};
/// Of at least one value; of an even number the median is the upper of the middle two.
Spread spread_of(std::vector<double> values);
double median_of(std::vector<double> values);
/// {"median", "low", "high"}
Json to_json(const Spread& spread);

}  // namespace sinter::bench
