// What the last lane to arrive at a warp collective computes for all of them.
#include <algorithm>
#include <bit>
#include <cstring>

#include "kernels/base/dtype.h"
#include "kernels/simt/checker.h"
#include "kernels/simt/grid.h"

namespace sinter::kernels::simt {
namespace {

constexpr std::uint64_t kAbsentLane = 0xdeadbeefdeadbeefull;

struct ShuffleOperands {
  Shuffle kind;
  std::uint64_t bits, result;
  int lane, width;
};
struct VoteOperands {
  Vote kind;
  bool predicate;
  std::uint32_t result;
};
struct ReduceOperands {
  WarpReduce kind;
  std::uint32_t value, result;
};
struct MmaOperands {
  Half type;
  float* d;
  const std::uint32_t* a;
  const std::uint32_t* b;
  const float* c;
};
struct LdmatrixOperands {
  std::uint32_t* r;
  const void* row;
  bool transpose;
};

template <class Operands>
Operands& operands(const PendingCollective& collective, int lane) {
  return *static_cast<Operands*>(collective.operands[lane]);
}

/// Calls fn(lane) for the lanes that arrived, ascending.
template <class Fn>
void for_each_lane(const PendingCollective& collective, Fn&& fn) {
  for (std::uint32_t left = collective.arrived; left != 0; left &= left - 1) fn(std::countr_zero(left));
}

/// The lane whose value lane `lane` receives (CUDA C++ Programming Guide, "Warp Shuffle Functions").
int source_lane(const ShuffleOperands& p, int lane) {
  const int begin = lane & ~(p.width - 1), end = begin + p.width;
  switch (p.kind) {
    case Shuffle::index: return begin + (p.lane & (p.width - 1));
    case Shuffle::up: return lane - p.lane < begin ? lane : lane - p.lane;
    case Shuffle::down: return lane + p.lane >= end ? lane : lane + p.lane;
    default: return (lane ^ p.lane) >= end ? lane : lane ^ p.lane;
  }
}

void shuffle_lanes(const PendingCollective& c) {
  for_each_lane(c, [&](int lane) {
    auto& p = operands<ShuffleOperands>(c, lane);
    const int from = source_lane(p, lane);
    p.result = (c.arrived >> from & 1u) != 0 ? operands<ShuffleOperands>(c, from).bits : kAbsentLane;
  });
}

void vote_lanes(const PendingCollective& c) {
  std::uint32_t ballot = 0;
  for_each_lane(c, [&](int lane) { ballot |= operands<VoteOperands>(c, lane).predicate ? 1u << lane : 0u; });
  for_each_lane(c, [&](int lane) {
    auto& p = operands<VoteOperands>(c, lane);
    p.result = p.kind == Vote::ballot ? ballot : p.kind == Vote::all ? ballot == c.arrived : ballot != 0;
  });
}

void reduce_lanes(const PendingCollective& c) {
  std::uint32_t sum = 0, highest = 0, lowest = ~0u;
  for_each_lane(c, [&](int lane) {
    const std::uint32_t value = operands<ReduceOperands>(c, lane).value;
    sum += value;
    highest = std::max(highest, value);
    lowest = std::min(lowest, value);
  });
  for_each_lane(c, [&](int lane) {
    auto& p = operands<ReduceOperands>(c, lane);
    p.result = p.kind == WarpReduce::add ? sum : p.kind == WarpReduce::max ? highest : lowest;
  });
}

float half_of(Half type, std::uint32_t pair, int which) {
  const auto bits = static_cast<std::uint16_t>(pair >> (16 * which));
  return type == Half::bf16 ? to_float(bf16{bits}) : to_float(f16{bits});
}

/// Fragments of m16n8k16 (PTX ISA, "Matrix Fragments for mma.m16n8k16"): with g = lane / 4 and q = 2 (lane % 4),
/// register i of A holds A[g + 8 (i & 1)][q + 8 (i >> 1) + {0, 1}], of B: B[q + 8 i + {0, 1}][g], of C and D:
/// [g + 8 (i >> 1)][q + (i & 1)].
void multiply(const PendingCollective& c) {
  float a[16][16], b[16][8];
  const Half type = operands<MmaOperands>(c, 0).type;
  for_each_lane(c, [&](int lane) {
    const auto& p = operands<MmaOperands>(c, lane);
    const int g = lane >> 2, q = (lane & 3) * 2;
    for (int i = 0; i < 4; ++i)
      for (int h = 0; h < 2; ++h) a[g + (i & 1) * 8][q + h + (i >> 1) * 8] = half_of(type, p.a[i], h);
    for (int i = 0; i < 2; ++i)
      for (int h = 0; h < 2; ++h) b[q + h + i * 8][g] = half_of(type, p.b[i], h);
  });
  for_each_lane(c, [&](int lane) {
    const auto& p = operands<MmaOperands>(c, lane);
    const int g = lane >> 2, q = (lane & 3) * 2;
    float d[4];
    for (int i = 0; i < 4; ++i) {
      float sum = 0;
      for (int k = 0; k < 16; ++k) sum += a[g + (i >> 1) * 8][k] * b[k][q + (i & 1)];
      d[i] = p.c[i] + sum;
    }
    std::memcpy(p.d, d, sizeof d);   // d may be c
  });
}

/// Register i of lane l receives row l / 4 of matrix i, elements 2 (l % 4) and the next; transposed: column l / 4.
void load_matrices(const PendingCollective& c) {
  const char* rows[kWarpLanes];
  for_each_lane(c, [&](int lane) { rows[lane] = static_cast<const char*>(operands<LdmatrixOperands>(c, lane).row); });
  const auto element = [&](int matrix, int row, int column) {
    std::uint16_t bits;
    std::memcpy(&bits, rows[matrix * 8 + row] + column * 2, sizeof bits);
    return std::uint32_t{bits};
  };
  for_each_lane(c, [&](int lane) {
    const auto& p = operands<LdmatrixOperands>(c, lane);
    const int major = lane >> 2, minor = (lane & 3) * 2;
    for (int i = 0; i < 4; ++i)
      p.r[i] = p.transpose ? element(i, minor, major) | element(i, minor + 1, major) << 16
                           : element(i, major, minor) | element(i, major, minor + 1) << 16;
  });
}

template <class Operands>
void run_collective(Collective kind, std::uint32_t mask, Operands& p, const Place& place) {
  Grid::of_this_thread().collective(kind, mask, &p, place);
}

}  // namespace

void Grid::complete(Warp& warp, PendingCollective& collective, const Thread* last) {
  switch (collective.kind) {
    case Collective::shuffle: shuffle_lanes(collective); break;
    case Collective::vote: vote_lanes(collective); break;
    case Collective::reduce: reduce_lanes(collective); break;
    case Collective::sync: break;
    case Collective::mma:
    case Collective::ldmatrix:
      if (collective.arrived != kFullMask)
        fail("a matrix instruction of a partial warp", Describe::threads, &collective.place);
      collective.kind == Collective::mma ? multiply(collective) : load_matrices(collective);
      break;
  }
  collective.used = false;
  for_each_lane(collective, [&](int lane) {
    if (warp.lanes[lane] != last) make_ready(*warp.lanes[lane]);
  });
}

std::uint64_t shuffle(Shuffle kind, std::uint32_t mask, std::uint64_t bits, int lane, int width, const Place& place) {
  ShuffleOperands p{kind, bits, 0, lane, width};
  run_collective(Collective::shuffle, mask, p, place);
  return p.result;
}

std::uint32_t vote(Vote kind, std::uint32_t mask, bool predicate, const Place& place) {
  VoteOperands p{kind, predicate, 0};
  run_collective(Collective::vote, mask, p, place);
  return p.result;
}

std::uint32_t warp_reduce(WarpReduce kind, std::uint32_t mask, std::uint32_t value, const Place& place) {
  ReduceOperands p{kind, value, 0};
  run_collective(Collective::reduce, mask, p, place);
  return p.result;
}

void sync_warp(std::uint32_t mask, const Place& place) {
  Grid::of_this_thread().collective(Collective::sync, mask, nullptr, place);
}

void warp_mma(Half type, float (&d)[4], const std::uint32_t (&a)[4], const std::uint32_t (&b)[2],
                  const float (&c)[4], const Place& place) {
  MmaOperands p{type, d, a, b, c};
  run_collective(Collective::mma, kFullMask, p, place);
}

void warp_ldmatrix(std::uint32_t (&r)[4], const void* row, bool transpose, const Place& place) {
  if (reinterpret_cast<std::uintptr_t>(row) % 16 != 0)
    Grid::of_this_thread().fail("ldmatrix: a row's address is not a multiple of 16 bytes", Grid::Describe::nothing,
                                &place);
  if (Checker::active != nullptr) Checker::active->access(row, 16, false, __builtin_return_address(0));
  LdmatrixOperands p{r, row, transpose};
  run_collective(Collective::ldmatrix, kFullMask, p, place);
}

}  // namespace sinter::kernels::simt
