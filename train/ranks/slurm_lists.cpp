#include "train/ranks/slurm_lists.h"

#include <charconv>
#include <cstddef>
#include <optional>

#include "core/error.h"

namespace sinter::train {
namespace {

constexpr std::size_t kMostNodes = 1'000'000;

bool is_host_character(char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-' || c == '.' || c == '_';
}

/// Takes a positive number from the front of `text`.
std::optional<int> take_number(std::string_view& text) {
  int number = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  if (error != std::errc() || number < 1) return std::nullopt;
  text.remove_prefix(static_cast<std::size_t>(end - text.data()));
  return number;
}

bool take(std::string_view& text, std::string_view prefix) {
  if (!text.starts_with(prefix)) return false;
  text.remove_prefix(prefix.size());
  return true;
}

/// Takes "2" or "2(x3)" and the comma behind it: how many nodes have how many tasks.
struct Nodes {
  int tasks = 0;
  int count = 1;
};
std::optional<Nodes> take_nodes(std::string_view& text) {
  Nodes nodes;
  const auto tasks = take_number(text);
  if (!tasks) return std::nullopt;
  nodes.tasks = *tasks;
  if (take(text, "(x")) {
    const auto count = take_number(text);
    if (!count || !take(text, ")")) return std::nullopt;
    nodes.count = *count;
  }
  if (!text.empty() && (!take(text, ",") || text.empty())) return std::nullopt;
  return nodes;
}

}  // namespace

std::string first_host(const char* variable, std::string_view list) {
  std::string host;
  bool well_formed = true;
  for (std::size_t i = 0; i < list.size() && list[i] != ',' && well_formed; ++i) {
    if (list[i] != '[') {
      well_formed = is_host_character(list[i]);
      host += list[i];
      continue;
    }
    const std::size_t close = list.find(']', i);
    const std::size_t digits = list.find_first_not_of("0123456789", i + 1);
    well_formed = close != std::string_view::npos && digits > i + 1 && digits <= close &&
                  (digits == close || list[digits] == '-' || list[digits] == ',');
    if (!well_formed) break;
    host.append(list.substr(i + 1, digits - i - 1));
    i = close;
  }
  if (!well_formed || host.empty())
    fail(ErrorCode::usage, variable, " is \"", list, "\", which is no list of hosts such as node[03-07,9]; "
         "set MASTER_ADDR to the host of rank 0");
  return host;
}

std::vector<int> tasks_per_node(const char* variable, std::string_view list) {
  std::vector<int> tasks;
  std::string_view rest = list;
  do {
    const auto nodes = take_nodes(rest);
    if (!nodes || static_cast<std::size_t>(nodes->count) > kMostNodes - tasks.size())
      fail(ErrorCode::usage, variable, " is \"", list, "\", which is no list of tasks per node such as 2(x3),1; "
           "srun sets it: do not set it by hand");
    tasks.insert(tasks.end(), static_cast<std::size_t>(nodes->count), nodes->tasks);
  } while (!rest.empty());
  return tasks;
}

}  // namespace sinter::train
