// The two list notations in Slurm's environment variables.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace sinter::train {

/// The first host of a list such as "node[03-07,9],login1" (here node03) or "rack[0-1]n[1-8]-ib" (rack0n1-ib).
/// `variable` names the list in messages. Error(usage) for what is no such list.
std::string first_host(const char* variable, std::string_view list);

/// The numbers of tasks on each node, of a list such as "2(x3),1" (here 2, 2, 2, 1). At most a million nodes.
/// `variable` names the list in messages. Error(usage) for what is no such list.
std::vector<int> tasks_per_node(const char* variable, std::string_view list);

}  // namespace sinter::train
