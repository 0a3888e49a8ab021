// What the programs of this folder have in common at their borders: options, and the file of --json.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

namespace CLI {
class App;
}

namespace sinter::bench {

/// The options of a program, "--name value" or "--name=value". What is wrong with one is Error(usage): a sentence that
/// names the option, what was given and the rule.
class OptionTable {
 public:
  /// `purpose` stands above the list of --help.
  OptionTable(std::string program, const std::string& purpose);
  ~OptionTable();
  OptionTable(const OptionTable&) = delete;
  OptionTable& operator=(const OptionTable&) = delete;

  OptionTable& integer(const std::string& name, std::int64_t& value, std::int64_t low, std::int64_t high,
                       const std::string& help);
  OptionTable& number(const std::string& name, double& value, double low, double high, const std::string& help);
  OptionTable& choice(const std::string& name, std::string& value, const std::vector<std::string>& allowed,
                      const std::string& help);
  OptionTable& word(const std::string& name, std::string& value, const std::string& help);
  OptionTable& flag(const std::string& name, bool& value, const std::string& help);

  /// Sets the values that are given. False: --help was asked for, and printed.
  bool parse(int argc, char** argv);

 private:
  OptionTable& add(const std::string& name, const char* kind, const std::string& help,
                   std::function<void(const std::string&)> read);

  std::string program_;
  std::unique_ptr<CLI::App> app_;
  std::vector<std::string> names_;
};

/// Error where a file of this name cannot be written; before anything is measured for it. Leaves what is there.
void check_can_be_written(const std::string& path);

}  // namespace sinter::bench
