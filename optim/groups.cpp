#include "optim/groups.h"

#include <algorithm>
#include <cctype>

namespace sinter::optim {

// HF's names: what contains bias, layernorm or rmsnorm, a path component "norm", or one that ends in "_norm".
bool is_decayed(const std::string& name) {
  std::string lower = name;
  std::transform(lower.begin(), lower.end(), lower.begin(), [](unsigned char c) { return std::tolower(c); });
  for (const char* part : {"bias", "layernorm", "rmsnorm"})
    if (lower.find(part) != std::string::npos) return false;
  for (std::size_t begin = 0; begin <= lower.size();) {
    const std::size_t end = std::min(lower.find('.', begin), lower.size());
    const std::string component = lower.substr(begin, end - begin);
    if (component == "norm" || component.ends_with("_norm")) return false;
    begin = end + 1;
  }
  return true;
}

std::vector<ParameterGroup> decay_groups(const ParameterList& parameters, double weight_decay) {
  std::vector<ParameterGroup> groups(2);
  groups[0].weight_decay = weight_decay;
  for (const Parameter& parameter : parameters)
    if (parameter.tensor.requires_grad()) groups[is_decayed(parameter.name) ? 0 : 1].parameters.push_back(parameter);
  return groups;
}

}  // namespace sinter::optim
