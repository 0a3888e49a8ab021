// Scoped switches of the calling thread.
#pragma once

#include <memory>
#include <string>

namespace sinter {

/// True (the default) when operations on tensors that require grad are recorded.
bool grad_enabled();

/// Records nothing in its scope. In-place writes to leaves are allowed meanwhile.
class NoGradGuard {
 public:
  NoGradGuard();
  ~NoGradGuard();
  NoGradGuard(const NoGradGuard&) = delete;
  NoGradGuard& operator=(const NoGradGuard&) = delete;

 private:
  bool before_;
};

/// Switches recording on or off in its scope.
class GradModeGuard {
 public:
  explicit GradModeGuard(bool enabled);
  ~GradModeGuard();
  GradModeGuard(const GradModeGuard&) = delete;
  GradModeGuard& operator=(const GradModeGuard&) = delete;

 private:
  bool before_;
};

namespace autograd {

/// In its scope fused ops run as their composed twins, which can be differentiated twice. Set it before the forward
/// whose gradient is to be differentiated.
class SecondOrderGuard {
 public:
  SecondOrderGuard();
  ~SecondOrderGuard();
  SecondOrderGuard(const SecondOrderGuard&) = delete;
  SecondOrderGuard& operator=(const SecondOrderGuard&) = delete;
  static bool active();

 private:
  bool before_;
};

/// In its scope every gradient that backward computes is checked; the first inf or NaN is an Error that names the op,
/// its module and the input. Slow.
class AnomalyGuard {
 public:
  AnomalyGuard();
  ~AnomalyGuard();
  AnomalyGuard(const AnomalyGuard&) = delete;
  AnomalyGuard& operator=(const AnomalyGuard&) = delete;
  static bool active();

 private:
  bool before_;
};

/// Names the module whose forward runs; nodes recorded in the scope carry it.
class ModuleScope {
 public:
  explicit ModuleScope(std::shared_ptr<const std::string> path);
  ~ModuleScope();
  ModuleScope(const ModuleScope&) = delete;
  ModuleScope& operator=(const ModuleScope&) = delete;
  static const std::shared_ptr<const std::string>& current();

 private:
  std::shared_ptr<const std::string> before_;
};

/// Names the op whose forward or backward runs, for messages.
class OpScope {
 public:
  /// `name` is a literal.
  explicit OpScope(const char* name);
  ~OpScope();
  OpScope(const OpScope&) = delete;
  OpScope& operator=(const OpScope&) = delete;
  /// "" outside any.
  static const char* current();

 private:
  const char* before_;
};

/// Marks what backward computes.
class BackwardScope {
 public:
  BackwardScope();
  ~BackwardScope();
  BackwardScope(const BackwardScope&) = delete;
  BackwardScope& operator=(const BackwardScope&) = delete;
  static bool active();

 private:
  bool before_;
};

}  // namespace autograd
}  // namespace sinter
