// Hugging Face's argument `padding`.
#pragma once

#include <string_view>

#include "core/error.h"

namespace sinter::data {

enum class PaddingStrategy { do_not_pad, longest, max_length };

/// true or "longest": to the longest sample of the batch. "max_length": to max_length. false or "do_not_pad": never.
/// ErrorCode::usage for any other name.
class Padding {
 public:
  Padding(bool pad) : strategy_(pad ? PaddingStrategy::longest : PaddingStrategy::do_not_pad) {}
  Padding(PaddingStrategy strategy) : strategy_(strategy) {}
  Padding(const char* name) : Padding(std::string_view(name)) {}
  Padding(std::string_view name)
      : strategy_(name == "longest"      ? PaddingStrategy::longest
                  : name == "max_length" ? PaddingStrategy::max_length
                                         : PaddingStrategy::do_not_pad) {
    if (strategy_ == PaddingStrategy::do_not_pad && name != "do_not_pad")
      fail(ErrorCode::usage, "padding is \"", name, "\", it must be true, false, longest, max_length or do_not_pad");
  }

  PaddingStrategy strategy() const { return strategy_; }

 private:
  PaddingStrategy strategy_;
};

}  // namespace sinter::data
