// Reading tests/golden and comparing with it.
#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <string>

#include "core/io/json.h"
#include "core/io/safetensors.h"
#include "nn/bert.h"

namespace sinter::testing {

inline std::filesystem::path golden_folder(const std::string& name) {
  return std::filesystem::path(SINTER_SOURCE_DIR) / "tests/golden" / name;
}

inline Tensor read_tensor(const SafetensorsFile& file, const std::string& name) {
  const SafetensorsEntry& entry = file.at(name);
  Tensor tensor = Tensor::empty(Shape(entry.shape), {entry.dtype});
  file.read(name, tensor.data(), entry.bytes());
  return tensor;
}

/// The batch "" or "stepNN." of an inputs.safetensors, padded.
inline nn::BertInputs read_batch(const SafetensorsFile& file, const std::string& prefix) {
  nn::BertInputs inputs;
  inputs.input_ids = read_tensor(file, prefix + "input_ids");
  inputs.token_type_ids = read_tensor(file, prefix + "token_type_ids");
  inputs.attention_mask = read_tensor(file, prefix + "attention_mask");
  inputs.labels = read_tensor(file, prefix + "labels");
  return inputs;
}

inline std::vector<double> values(const Tensor& tensor) { return tensor.detach().to(Dtype::f64).to_vector<double>(); }

inline double largest(const std::vector<double>& x) {
  double result = 0;
  for (const double v : x) result = std::max(result, std::abs(v));
  return result;
}

/// Largest |actual - expected| over the largest |expected|.
inline double relative_error(const Tensor& actual, const Tensor& expected) {
  const std::vector<double> a = values(actual), e = values(expected);
  double worst = a.size() == e.size() ? 0 : HUGE_VAL;
  for (std::size_t i = 0; i < e.size() && i < a.size(); ++i) {
    const double difference = std::abs(a[i] - e[i]);
    worst = std::isnan(difference) ? HUGE_VAL : std::max(worst, difference);
  }
  return worst / std::max(largest(e), 1e-300);
}

}  // namespace sinter::testing
