#include "bench/figures.h"

#include <algorithm>
#include <cstdarg>
#include <cstdio>
#include <utility>

namespace sinter::bench {

std::string text(const char* format, ...) {
  char line[1024];
  va_list values;
  va_start(values, format);
  std::vsnprintf(line, sizeof line, format, values);
  va_end(values);
  return line;
}

Spread spread_of(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  return {values[values.size() / 2], values.front(), values.back()};
}

double median_of(std::vector<double> values) { return spread_of(std::move(values)).median; }

Json to_json(const Spread& spread) {
  return Json::object({{"median", spread.median}, {"low", spread.low}, {"high", spread.high}});
}

}  // namespace sinter::bench
