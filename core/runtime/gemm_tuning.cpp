#include "core/runtime/gemm_tuning.h"

#include <algorithm>
#include <set>

#include "core/error.h"
#include "core/io/files.h"
#include "core/log.h"
#include "core/runtime/runtime.h"

namespace sinter {
namespace {

const kernels::GemmTuner& tuner_of(Device device) {
  if (const std::string why = GemmTuning::why_none(device); !why.empty())
    fail(ErrorCode::unsupported, "there are no products to tune on ", device.str(), ": ", why);
  return *Runtime::instance().gemm_tuner(device);
}

/// The entries of a cache's file before those that it does not have: runs that took theirs from it find them again.
void put_before(GemmTable& table, const std::filesystem::path& file) {
  if (!std::filesystem::exists(file)) return;
  GemmTable kept;
  try {
    kept = GemmTable::from_json(Json::load(file));
  } catch (const Error&) {
    return;   // read_cache has told what is wrong with it, or will: it is replaced
  }
  if (kept.library != table.library || kept.gpu != table.gpu) return;
  std::set<kernels::GemmProblem> known;
  for (const kernels::GemmChoice& choice : kept.choices) known.insert(choice.problem);
  for (const kernels::GemmChoice& choice : table.choices)
    if (kept.choices.size() < kernels::kMostGemmChoices && known.insert(choice.problem).second)
      kept.choices.push_back(choice);
  table = std::move(kept);
}

}  // namespace

std::string GemmTuning::why_none(Device device) {
  const kernels::GemmTuner* const tuner = Runtime::instance().gemm_tuner(device);
  return tuner == nullptr ? "its kernels for products are sinter's own, which have no settings" : tuner->why_none();
}

GemmTuning::GemmTuning(Device device) : GemmTuning(tuner_of(device), device.index()) {}

bool GemmTuning::take(const GemmTable& table, const std::string& source) {
  const std::string library = tuner_.library(), gpu = tuner_.gpu(index_);
  if (table.library != library || table.gpu != gpu) {
    log_info(source + " is ignored: it is for " + table.library + " on " + table.gpu + ", and this is " + library +
             " on " + gpu);
    return false;
  }
  std::size_t refused = 0;
  std::string why;
  for (const kernels::GemmChoice& choice : table.choices)
    if (const kernels::Status status = tuner_.add(index_, choice); !status.ok() && refused++ == 0) why = status.what;
  if (refused > 0)
    log_info(source + ": " + std::to_string(refused) + " of " + std::to_string(table.choices.size()) +
             " entries are ignored, the first because " + why);
  return true;
}

bool GemmTuning::read(const std::filesystem::path& file) {
  return take(GemmTable::from_json(Json::load(file)), file.string());
}

void GemmTuning::read_cache(const std::filesystem::path& folder) {
  if (folder.empty()) return;
  const std::filesystem::path file = gemm_cache_file(folder, tuner_.library(), tuner_.gpu(index_));
  try {
    std::error_code unreadable;
    if (!std::filesystem::exists(file, unreadable) && !unreadable) return;
    if (read(file)) read_ = size();
  } catch (const Error& error) {
    log_info(std::string("the cache of tuned products is ignored: ") + error.what());
  }
}

void GemmTuning::write_cache(const std::filesystem::path& folder) {
  if (folder.empty() || size() <= read_) return;
  GemmTable now = table();
  const std::size_t own = now.choices.size();
  try {
    create_folders(folder);
    const std::filesystem::path file = gemm_cache_file(folder, now.library, now.gpu);
    put_before(now, file);
    now.to_json().save(file);
    read_ = own;
  } catch (const Error& error) {
    log_info(std::string("tuned products are not kept for other runs: ") + error.what());
  }
}

GemmTable GemmTuning::table() const {
  GemmTable table{.library = tuner_.library(), .gpu = tuner_.gpu(index_), .choices = {}};
  table.choices.resize(size());
  const std::size_t count = tuner_.choices(index_, table.choices.data(), table.choices.size());
  table.choices.resize(std::min(count, table.choices.size()));
  return table;
}

}  // namespace sinter
