#include "train/ranks/rendezvous_frame.h"

#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <limits>
#include <utility>

#include "core/error.h"

namespace sinter::train {
namespace {

constexpr std::uint32_t kMagic = 0x52544e53;   // "SNTR"
constexpr std::size_t kHeader = 12;
constexpr std::size_t kMostText = 2000;
constexpr std::size_t kPiece = 64 << 10;

/// What a body of this kind can have at most: three texts and some numbers, but for a broadcast's bytes.
std::size_t most_bytes(FrameKind kind) {
  return kind == FrameKind::broadcast ? Rendezvous::kMostBroadcastBytes : 3 * kMostText + 128;
}

void append(std::vector<std::byte>& to, const void* data, std::size_t size) {
  const auto* bytes = static_cast<const std::byte*>(data);
  to.insert(to.end(), bytes, bytes + size);
}

std::string host_name() {
  char name[256] = {};
  return gethostname(name, sizeof(name) - 1) == 0 ? name : "?";
}

}  // namespace

FrameWriter& FrameWriter::number(std::int64_t value) {
  append(frame_.body, &value, sizeof(value));
  return *this;
}

FrameWriter& FrameWriter::text(std::string_view value) {
  value = value.substr(0, kMostText);
  const auto size = static_cast<std::uint32_t>(value.size());
  append(frame_.body, &size, sizeof(size));
  append(frame_.body, value.data(), value.size());
  return *this;
}

std::span<const std::byte> FrameReader::take(std::size_t size) {
  if (size > rest_.size()) fail(ErrorCode::bad_input, "a frame of the rendezvous ends too early");
  const auto taken = rest_.first(size);
  rest_ = rest_.subspan(size);
  return taken;
}

std::int64_t FrameReader::number() {
  std::int64_t value = 0;
  std::memcpy(&value, take(sizeof(value)).data(), sizeof(value));
  return value;
}

int FrameReader::small_number() {
  const std::int64_t value = number();
  if (value < std::numeric_limits<int>::min() || value > std::numeric_limits<int>::max())
    fail(ErrorCode::bad_input, "a frame of the rendezvous holds ", value, " where a rank or flag should be");
  return static_cast<int>(value);
}

std::string FrameReader::text() {
  std::uint32_t size = 0;
  std::memcpy(&size, take(sizeof(size)).data(), sizeof(size));
  const auto bytes = take(size);
  return std::string(reinterpret_cast<const char*>(bytes.data()), bytes.size());
}

Hello Hello::of(const RendezvousOptions& options) {
  return {.job_id = options.job_id.substr(0, 255),
          .world_size = options.world_size,
          .rank = options.rank,
          .pid = getpid(),
          .host = host_name()};
}

Frame Hello::frame(FrameKind kind) const {
  return FrameWriter(kind).number(version).text(job_id).number(world_size).number(rank).number(pid).text(host).take();
}

Hello Hello::read(const Frame& frame) {
  FrameReader reader(frame);
  Hello hello;
  hello.version = reader.number();
  if (hello.version != kRendezvousVersion) return hello;
  hello.job_id = reader.text();
  hello.world_size = reader.small_number();
  hello.rank = reader.small_number();
  hello.pid = reader.number();
  hello.host = reader.text();
  return hello;
}

Frame Refusal::frame() const {
  return FrameWriter(FrameKind::refusal).number(is_final ? 1 : 0).number(is_usage ? 1 : 0).text(sentence).take();
}

Refusal Refusal::read(const Frame& frame) {
  FrameReader reader(frame);
  Refusal refusal;
  refusal.is_final = reader.number() != 0;
  refusal.is_usage = reader.number() != 0;
  refusal.sentence = reader.text();
  return refusal;
}

Frame heartbeat_frame(std::int64_t step, const OperationProgress& progress) {
  return FrameWriter(FrameKind::heartbeat)
      .number(step)
      .number(progress.arrivals)
      .number(progress.departures)
      .number(progress.looks)
      .take();
}

OperationProgress read_progress(FrameReader& reader) {
  OperationProgress progress;
  progress.arrivals = reader.number();
  progress.departures = reader.number();
  progress.looks = reader.number();
  return progress;
}

Frame failure_frame(const RankFailure& failure) {
  return FrameWriter(FrameKind::failure)
      .number(failure.rank)
      .number(failure.pid)
      .text(failure.host)
      .number(failure.step)
      .number(failure.was_lost ? 1 : 0)
      .text(failure.reason)
      .take();
}

RankFailure read_failure(const Frame& frame) {
  FrameReader reader(frame);
  RankFailure failure;
  failure.rank = reader.small_number();
  failure.pid = reader.number();
  failure.host = reader.text();
  failure.step = reader.number();
  failure.was_lost = reader.number() != 0;
  failure.reason = reader.text();
  return failure;
}

void Connection::send(const Frame& frame) {
  if (!is_open()) return;
  const std::uint32_t header[3] = {kMagic, static_cast<std::uint32_t>(frame.kind),
                                   static_cast<std::uint32_t>(frame.body.size())};
  append(unsent_, header, sizeof(header));
  append(unsent_, frame.body.data(), frame.body.size());
  flush();
}

void Connection::flush() {
  std::size_t sent = 0;
  while (is_open() && sent < unsent_.size()) {
    const ssize_t put = ::send(socket_.descriptor(), unsent_.data() + sent, unsent_.size() - sent, MSG_NOSIGNAL);
    if (put >= 0)
      sent += static_cast<std::size_t>(put);
    else if (errno != EINTR)
      break;   // the socket is full; or the connection is gone, which receive() finds behind what is still to be read
  }
  unsent_.erase(unsent_.begin(), unsent_.begin() + static_cast<std::ptrdiff_t>(sent));
}

bool Connection::receive() {
  while (is_open()) {
    const std::size_t before = received_.size();
    received_.resize(before + kPiece);
    const ssize_t got = recv(socket_.descriptor(), received_.data() + before, kPiece, 0);
    const int error = errno;
    received_.resize(before + static_cast<std::size_t>(std::max<ssize_t>(got, 0)));
    if (got > 0) return true;
    if (got < 0 && error == EINTR) continue;
    if (got == 0 || error != EAGAIN) close();
    return false;
  }
  return false;
}

std::optional<Frame> Connection::next() {
  std::uint32_t header[3] = {};
  std::copy_n(received_.begin(), std::min(received_.size(), sizeof(header)), reinterpret_cast<std::byte*>(header));
  if (received_.size() >= sizeof(kMagic) && header[0] != kMagic)
    fail(ErrorCode::bad_input, "what came is no frame of the rendezvous");
  if (received_.size() < kHeader) return std::nullopt;
  if (header[1] >= kFrameKinds || header[2] > most_bytes(static_cast<FrameKind>(header[1])))
    fail(ErrorCode::bad_input, "a frame of the rendezvous has kind ", header[1], " and ", header[2], " bytes");
  if (received_.size() - kHeader < header[2]) return std::nullopt;
  const auto body = received_.begin() + kHeader;
  const auto end = body + static_cast<std::ptrdiff_t>(header[2]);
  Frame frame{static_cast<FrameKind>(header[1]), std::vector<std::byte>(body, end)};
  received_.erase(received_.begin(), end);
  return frame;
}

}  // namespace sinter::train
