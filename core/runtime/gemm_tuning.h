// Tuned matrix products of a device: its table is open as long as this object lives.
#pragma once

#include <filesystem>
#include <string>

#include "core/device.h"
#include "core/io/gemm_table_file.h"
#include "kernels/gemm_table.h"

namespace sinter {

/// Products take the table's algorithms, and the others the heuristic's, until it is destroyed. The table is the
/// process's: one object for a device at a time.
class GemmTuning {
 public:
  /// "" where products of `device` can be tuned, else why not, in half a sentence. Error(not_found) where the device
  /// cannot be used.
  static std::string why_none(Device device);

  /// The table is empty and records nothing.
  explicit GemmTuning(Device device);
  GemmTuning(const kernels::GemmTuner& tuner, int index) : tuner_(tuner), index_(index) { tuner_.open(index_); }
  ~GemmTuning() { tuner_.close(index_); }
  GemmTuning(const GemmTuning&) = delete;
  GemmTuning& operator=(const GemmTuning&) = delete;

  /// Whether a product that is met for the first time is tuned.
  void record(bool on) { tuner_.record(index_, on); }

  /// Takes the table of a file that somebody relies on. False, after one line, where it is for another library or GPU.
  /// Entries that the library refuses are left out, and a line says how many and why. Error(bad_input) for no such
  /// file, Error as read_file().
  bool read(const std::filesystem::path& file);

  /// Takes the table of the cache in `folder`, where it has one for this library and GPU. What is wrong with it is told
  /// in one line, and it counts as not there. Nothing happens for an empty path.
  void read_cache(const std::filesystem::path& folder);
  /// Adds to it what this table holds beyond it, in one step: processes may race, the last one wins. What stands in it
  /// stays, so that other runs find it again; one that is broken is replaced. A folder that cannot be written is told
  /// in one line. Nothing happens for an empty path.
  void write_cache(const std::filesystem::path& folder);

  GemmTable table() const;
  std::size_t size() const { return tuner_.choices(index_, nullptr, 0); }
  std::size_t not_timed() const { return tuner_.not_timed(index_); }

 private:
  bool take(const GemmTable& table, const std::string& source);

  const kernels::GemmTuner& tuner_;
  int index_;
  std::size_t read_ = 0;   // entries that stand in the cache already
};

}  // namespace sinter
