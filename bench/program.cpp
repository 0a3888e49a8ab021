#include "bench/program.h"

#include <CLI/CLI.hpp>

#include <algorithm>
#include <charconv>
#include <cstdio>
#include <filesystem>
#include <utility>

#include "core/error.h"
#include "core/io/files.h"
#include "core/io/shown.h"
#include "train/nearest_name.h"

namespace sinter::bench {
namespace {

/// A number that is written out whole and lies in low..high.
template <class T>
T read_number(const std::string& name, const std::string& text, T low, T high, const char* kind) {
  T value{};
  const char* const end = text.data() + text.size();
  const auto [read, error] = std::from_chars(text.data(), end, value);
  if (error != std::errc{} || read != end || !(value >= low && value <= high))
    fail(ErrorCode::usage, name, " is \"", shown(text, 100), "\", it must be ", kind, " from ", low, " to ", high);
  return value;
}

std::string listed(const std::vector<std::string>& words) {
  std::string text;
  for (std::size_t i = 0; i < words.size(); ++i)
    text += (i == 0 ? "" : i + 1 == words.size() ? " or " : ", ") + words[i];
  return text;
}

}  // namespace

OptionTable::OptionTable(std::string program, const std::string& purpose)
    : program_(std::move(program)), app_(std::make_unique<CLI::App>(purpose)) {
  app_->name(program_);
}

OptionTable::~OptionTable() = default;

OptionTable& OptionTable::add(const std::string& name, const char* kind, const std::string& help,
                              std::function<void(const std::string&)> read) {
  app_->add_option_function<std::string>(name, std::move(read), help)->type_name(kind);
  names_.push_back(name);
  return *this;
}

OptionTable& OptionTable::integer(const std::string& name, std::int64_t& value, std::int64_t low, std::int64_t high,
                                  const std::string& help) {
  return add(name, "N", help, [&value, name, low, high](const std::string& text) {
    value = read_number(name, text, low, high, "an integer");
  });
}

OptionTable& OptionTable::number(const std::string& name, double& value, double low, double high,
                                 const std::string& help) {
  return add(name, "X", help, [&value, name, low, high](const std::string& text) {
    value = read_number(name, text, low, high, "a number");
  });
}

OptionTable& OptionTable::choice(const std::string& name, std::string& value, const std::vector<std::string>& allowed,
                                 const std::string& help) {
  return add(name, "WORD", help, [&value, name, allowed](const std::string& text) {
    if (std::find(allowed.begin(), allowed.end(), text) == allowed.end())
      fail(ErrorCode::usage, name, " is \"", shown(text, 100), "\", it must be ", listed(allowed));
    value = text;
  });
}

OptionTable& OptionTable::word(const std::string& name, std::string& value, const std::string& help) {
  return add(name, "TEXT", help, [&value, name](const std::string& text) {
    if (text.empty()) fail(ErrorCode::usage, name, " is empty");
    value = text;
  });
}

OptionTable& OptionTable::flag(const std::string& name, bool& value, const std::string& help) {
  app_->add_flag_function(name, [&value](std::int64_t) { value = true; }, help);
  names_.push_back(name);
  return *this;
}

bool OptionTable::parse(int argc, char** argv) {
  const std::string where = "; " + program_ + " --help lists the options";
  try {
    app_->parse(argc, argv);
  } catch (const CLI::CallForHelp&) {
    std::fputs(app_->help().c_str(), stdout);
    return false;
  } catch (const CLI::ExtrasError&) {
    const std::string word = app_->remaining().front(), name = word.substr(0, word.find('='));
    if (!name.starts_with("--"))
      fail(ErrorCode::usage, "\"", shown(word, 100), "\" belongs to no option", where);
    fail(ErrorCode::usage, shown(name, 100), " is no option", train::nearest_name_hint(name, names_), where);
  } catch (const CLI::ArgumentMismatch& error) {
    const std::string what = error.what(), name = what.substr(0, what.find(':'));
    if (what.find("At Most") != std::string::npos) fail(ErrorCode::usage, name, " is given more than once");
    fail(ErrorCode::usage, name, " needs a value after it", where);
  } catch (const CLI::ParseError&) {
    fail(ErrorCode::usage, "the options cannot be read", where);
  }
  return true;
}

void check_can_be_written(const std::string& path) {
  const bool was_there = std::filesystem::exists(path);
  std::FILE* const file = std::fopen(path.c_str(), "a");
  if (file == nullptr) fail_system("write", path);
  std::fclose(file);
  if (!was_there) std::filesystem::remove(path);
}

}  // namespace sinter::bench
