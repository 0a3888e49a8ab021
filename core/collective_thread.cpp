#include "core/collective_thread.h"

#include <exception>
#include <utility>

namespace sinter {

struct CollectiveThread::Task {
  std::function<void()> operation;
  bool done = false;
  std::exception_ptr error{};
};

class CollectiveThread::Waiting final : public Work {
 public:
  Waiting(CollectiveThread& thread, std::shared_ptr<Task> task) : thread_(thread), task_(std::move(task)) {}
  ~Waiting() override { wait_for_end(); }

  void wait() override {
    wait_for_end();
    if (std::exception_ptr error = std::exchange(task_->error, nullptr)) std::rethrow_exception(error);
  }

 private:
  void wait_for_end() {
    std::unique_lock lock(thread_.mutex_);
    thread_.changed_.wait(lock, [&] { return task_->done; });
  }

  CollectiveThread& thread_;
  std::shared_ptr<Task> task_;
};

std::unique_ptr<Work> CollectiveThread::begin(std::function<void()> operation) {
  auto task = std::make_shared<Task>(std::move(operation));
  auto waiting = std::make_unique<Waiting>(*this, task);
  {
    const std::lock_guard lock(mutex_);
    tasks_.push_back(std::move(task));
  }
  changed_.notify_all();
  return waiting;
}

void CollectiveThread::wait_until_idle() {
  std::unique_lock lock(mutex_);
  changed_.wait(lock, [&] { return tasks_.empty(); });
}

void CollectiveThread::work(const std::stop_token& stop) {
  std::unique_lock lock(mutex_);
  while (changed_.wait(lock, stop, [&] { return !tasks_.empty(); })) {
    Task& task = *tasks_.front();
    lock.unlock();
    try {
      task.operation();
    } catch (...) {
      task.error = std::current_exception();
    }
    lock.lock();
    task.done = true;
    tasks_.pop_front();
    changed_.notify_all();
  }
}

}  // namespace sinter
