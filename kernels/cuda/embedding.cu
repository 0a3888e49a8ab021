#include "kernels/embedding.h"

#include "kernels/base/by_dtype.cuh"
#include "kernels/base/column_sum.cuh"
#include "kernels/base/dropout_rows.cuh"
#include "kernels/base/equal_rows.cuh"
#include "kernels/base/families.h"
#include "kernels/base/grid.cuh"
#include "kernels/base/layer_norm_rows.cuh"
#include "kernels/base/vec.cuh"

namespace sinter::kernels::cuda {
namespace {

constexpr int kThreads = 256;
/// Rows of a block of the kernel that gives each token a warp.
constexpr int kTokensOfWarps = 4;

template <class T>
const T* in(const void* p) {
  return static_cast<const T*>(p);
}
template <class T>
T* out(void* p) {
  return static_cast<T*>(p);
}

enum TableNumber { kWord, kType, kPosition };

__device__ __forceinline__ void check_index(int table, std::int64_t index, std::int64_t size) {
  if (index >= 0 && index < size) return;
  if (table == kWord) device_fail("ids: every index must lie in [0, vocab)");
  if (table == kType) device_fail("type_ids: every index must lie in [0, types)");
  device_fail("position_ids: every index must lie in [0, positions)");
}

// --- Forward ---

template <class T>
struct Forward {
  using A = Computed<T>;

  std::int64_t tokens, cols, vocab, types, positions;
  A eps;
  const std::int64_t* ids;
  const std::int64_t* type_ids;
  const std::int64_t* position_ids;
  const T* word;
  const T* type;
  const T* position;
  const A* gamma;
  const A* beta;
  DropoutRows<A> dropout;
  T* z;   ///< may be null
  T* y;
  A* mean;
  A* rstd;

  explicit Forward(const EmbeddingLayerNorm& p)
      : tokens(p.tokens), cols(p.cols), vocab(p.vocab), types(p.types), positions(p.positions),
        eps(static_cast<A>(p.eps)), ids(p.ids), type_ids(p.type_ids), position_ids(p.position_ids),
        word(in<T>(p.word)), type(in<T>(p.type)), position(in<T>(p.position)), gamma(in<A>(p.gamma)),
        beta(in<A>(p.beta)), dropout(p.dropout, p.map, p.cols), z(out<T>(p.z)), y(out<T>(p.y)), mean(out<A>(p.mean)),
        rstd(out<A>(p.rstd)) {}

  /// The three rows that a token adds up.
  struct Rows {
    const T* word;
    const T* type;
    const T* position;

    template <int N>
    __device__ __forceinline__ void sum(std::int64_t c, A (&x)[N]) const {
      A of_type[N], of_position[N];
      load_vector<N>(word + c, x);
      load_vector<N>(type + c, of_type);
      load_vector<N>(position + c, of_position);
#pragma unroll
      for (int i = 0; i < N; ++i) x[i] = rounded<T>((x[i] + of_type[i]) + of_position[i]);
    }
  };

  __device__ __forceinline__ Rows rows_of(std::int64_t t) const {
    const std::int64_t id = ids[t], type_id = type_ids[t], position_id = position_ids[t];
    check_index(kWord, id, vocab);
    check_index(kType, type_id, types);
    check_index(kPosition, position_id, positions);
    return {word + id * cols, type + type_id * cols, position + position_id * cols};
  }
  __device__ __forceinline__ void store_statistics(std::int64_t t, const RowStatistics<A>& row) const {
    if (mean != nullptr) mean[t] = row.mean;
    if (rstd != nullptr) rstd[t] = row.rstd;
  }
  bool rows_are_of_eights() const {
    return rows_of_eights(word, cols) && rows_of_eights(type, cols) && rows_of_eights(position, cols) &&
           rows_of_eights(gamma, cols) && rows_of_eights(beta, cols) && rows_of_eights(z, cols) &&
           rows_of_eights(y, cols);
  }
};

template <class T>
__global__ void __launch_bounds__(kThreads, 1) embed_by_block(const Forward<T> p) {
  using A = Computed<T>;
  for (std::int64_t t = blockIdx.x; t < p.tokens; t += gridDim.x) {
    const auto rows = p.rows_of(t);
    const DropoutRow dropout = p.dropout.row(t);
    const auto sum = [&](std::int64_t c) {
      A x[1];
      rows.sum(c, x);
      return x[0];
    };
    const RowStatistics<A> statistics = block_row_statistics<kThreads>(p.cols, p.eps, sum);
    for (std::int64_t c = threadIdx.x; c < p.cols; c += kThreads) {
      A x[1] = {sum(c)};
      if (p.z != nullptr) store(p.z + t * p.cols + c, x[0]);
      normalise(x, statistics, p.gamma, p.beta, c);
      p.dropout.drop(dropout, c, x);
      store(p.y + t * p.cols + c, x[0]);
    }
    if (threadIdx.x == 0) p.store_statistics(t, statistics);
  }
}

template <class T, int eights>
__global__ void __launch_bounds__(kTokensOfWarps * kWarp, 1) embed_by_warp(const Forward<T> p) {
  using A = Computed<T>;
  const std::int64_t step = static_cast<std::int64_t>(gridDim.x) * kTokensOfWarps;
  for (std::int64_t t = blockIdx.x * std::int64_t{kTokensOfWarps} + threadIdx.x / kWarp; t < p.tokens; t += step) {
    const auto rows = p.rows_of(t);
    const DropoutRow dropout = p.dropout.row(t);
    A x[eights][kEight];
    for_eights<eights>(p.cols, [&](int k, int c) {
      rows.sum(c, x[k]);
      if (p.z != nullptr) store_vector<kEight>(p.z + t * p.cols + c, x[k]);
    });
    const RowStatistics<A> statistics = warp_row_statistics(x, p.cols, p.eps);
    for_eights<eights>(p.cols, [&](int k, int c) {
      normalise(x[k], statistics, p.gamma, p.beta, c);
      p.dropout.drop(dropout, c, x[k]);
      store_vector<kEight>(p.y + t * p.cols + c, x[k]);
    });
    if (threadIdx.x % kWarp == 0) p.store_statistics(t, statistics);
  }
}

Status forward_by_block(const EmbeddingLayerNorm& p, Stream stream) {
  if (p.tokens == 0) return {};
  return by_floating(p.dtype, [&]<class T>(Type<T>) {
    return launch(embed_by_block<T>, dim3(walking_blocks(p.tokens, 1)), dim3(kThreads), 0, stream, Forward<T>(p));
  });
}

Status takes_warps(const EmbeddingLayerNorm& p) {
  return by_floating(p.dtype, [&]<class T>(Type<T>) {
    if (Forward<T>(p).rows_are_of_eights()) return Status{};
    return unsupported("a warp's rows are aligned multiples of 8 columns, at most 1024");
  });
}

Status forward_by_warp(const EmbeddingLayerNorm& p, Stream stream) {
  if (const Status takes = takes_warps(p); !takes.ok() || p.tokens == 0) return takes;
  return by_floating(p.dtype, [&]<class T>(Type<T>) {
    return by_eights(p.cols, [&]<int eights>(Count<eights>) {
      return launch(embed_by_warp<T, eights>, dim3(walking_blocks(p.tokens, kTokensOfWarps)),
                    dim3(kTokensOfWarps * kWarp), 0, stream, Forward<T>(p));
    });
  });
}

int select_forward(const EmbeddingLayerNorm& p) { return takes_warps(p).ok() ? 1 : 0; }

// --- Backward, first launch: dz into the workspace, and the partial sums of dgamma and dbeta ---

/// dy behind dropout's backward; dz as it is computed.
template <class T>
struct Gradient {
  static constexpr int sums = 2;
  using A = Computed<T>;

  std::int64_t cols;
  DropoutRows<A> dropout;
  const T* dy;
  A* dz;

  explicit Gradient(const EmbeddingLayerNormBackward& p)
      : cols(p.cols), dropout(p.dropout, p.map, p.cols), dy(in<T>(p.dy)), dz(out<A>(p.workspace)) {}

  template <int N>
  __device__ __forceinline__ void load_dy(std::int64_t t, std::int64_t c, A (&gradient)[N]) const {
    load_vector<N>(dy + t * cols + c, gradient);
    dropout.drop(dropout.row(t), c, gradient);
  }
  template <int N>
  __device__ __forceinline__ void store_dz(std::int64_t t, std::int64_t c, const A (&value)[N], A (&)[N]) const {
    store_vector<N>(dz + t * cols + c, value);
  }
};

template <class T>
LayerNormGradient<T> gradient_of(const EmbeddingLayerNormBackward& p) {
  using A = Computed<T>;
  A* const partial = out<A>(p.workspace) + p.tokens * p.cols;
  return {p.tokens, p.cols, in<T>(p.z), in<A>(p.mean), in<A>(p.rstd), in<A>(p.gamma),
          p.dgamma == nullptr ? nullptr : partial};
}

template <class T>
__global__ void __launch_bounds__(kThreads, 1) gradient_by_block(LayerNormGradient<T> p, Gradient<T> fused) {
  for (std::int64_t b = blockIdx.x; b < column_blocks(p.rows); b += gridDim.x)
    backward_block<kThreads, Gradient<T>::sums>(p, fused, b);
}

template <class T, int warps>
__global__ void __launch_bounds__(RegisterBlock<Computed<T>, warps>::threads, 1)
    gradient_in_registers(LayerNormGradient<T> p, Gradient<T> fused) {
  for (std::int64_t b = blockIdx.x; b < column_blocks(p.rows); b += gridDim.x)
    backward_block_in_registers<warps, Gradient<T>::sums>(p, fused, b);
}

template <class T>
Status launch_by_block(const EmbeddingLayerNormBackward& p, Stream stream) {
  return launch(gradient_by_block<T>, dim3(walking_blocks(column_blocks(p.tokens), 1)), dim3(kThreads), 0, stream,
                gradient_of<T>(p), Gradient<T>(p));
}
template <class T>
Status launch_in_registers(const EmbeddingLayerNormBackward& p, Stream stream) {
  return by_eights(p.cols, [&]<int warps>(Count<warps>) {
    const dim3 block(warps * kWarp, RegisterBlock<Computed<T>, warps>::groups);
    return launch(gradient_in_registers<T, warps>, dim3(walking_blocks(column_blocks(p.tokens), 1)), block, 0, stream,
                  gradient_of<T>(p), Gradient<T>(p));
  });
}

// --- Backward, second and third launch: the tables' gradients ---

/// Tables of at most this many rows are summed in two stages, over column blocks and then over these: some row has at
/// least an eighth of the tokens, too many for one warp. The partial sums are at most an eighth of dz.
constexpr std::int64_t kFewRows = 8;

constexpr std::int64_t few_rows(std::int64_t size) { return size > 0 && size <= kFewRows ? size : 0; }
constexpr std::int64_t few_rows(const EmbeddingLayerNormBackward& p) {
  return few_rows(p.vocab) + few_rows(p.types) + few_rows(p.positions);
}

/// A table's gradient (null: not asked for) and the row that each token adds to.
template <class T>
struct Table {
  T* gradient;
  std::int64_t size;
  const std::int64_t* index;
  std::int64_t skipped;             ///< row without a gradient; -1: none
  std::int64_t pieces = 0;          ///< of work: tokens, or rows times column blocks
  Computed<T>* partial = nullptr;   ///< [size][column blocks][cols] of a table of few rows, else null

  T* row(std::int64_t r, std::int64_t cols) const {
    return gradient == nullptr || r == skipped ? nullptr : gradient + r * cols;
  }
};

template <class T>
struct Tables {
  Table<T> table[3];           ///< by TableNumber
  std::int64_t pieces = 0;     ///< of all
  Computed<T>* partial;        ///< those of the tables of few rows, one behind the other

  explicit Tables(const EmbeddingLayerNormBackward& p)
      : table{{out<T>(p.dword), p.vocab, p.ids, p.padding_idx},
              {out<T>(p.dtype_table), p.types, p.type_ids, -1},
              {out<T>(p.dposition), p.positions, p.position_ids, -1}},
        partial(out<Computed<T>>(p.workspace) + (p.tokens + Gradient<T>::sums * column_blocks(p.tokens)) * p.cols) {
    Computed<T>* next = partial;
    for (Table<T>& one : table) {
      const std::int64_t sums = few_rows(one.size) * column_blocks(p.tokens);
      one.pieces = sums > 0 ? sums : p.tokens;
      if (sums > 0) one.partial = next;
      next += sums * p.cols;
      pieces += one.pieces;
    }
  }
};

/// -0 changes nothing where it is added.
template <class A, int width>
__device__ __forceinline__ void set_to_none(A (&sum)[width]) {
#pragma unroll
  for (int w = 0; w < width; ++w) sum[w] = -A{0};
}

/// The warp of a row's first token t adds up all of them.
template <class T, int width>
__device__ __forceinline__ void add_row_of_token(const Table<T>& table, int number, std::int64_t tokens,
                                                 std::int64_t cols, const Computed<T>* dz, std::int64_t t,
                                                 std::int64_t c) {
  const std::int64_t place = table.index[t];   // the same for the whole warp
  check_index(number, place, table.size);
  if (table.gradient == nullptr || place == table.skipped || stands_before(table.index, t, place)) return;
  Computed<T> sum[width], held[width];
  set_to_none(sum);
  add_equal_rows(table.index, t, tokens, place, dz + c, cols, c < cols, sum);
  if (c >= cols) return;
  load_vector<width>(table.gradient + place * cols + c, held);
#pragma unroll
  for (int w = 0; w < width; ++w) held[w] += sum[w];
  store_vector<width>(table.gradient + place * cols + c, held);
}

/// Piece r * blocks + b of a table of few rows: the partial sum of row r over the tokens of column block b. Without any
/// it is -0.
template <class T, int width>
__device__ __forceinline__ void sum_row_in_block(const Table<T>& table, int number, std::int64_t tokens,
                                                 std::int64_t cols, const Computed<T>* dz, std::int64_t piece,
                                                 std::int64_t c) {
  const std::int64_t r = piece / column_blocks(tokens);
  const std::int64_t first = (piece - r * column_blocks(tokens)) * kColumnSumRows;
  const std::int64_t last = min(tokens, first + kColumnSumRows);
  for (std::int64_t t = first + threadIdx.x % kWarp; t < last; t += kWarp)
    check_index(number, table.index[t], table.size);
  if (table.gradient == nullptr || r == table.skipped) return;
  Computed<T> sum[width];
  set_to_none(sum);
  add_equal_rows(table.index, first, last, r, dz + c, cols, c < cols, sum);
  if (c < cols) store_vector<width>(table.partial + piece * cols + c, sum);
}

/// A warp for each piece of a table and range of columns.
template <class T, int width>
__global__ void __launch_bounds__(kThreads, 1)
    add_to_tables(std::int64_t tokens, std::int64_t cols, const Computed<T>* dz,
                  const __grid_constant__ Tables<T> tables) {
  const std::int64_t ranges = (cols + kWarp * width - 1) / (kWarp * width);
  const std::int64_t step = std::int64_t{gridDim.x} * (kThreads / kWarp);
  for (std::int64_t item = std::int64_t{blockIdx.x} * (kThreads / kWarp) + threadIdx.x / kWarp;
       item < tables.pieces * ranges; item += step) {
    std::int64_t piece = item / ranges;
    const std::int64_t c = (item - piece * ranges) * kWarp * width + threadIdx.x % kWarp * width;
    int number = 0;
    while (number < kPosition && piece >= tables.table[number].pieces) piece -= tables.table[number++].pieces;
    const Table<T>& table = tables.table[number];
    if (table.partial == nullptr)
      add_row_of_token<T, width>(table, number, tokens, cols, dz, piece, c);
    else
      sum_row_in_block<T, width>(table, number, tokens, cols, dz, piece, c);
  }
}

/// The rows of the tables of few rows, in the order of their partial sums; null: not computed.
template <class T>
struct FewRows {
  T* row[3 * kFewRows] = {};

  FewRows(const Tables<T>& tables, std::int64_t cols) {
    T** next = row;
    for (const Table<T>& table : tables.table)
      for (std::int64_t r = 0; r < few_rows(table.size); ++r) *next++ = table.row(r, cols);
  }
};

/// Adds the partial sums of row blockIdx.y to it. A row without tokens is not touched.
template <class T>
__global__ void __launch_bounds__(kWarp * kSumLanes, 1)
    add_to_few_rows(std::int64_t blocks, std::int64_t cols, const Computed<T>* partial,
                    const __grid_constant__ FewRows<T> rows) {
  T* const row = rows.row[blockIdx.y];
  const std::int64_t c = std::int64_t{blockIdx.x} * kWarp + threadIdx.x;
  const bool mine = row != nullptr && c < cols;
  const Computed<T> sum = sum_of_blocks(blocks, cols, partial + blockIdx.y * blocks * cols + c, mine, -Computed<T>{0});
  const bool of_none = sum == 0 && signbit(sum);
  if (mine && threadIdx.y == 0 && !of_none) store(row + c, load(row + c) + sum);
}

template <class T, int width>
Status launch_tables(const EmbeddingLayerNormBackward& p, Stream stream) {
  const Tables<T> tables(p);
  const std::int64_t warps = tables.pieces * ceil_div(p.cols, kWarp * width);
  const Status status = launch(add_to_tables<T, width>, dim3(walking_blocks(warps, kThreads / kWarp)), dim3(kThreads),
                               0, stream, p.tokens, p.cols, in<Computed<T>>(p.workspace), tables);
  if (!status.ok() || few_rows(p) == 0) return status;
  const dim3 grid(static_cast<unsigned>(ceil_div(p.cols, kWarp)), static_cast<unsigned>(few_rows(p)));
  return launch(add_to_few_rows<T>, grid, dim3(kWarp, kSumLanes), 0, stream, column_blocks(p.tokens), p.cols,
                tables.partial, FewRows<T>(tables, p.cols));
}

// --- Backward, all launches ---

template <class T>
Status add_columns(const EmbeddingLayerNormBackward& p, Stream stream) {
  using A = Computed<T>;
  const ColumnSums<A> sums = {{out<A>(p.dgamma), out<A>(p.dbeta)}};
  return add_column_blocks(p.tokens, p.cols, in<A>(p.workspace) + p.tokens * p.cols, sums, stream);
}

Status backward_by_block(const EmbeddingLayerNormBackward& p, Stream stream) {
  return by_floating(p.dtype, [&]<class T>(Type<T>) {
    Status status;
    if (p.tokens > 0) status = launch_by_block<T>(p, stream);
    if (p.tokens > 0 && status.ok()) status = launch_tables<T, 1>(p, stream);
    return status.ok() ? add_columns<T>(p, stream) : status;
  });
}

Status takes_registers(const EmbeddingLayerNormBackward& p) {
  return by_floating(p.dtype, [&]<class T>(Type<T>) {
    const auto eights = [&](const void* matrix) { return rows_of_eights(in<T>(matrix), p.cols); };
    if (eights(p.dy) && eights(p.z) && eights(p.dword) && eights(p.dtype_table) && eights(p.dposition) &&
        rows_of_eights(in<Computed<T>>(p.gamma), p.cols))
      return Status{};
    return unsupported("rows in registers are aligned multiples of 8 columns, at most 1024");
  });
}

Status backward_in_registers(const EmbeddingLayerNormBackward& p, Stream stream) {
  if (const Status takes = takes_registers(p); !takes.ok()) return takes;
  return by_floating(p.dtype, [&]<class T>(Type<T>) {
    Status status;
    if (p.tokens > 0) status = launch_in_registers<T>(p, stream);
    if (p.tokens > 0 && status.ok()) status = launch_tables<T, kVector<Computed<T>>>(p, stream);
    return status.ok() ? add_columns<T>(p, stream) : status;
  });
}

int select_backward(const EmbeddingLayerNormBackward& p) { return takes_registers(p).ok() ? 1 : 0; }

std::size_t backward_workspace(const EmbeddingLayerNormBackward& p) {
  return static_cast<std::size_t>(p.tokens * p.cols) * size_of(computed_dtype(p.dtype)) +
         column_sum_bytes(p.dtype, 2 + static_cast<int>(few_rows(p)), p.tokens, p.cols);
}

constexpr Variant forward_variants[] = {
    {"by_block", "a block for each token, which adds up its row three times", "not yet measured",
     erased_run<EmbeddingLayerNorm, forward_by_block>},
    {"by_warp", "a warp for each token, whose row it holds in registers: one read of 16 bytes an access",
     "not yet measured", erased_run<EmbeddingLayerNorm, forward_by_warp>},
};
constexpr Variant backward_variants[] = {
    {"by_block",
     "dz by a block for 64 tokens; tables by the warp of a row's first token, few rows in two stages; a column a lane",
     "not yet measured", erased_run<EmbeddingLayerNormBackward, backward_by_block>},
    {"in_registers", "dz of 64 tokens in registers; tables likewise, with 16 bytes a lane", "not yet measured",
     erased_run<EmbeddingLayerNormBackward, backward_in_registers>},
};

constexpr KernelEntry entries[] = {
    entry<EmbeddingLayerNorm, check_floating<EmbeddingLayerNorm>, no_workspace<EmbeddingLayerNorm>, select_forward>(
        forward_variants),
    entry<EmbeddingLayerNormBackward, check_floating<EmbeddingLayerNormBackward>, backward_workspace,
          select_backward>(backward_variants),
};

}  // namespace

extern const Family embedding_family;
const Family embedding_family = family(entries);

}  // namespace sinter::kernels::cuda
