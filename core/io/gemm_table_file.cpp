#include "core/io/gemm_table_file.h"

#include <algorithm>
#include <cstdlib>
#include <limits>
#include <optional>
#include <set>

#include "core/error.h"

namespace sinter {
namespace {

using kernels::Dtype;
using kernels::GemmChoice;
using kernels::GemmProblem;

constexpr std::int64_t kFormat = 1;
constexpr std::int64_t kLargest = std::int64_t{1} << 40;   // of a size, a leading dimension or a stride
constexpr std::size_t kLongestName = 300;
constexpr Dtype kDtypes[] = {Dtype::f32, Dtype::f16, Dtype::bf16};
constexpr int kDigits = 16;   // of a word

/// Calls visit(name, member, low, high) for every member of a problem but the dtype.
template <class Problem, class Visit>
void for_each_member(Problem& p, Visit&& visit) {
  visit("transpose_a", p.transpose_a, 0, 1);
  visit("transpose_b", p.transpose_b, 0, 1);
  visit("accumulate", p.accumulate, 0, 1);
  visit("workspace", p.workspace, 0, 1);
  visit("alignment_a", p.alignment_a, 1, 256);
  visit("alignment_b", p.alignment_b, 1, 256);
  visit("alignment_c", p.alignment_c, 1, 256);
  visit("alignment_bias", p.alignment_bias, 0, 256);
  visit("m", p.m, 1, kLargest);
  visit("n", p.n, 1, kLargest);
  visit("k", p.k, 1, kLargest);
  visit("batch", p.batch, 1, std::int64_t{std::numeric_limits<std::int32_t>::max()});
  visit("lda", p.lda, 1, kLargest);
  visit("ldb", p.ldb, 1, kLargest);
  visit("ldc", p.ldc, 1, kLargest);
  visit("batch_stride_a", p.batch_stride_a, 0, kLargest);
  visit("batch_stride_b", p.batch_stride_b, 0, kLargest);
  visit("batch_stride_c", p.batch_stride_c, 0, kLargest);
}

std::string hexadecimal(const std::uint64_t (&words)[GemmChoice::kWords]) {
  std::string text;
  for (const std::uint64_t word : words)
    for (int digit = kDigits - 1; digit >= 0; --digit) text += "0123456789abcdef"[word >> (4 * digit) & 15];
  return text;
}

void read_words(const Json& entry, std::uint64_t (&words)[GemmChoice::kWords]) {
  const std::string text = entry.get<std::string>("algorithm");
  const auto value = [](char c) { return c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1; };
  if (text.size() != std::size_t{GemmChoice::kWords} * kDigits ||
      std::any_of(text.begin(), text.end(), [&](char c) { return value(c) < 0; }))
    entry.refuse("algorithm", "be 128 digits of 0-9 and a-f");
  for (std::size_t i = 0; i < text.size(); ++i)
    words[i / kDigits] = words[i / kDigits] << 4 | static_cast<std::uint64_t>(value(text[i]));
}

void read_dtype(const Json& entry, Dtype& dtype) {
  const std::string text = entry.get<std::string>("dtype");
  const auto* const found =
      std::find_if(std::begin(kDtypes), std::end(kDtypes), [&](Dtype each) { return text == kernels::name(each); });
  if (found == std::end(kDtypes)) entry.refuse("dtype", "be f32, f16 or bf16");
  dtype = *found;
}

/// The rules of kernels/gemm.h, and of an alignment.
void check_problem(const Json& entry, const GemmProblem& p) {
  const auto is_power = [](std::int32_t n) { return (n & (n - 1)) == 0; };
  for (const auto& [name, value] : {std::pair{"alignment_a", p.alignment_a}, std::pair{"alignment_b", p.alignment_b},
                                    std::pair{"alignment_c", p.alignment_c},
                                    std::pair{"alignment_bias", p.alignment_bias}})
    if (!is_power(value)) entry.refuse(name, "be a power of 2");
  if (p.lda < (p.transpose_a ? p.m : p.k)) entry.refuse("lda", "be at least a row of A");
  if (p.ldb < (p.transpose_b ? p.k : p.n)) entry.refuse("ldb", "be at least a row of B");
  if (p.ldc < p.n) entry.refuse("ldc", "be at least a row of C");
  if (p.alignment_bias != 0 && p.accumulate) entry.refuse("alignment_bias", "be 0, as accumulate is true");
}

void refuse_unknown(const Json& object, std::initializer_list<std::string_view> known) {
  for (const auto& [key, value] : object.items())
    if (std::find(known.begin(), known.end(), key) == known.end()) object.refuse(key, "not be there");
}

GemmChoice read_choice(const Json& entry) {
  GemmChoice choice;
  std::set<std::string_view> known = {"dtype", "algorithm"};
  read_dtype(entry, choice.problem.dtype);
  for_each_member(choice.problem, [&](const char* name, auto& member, std::int64_t low, std::int64_t high) {
    using T = std::decay_t<decltype(member)>;
    known.insert(name);
    if constexpr (std::is_same_v<T, bool>)
      member = entry.get<bool>(name);
    else
      member = static_cast<T>(entry.get<std::int64_t>(name, low, high));
  });
  for (const auto& [key, value] : entry.items())
    if (!known.contains(key)) entry.refuse(key, "not be there");
  check_problem(entry, choice.problem);
  read_words(entry, choice.algorithm);
  return choice;
}

std::string read_name(const Json& json, const char* key) {
  std::string name = json.get<std::string>(key);
  if (name.empty() || name.size() > kLongestName) json.refuse(key, "have 1 to 300 bytes");
  return name;
}

std::optional<std::filesystem::path> absolute_folder(const char* variable) {
  const char* const value = std::getenv(variable);
  if (value == nullptr || !std::filesystem::path(value).is_absolute()) return std::nullopt;
  return value;
}

/// Letters and digits in lower case, dots, and one hyphen for all that stands between them.
std::string plain(const std::string& text) {
  std::string name;
  for (const char c : text) {
    const bool upper = c >= 'A' && c <= 'Z';
    if (upper || (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '.')
      name += upper ? static_cast<char>(c - 'A' + 'a') : c;
    else if (!name.empty() && name.back() != '-')
      name += '-';
  }
  return name.substr(0, 100);
}

}  // namespace

Json GemmTable::to_json() const {
  Json entries = Json::array();
  for (const GemmChoice& choice : choices) {
    Json entry = Json::object({{"dtype", kernels::name(choice.problem.dtype)}});
    for_each_member(choice.problem, [&](const char* name, const auto& member, auto, auto) { entry.set(name, member); });
    entry.set("algorithm", hexadecimal(choice.algorithm));
    entries.push_back(std::move(entry));
  }
  return Json::object({{"format", kFormat}, {"library", library}, {"gpu", gpu}, {"entries", std::move(entries)}});
}

GemmTable GemmTable::from_json(const Json& json) {
  if (json.get<std::int64_t>("format") != kFormat) json.refuse("format", "be 1; this sinter reads no other");
  refuse_unknown(json, {"format", "library", "gpu", "entries"});
  GemmTable table{.library = read_name(json, "library"), .gpu = read_name(json, "gpu"), .choices = {}};
  const Json::Array& entries = json.elements("entries");
  if (entries.size() > kernels::kMostGemmChoices)
    fail(ErrorCode::bad_input, json.source(), ": there are ", entries.size(), " entries, at most ",
         kernels::kMostGemmChoices, " are allowed");
  std::set<GemmProblem> seen;
  for (const Json& entry : entries) {
    table.choices.push_back(read_choice(entry));
    if (!seen.insert(table.choices.back().problem).second)
      fail(ErrorCode::bad_input, json.source(), ": entries[", table.choices.size() - 1,
           "] is for a product that an earlier one is for");
  }
  return table;
}

std::filesystem::path cache_folder() {
  if (const auto caches = absolute_folder("XDG_CACHE_HOME")) return *caches / "sinter";
  if (const auto home = absolute_folder("HOME")) return *home / ".cache/sinter";
  return {};
}

std::filesystem::path gemm_cache_file(const std::filesystem::path& folder, const std::string& library,
                                      const std::string& gpu) {
  return folder / ("gemm-" + plain(library) + "-" + plain(gpu) + ".json");
}

}  // namespace sinter
