// One-line messages to the person who runs the program.
#pragma once

#include <functional>
#include <string>

namespace sinter {

/// Writes "sinter: <sentence>" to standard error, or to the sink that was set.
void log_info(const std::string& sentence);
/// The same, once in a process for each `key`.
void log_once(const std::string& key, const std::string& sentence);
/// Replaces where messages go; an empty function restores standard error.
void set_log_sink(std::function<void(const std::string& sentence)> sink);

}  // namespace sinter
