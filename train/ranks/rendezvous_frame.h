// What the ranks of a rendezvous say to each other: frames, and connections that carry them.
//
// A frame is 12 bytes, the magic "SNTR", the kind (u32) and the length of the body (u32), and then the body. Numbers
// are little-endian; a text is its length (u32) and its bytes. Every length is bounded before anything is stored.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "train/ranks/rendezvous.h"
#include "train/ranks/rendezvous_socket.h"

namespace sinter::train {

/// The first number of a hello; another version is refused.
inline constexpr std::uint32_t kRendezvousVersion = 3;

enum class FrameKind : std::uint32_t {
  hello,         ///< Hello, the first frame of every rank
  welcome,       ///< of rank 0: Hello, who it is
  refusal,       ///< Refusal
  start,         ///< of rank 0: all ranks are here
  heartbeat,     ///< step and OperationProgress of the sender
  broadcast,     ///< bytes
  flag,          ///< step, value
  flag_result,   ///< value, step of rank 0
  fail,          ///< step, reason: the sender ends
  failure,       ///< of rank 0: RankFailure, the last that it says
  goodbye,       ///< the sender has come to its end
  farewell,      ///< of rank 0: all have, the last that it says
  seen,          ///< the answer to rank 0's last
};
inline constexpr std::uint32_t kFrameKinds = 13;

struct Frame {
  FrameKind kind{};
  std::vector<std::byte> body;
};

/// Puts numbers and texts behind each other.
class FrameWriter {
 public:
  explicit FrameWriter(FrameKind kind) { frame_.kind = kind; }
  FrameWriter& number(std::int64_t value);
  FrameWriter& text(std::string_view value);   ///< cut off behind 2000 bytes
  Frame take() { return std::move(frame_); }

 private:
  Frame frame_;
};

/// Reads what a FrameWriter wrote. Error(bad_input) for a body that ends too early.
class FrameReader {
 public:
  explicit FrameReader(const Frame& frame) : rest_(frame.body) {}
  std::int64_t number();
  int small_number();   ///< Error(bad_input) too for what is no int
  std::string text();

 private:
  std::span<const std::byte> take(std::size_t size);
  std::span<const std::byte> rest_;
};

/// Who a rank is. Its host and job id are at most 255 bytes.
struct Hello {
  std::int64_t version = kRendezvousVersion;
  std::string job_id;
  int world_size = 0;
  int rank = 0;
  std::int64_t pid = 0;
  std::string host;

  /// This process.
  static Hello of(const RendezvousOptions& options);
  Frame frame(FrameKind kind) const;
  /// Of another version only that is read.
  static Hello read(const Frame& frame);
};

/// Why a process does not become a rank.
struct Refusal {
  bool is_final = true;   ///< trying again cannot help; else it may, once an older job has ended
  bool is_usage = true;   ///< ErrorCode::usage; else io
  std::string sentence;

  Frame frame() const;
  static Refusal read(const Frame& frame);
};

/// How far a rank has come in the operations of all ranks: those that it came to and those that it left, and how often
/// it has looked whether the one that it waits in goes on.
struct OperationProgress {
  std::int64_t arrivals = 0, departures = 0, looks = 0;

  bool is_inside() const { return arrivals > departures; }
};

Frame heartbeat_frame(std::int64_t step, const OperationProgress& progress);
OperationProgress read_progress(FrameReader& reader);
Frame failure_frame(const RankFailure& failure);
RankFailure read_failure(const Frame& frame);

/// Frames over a socket that does not block.
class Connection {
 public:
  explicit Connection(Socket socket) : socket_(std::move(socket)) {}

  int descriptor() const { return socket_.descriptor(); }
  bool is_open() const { return socket_.is_open(); }
  void close() { socket_.close(); }
  bool has_unsent() const { return is_open() && !unsent_.empty(); }

  /// Sends what the socket takes now; the rest waits for flush(). Nothing happens on a closed connection.
  void send(const Frame& frame);
  void flush();
  /// Takes in what has arrived, a piece of at most 64 KiB; true when something has. Closes where the other side has, or
  /// the system says so; what came before stays to be read.
  bool receive();
  /// The next frame that is complete. Error(bad_input) for what is none, or has a length that its kind may not have.
  std::optional<Frame> next();
  /// Forgets what has arrived.
  void discard() { received_.clear(); }

 private:
  Socket socket_;
  std::vector<std::byte> received_, unsent_;
};

}  // namespace sinter::train
