#include "core/ops/registry.h"

#include <cstring>
#include <string>

#include "core/error.h"

namespace sinter {

std::span<const OpRow* const> all_ops() {
#define SINTER_OP_ADDRESS(op) &op##_op,
  static constexpr const OpRow* rows[] = {SINTER_OPS(SINTER_OP_ADDRESS)};
#undef SINTER_OP_ADDRESS
  return rows;
}

const OpRow& find_op(const char* name) {
  std::string names;
  for (const OpRow* row : all_ops()) {
    if (std::strcmp(row->name, name) == 0) return *row;
    names += std::string(names.empty() ? "" : ", ") + row->name;
  }
  fail(ErrorCode::usage, "no op is called \"", name, "\"; there are ", names);
}

}  // namespace sinter
