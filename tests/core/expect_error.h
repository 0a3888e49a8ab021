// Expecting an Error by its code and its sentence.
#pragma once

#include <gtest/gtest.h>

#include <string>
#include <string_view>

#include "core/error.h"

namespace sinter::testing {

/// The sentence of the Error that `act` throws; "accepted" where it throws none.
template <class Act>
std::string refusal(Act&& act, ErrorCode code = ErrorCode::usage) {
  try {
    act();
  } catch (const Error& error) {
    EXPECT_EQ(static_cast<int>(error.code()), static_cast<int>(code)) << error.what();
    return error.what();
  }
  return "accepted";
}

/// Expects an Error with this code whose sentence contains `says`.
template <class Act>
void expect_error(Act&& act, ErrorCode code, std::string_view says) {
  const std::string said = refusal(act, code);
  EXPECT_NE(said.find(says), std::string::npos) << "\"" << said << "\" does not contain \"" << says << "\"";
}

template <class Act>
void expect_usage_error(Act&& act, std::string_view says) {
  expect_error(act, ErrorCode::usage, says);
}

}  // namespace sinter::testing
