#include "train/ranks/rendezvous_socket.h"

#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <iterator>
#include <memory>
#include <utility>
#include <vector>

#include "core/error.h"

namespace sinter::train {
namespace {

using Clock = std::chrono::steady_clock;

/// An address as the system takes it.
struct Address {
  sockaddr_storage storage{};
  socklen_t size = 0;

  const sockaddr* get() const { return reinterpret_cast<const sockaddr*>(&storage); }
  bool is_loopback() const {
    if (storage.ss_family == AF_INET6)
      return IN6_IS_ADDR_LOOPBACK(&reinterpret_cast<const sockaddr_in6*>(&storage)->sin6_addr);
    return ntohl(reinterpret_cast<const sockaddr_in*>(&storage)->sin_addr.s_addr) >> 24 == 127;
  }
  bool operator==(const Address& other) const {
    return size == other.size && std::memcmp(&storage, &other.storage, size) == 0;
  }
};

/// All of `host`'s addresses, or those to listen at for all hosts where `host` is null.
std::vector<Address> look_up(const char* host, int port, std::string& why) {
  addrinfo hints{};
  hints.ai_socktype = SOCK_STREAM;
  hints.ai_flags = host == nullptr ? AI_PASSIVE : 0;
  addrinfo* found = nullptr;
  const int error = getaddrinfo(host, std::to_string(port).c_str(), &hints, &found);
  if (error != 0) {
    why = error == EAI_SYSTEM ? std::strerror(errno) : gai_strerror(error);
    return {};
  }
  const std::unique_ptr<addrinfo, decltype(&freeaddrinfo)> owner(found, &freeaddrinfo);
  std::vector<Address> addresses;
  for (const addrinfo* entry = found; entry != nullptr; entry = entry->ai_next) {
    Address address;
    if (entry->ai_addrlen > sizeof(address.storage)) continue;
    std::memcpy(&address.storage, entry->ai_addr, entry->ai_addrlen);
    address.size = entry->ai_addrlen;
    addresses.push_back(address);
  }
  return addresses;
}

Socket make_socket(const Address& address) {
  return Socket(socket(address.storage.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
}

void set(const Socket& socket, int level, int option, int value) {
  setsockopt(socket.descriptor(), level, option, &value, sizeof(value));
}

/// 0, or the system's error number.
int try_listen(const Socket& socket, const Address& address) {
  set(socket, SOL_SOCKET, SO_REUSEADDR, 1);   // where an earlier run's closed connections still stand
  if (address.storage.ss_family == AF_INET6) set(socket, IPPROTO_IPV6, IPV6_V6ONLY, address.is_loopback() ? 1 : 0);
  if (bind(socket.descriptor(), address.get(), address.size) != 0) return errno;
  return listen(socket.descriptor(), SOMAXCONN) != 0 ? errno : 0;
}

/// Where a range of ports for outgoing connections holds `port`, a socket can get it for itself and meet itself.
bool met_itself(const Socket& socket) {
  Address own, peer;
  own.size = peer.size = sizeof(sockaddr_storage);
  return getsockname(socket.descriptor(), reinterpret_cast<sockaddr*>(&own.storage), &own.size) == 0 &&
         getpeername(socket.descriptor(), reinterpret_cast<sockaddr*>(&peer.storage), &peer.size) == 0 && own == peer;
}

/// Waits for a connection that is under way; 0, or the system's error number.
int finish_connect(const Socket& socket, Clock::time_point deadline) {
  for (;;) {
    const auto left = std::chrono::ceil<std::chrono::milliseconds>(deadline - Clock::now()).count();
    if (left <= 0) return ETIMEDOUT;
    pollfd entry{socket.descriptor(), POLLOUT, 0};
    const int ready = poll(&entry, 1, static_cast<int>(std::min<long long>(left, 60'000)));
    if (ready < 0 && errno != EINTR) return errno;
    if (ready <= 0) continue;
    int error = 0;
    socklen_t size = sizeof(error);
    return getsockopt(socket.descriptor(), SOL_SOCKET, SO_ERROR, &error, &size) != 0 ? errno : error;
  }
}

}  // namespace

Socket& Socket::operator=(Socket&& other) noexcept {
  if (this != &other) {
    close();
    descriptor_ = std::exchange(other.descriptor_, -1);
  }
  return *this;
}

void Socket::close() {
  if (descriptor_ >= 0) ::close(descriptor_);
  descriptor_ = -1;
}

Socket listen_at(const std::string& host, int port) {
  std::string why;
  const std::vector<Address> named = look_up(host.c_str(), port, why);
  if (named.empty())
    fail(ErrorCode::io, "the host \"", host, "\" of rank 0 is not known: ", why, "; set MASTER_ADDR to a host name or",
         " address that every rank can reach");
  std::vector<Address> addresses;
  std::copy_if(named.begin(), named.end(), std::back_inserter(addresses),
               [](const Address& address) { return address.is_loopback(); });
  if (addresses.empty()) addresses = look_up(nullptr, port, why);
  // One IPv6 socket serves IPv4 too, where the machine has IPv6.
  std::stable_partition(addresses.begin(), addresses.end(),
                        [](const Address& address) { return address.storage.ss_family == AF_INET6; });
  int error = EADDRNOTAVAIL;
  for (const Address& address : addresses) {
    Socket socket = make_socket(address);
    error = socket.is_open() ? try_listen(socket, address) : errno;
    if (error == 0) return socket;
    if (error == EADDRINUSE) break;
  }
  if (error == EADDRINUSE)
    fail(ErrorCode::io, "port ", port, " of ", host, ", where rank 0 waits for the other ranks, is in use by another",
         " process; set MASTER_PORT so that the port behind it is free, or wait for the other job");
  fail(ErrorCode::io, "rank 0 cannot wait for the other ranks at ", name_of(host, port), ": ", std::strerror(error),
       "; set MASTER_ADDR and MASTER_PORT to where it may");
}

Socket accept_at(const Socket& listener, std::string& from) {
  Address address;
  address.size = sizeof(address.storage);
  Socket socket(accept4(listener.descriptor(), reinterpret_cast<sockaddr*>(&address.storage), &address.size,
                        SOCK_NONBLOCK | SOCK_CLOEXEC));
  if (!socket.is_open()) {   // as a rule none is there, or it has gone away again
    if (errno == EMFILE || errno == ENFILE || errno == ENOBUFS || errno == ENOMEM)
      fail(ErrorCode::io, "rank 0 can take in no more ranks: ", std::strerror(errno), "; see ulimit -n");
    return socket;
  }
  set(socket, IPPROTO_TCP, TCP_NODELAY, 1);
  char name[NI_MAXHOST] = {};
  from = getnameinfo(address.get(), address.size, name, sizeof(name), nullptr, 0, NI_NUMERICHOST) == 0 ? name : "?";
  return socket;
}

Socket connect_to(const std::string& host, int port, Clock::time_point deadline, std::string& why) {
  for (const Address& address : look_up(host.c_str(), port, why)) {
    Socket socket = make_socket(address);
    int error = 0;
    if (!socket.is_open() || connect(socket.descriptor(), address.get(), address.size) != 0) error = errno;
    if (error == EINPROGRESS || error == EINTR) error = finish_connect(socket, deadline);
    if (error == 0 && met_itself(socket)) error = ECONNREFUSED;
    if (error == 0) {
      set(socket, IPPROTO_TCP, TCP_NODELAY, 1);
      return socket;
    }
    why = std::strerror(error);
  }
  return Socket();
}

std::string name_of(const std::string& host, int port) {
  const bool ipv6 = host.find(':') != std::string::npos;
  return (ipv6 ? "[" + host + "]" : host) + ":" + std::to_string(port);
}

}  // namespace sinter::train
