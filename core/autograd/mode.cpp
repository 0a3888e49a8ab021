#include "core/autograd/mode.h"

#include <utility>

namespace sinter {
namespace {

thread_local bool t_grad_enabled = true;
thread_local bool t_second_order = false;
thread_local bool t_anomaly = false;
thread_local std::shared_ptr<const std::string> t_module;
thread_local const char* t_op = "";
thread_local bool t_backward = false;

}  // namespace

bool grad_enabled() { return t_grad_enabled; }

NoGradGuard::NoGradGuard() : before_(std::exchange(t_grad_enabled, false)) {}
NoGradGuard::~NoGradGuard() { t_grad_enabled = before_; }

GradModeGuard::GradModeGuard(bool enabled) : before_(std::exchange(t_grad_enabled, enabled)) {}
GradModeGuard::~GradModeGuard() { t_grad_enabled = before_; }

namespace autograd {

SecondOrderGuard::SecondOrderGuard() : before_(std::exchange(t_second_order, true)) {}
SecondOrderGuard::~SecondOrderGuard() { t_second_order = before_; }
bool SecondOrderGuard::active() { return t_second_order; }

AnomalyGuard::AnomalyGuard() : before_(std::exchange(t_anomaly, true)) {}
AnomalyGuard::~AnomalyGuard() { t_anomaly = before_; }
bool AnomalyGuard::active() { return t_anomaly; }

ModuleScope::ModuleScope(std::shared_ptr<const std::string> path) : before_(std::exchange(t_module, std::move(path))) {}
ModuleScope::~ModuleScope() { t_module = std::move(before_); }
const std::shared_ptr<const std::string>& ModuleScope::current() { return t_module; }

OpScope::OpScope(const char* name) : before_(std::exchange(t_op, name)) {}
OpScope::~OpScope() { t_op = before_; }
const char* OpScope::current() { return t_op; }

BackwardScope::BackwardScope() : before_(std::exchange(t_backward, true)) {}
BackwardScope::~BackwardScope() { t_backward = before_; }
bool BackwardScope::active() { return t_backward; }

}  // namespace autograd
}  // namespace sinter
