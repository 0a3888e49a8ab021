// Expecting an Error by its code and a part of its sentence.
#pragma once

#include <gtest/gtest.h>

#include <string>

#include "core/error.h"

namespace sinter::testing {

template <class Fn>
void expect_error(Fn&& fn, ErrorCode code, const std::string& says) {
  try {
    fn();
    ADD_FAILURE() << "no error; expected \"" << says << "\"";
  } catch (const Error& error) {
    EXPECT_NE(std::string(error.what()).find(says), std::string::npos)
        << "\"" << error.what() << "\" does not contain \"" << says << "\"";
    EXPECT_EQ(static_cast<int>(error.code()), static_cast<int>(code)) << error.what();
  }
}

template <class Fn>
void expect_usage_error(Fn&& fn, const std::string& says) {
  expect_error(fn, ErrorCode::usage, says);
}

}  // namespace sinter::testing
