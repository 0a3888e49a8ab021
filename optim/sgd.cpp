#include "optim/sgd.h"

#include <charconv>

#include "core/error.h"
#include "core/ops/elementwise.h"

namespace sinter::optim {
namespace {

SgdOptions checked(const SgdOptions& options) {
  if (!(options.momentum >= 0 && options.momentum < 1))
    fail(ErrorCode::usage, "SGD: momentum is ", options.momentum, ", it must lie in [0, 1)");
  if (options.nesterov && options.momentum == 0) fail(ErrorCode::usage, "SGD: nesterov needs a momentum above 0");
  return options;
}

std::vector<const char*> states(const SgdOptions& options) {
  if (options.momentum == 0) return {};
  return {"momentum_buffer"};
}

}  // namespace

Sgd::Sgd(std::vector<ParameterGroup> groups, SgdOptions options)
    : Optimizer("SGD", options.lr, states(options), std::move(groups)), options_(checked(options)) {}

void Sgd::update(double clip_coefficient) {
  for (const GroupRange& range : group_ranges()) {
    const auto part = [&](const Tensor& own) { return own.narrow(0, range.begin, range.end - range.begin); };
    Tensor values = part(own(flat_.values()));
    Tensor direction = part(own(flat_.gradients())) * clip_coefficient;
    if (range.weight_decay > 0) direction.add_(values * range.weight_decay);
    if (options_.momentum > 0) {
      Tensor buffer = part(flat_.state("momentum_buffer"));
      buffer.mul_(options_.momentum).add_(direction);
      direction = options_.nesterov ? direction + buffer * options_.momentum : buffer;
    }
    values.add_(direction * -range.lr);
  }
}

SgdOptions parse_sgd_options(const std::string& text, SgdOptions options) {
  for (std::size_t begin = 0; begin < text.size();) {
    const std::size_t end = std::min(text.find(',', begin), text.size());
    const std::string pair = text.substr(begin, end - begin);
    begin = end + 1;
    const std::size_t equals = std::min(pair.find('='), pair.size());
    const std::string key = pair.substr(0, equals), value = equals < pair.size() ? pair.substr(equals + 1) : "";
    if (key == "nesterov" && (value == "true" || value == "false")) {
      options.nesterov = value == "true";
      continue;
    }
    const char* last = value.data() + value.size();
    const auto read = std::from_chars(value.data(), last, options.momentum);
    if (key != "momentum" || value.empty() || read.ec != std::errc{} || read.ptr != last)
      fail(ErrorCode::usage, "optim_args: \"", pair, "\" is not known; sgd has momentum=NUMBER and nesterov=true");
  }
  return checked(options);
}

}  // namespace sinter::optim
