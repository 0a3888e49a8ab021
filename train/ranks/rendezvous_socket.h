// The TCP sockets of the rendezvous: who listens, who connects. Nothing here blocks but for connect_to and names that
// have to be looked up; nothing raises SIGPIPE.
#pragma once

#include <chrono>
#include <string>

namespace sinter::train {

/// Owns a descriptor.
class Socket {
 public:
  explicit Socket(int descriptor = -1) : descriptor_(descriptor) {}
  ~Socket() { close(); }
  Socket(Socket&& other) noexcept : descriptor_(other.descriptor_) { other.descriptor_ = -1; }
  Socket& operator=(Socket&& other) noexcept;

  int descriptor() const { return descriptor_; }
  bool is_open() const { return descriptor_ >= 0; }
  void close();

 private:
  int descriptor_;
};

/// Listens at `port` of this machine: where `host` is a loopback name only for processes of this machine, else at all
/// of its addresses, IPv6 and IPv4. Error(io) that names the port where it is in use or not allowed, and Error(io) for
/// a host that nobody knows.
Socket listen_at(const std::string& host, int port);

/// The next process that has connected to `listener`; not open where there is none. `from` becomes its address.
/// Error(io) where this process has no more descriptors, or the machine no memory.
Socket accept_at(const Socket& listener, std::string& from);

/// One attempt to connect, at every address that `host` has, until `deadline`. Not open where it failed, and then `why`
/// says what the system said.
Socket connect_to(const std::string& host, int port, std::chrono::steady_clock::time_point deadline, std::string& why);

/// "host:port", with brackets around an IPv6 address.
std::string name_of(const std::string& host, int port);

}  // namespace sinter::train
