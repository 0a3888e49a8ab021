#include "core/ops/embedding.h"

#include "core/autograd/node.h"
#include "core/error.h"
#include "core/op.h"
#include "core/ops/broadcast.h"
#include "core/ops/elementwise.h"
#include "core/ops/gather.h"
#include "core/ops/layer_norm.h"
#include "core/ops/registry.h"
#include "core/row_tracker.h"
#include "core/runtime/runtime.h"
#include "kernels/embedding.h"
#include "kernels/gather.h"

namespace sinter {
namespace {

/// The buffer that a table's gradient is added into: the flat gradient where that may be written, else zeros to return.
struct TableGradient {
  Tensor buffer;
  bool in_place = false;

  TableGradient(Backward& ctx, std::size_t input, const Shape& shape, TensorOptions options, const Tensor& ids) {
    if (const std::optional<GradTarget> target = ctx.target_of_rows(input)) {
      buffer = target->grad;
      in_place = true;
      if (!target->accumulate) buffer.zero_();
      if (target->rows != nullptr) target->rows->mark(ids);
    } else {
      buffer = Tensor::zeros(shape, options);
    }
  }
  Tensor result() const { return in_place ? Tensor() : buffer; }
};

struct Embedding {
  static constexpr const char* name = "embedding";
  static constexpr OpFlags flags{};
  static constexpr const char* branches[] = {"gradient in place", "gradient returned"};
  struct Attrs {
    Shape table;
    std::int64_t padding_idx;
  };
  static Tensors forward(Forward& ctx, const Attrs& attrs, Inputs in) {
    const Tensor table = in[0].contiguous();
    const Tensor ids = checked_indices(name, "id", in[1], attrs.table[0], table.device());
    Shape shape = ids.shape();
    shape.push_back(attrs.table[1]);
    Tensor out = Tensor::empty(shape, table.options());
    const kernels::IndexSelect params{
        .dtype = table.dtype(), .outer = 1, .n = attrs.table[0], .inner = attrs.table[1], .m = ids.numel(),
        .src = table.data(), .index = ids.data<std::int64_t>(), .dst = out.data(),
    };
    Runtime::instance().launch(table.device(), params, name);
    ctx.save({ids});
    return {out};
  }
  static Tensors backward(Backward& ctx, const Attrs& attrs, Inputs grad) {
    const Tensor ids = ctx.saved(0), dy = grad[0].contiguous();
    const TableGradient table(ctx, 0, attrs.table, dy.options(), ids);
    ctx.enter(table.in_place ? 0 : 1);
    const kernels::IndexAdd params{
        .dtype = dy.dtype(), .outer = 1, .n = attrs.table[0], .inner = attrs.table[1], .m = ids.numel(),
        .skip = attrs.padding_idx, .src = dy.data(), .index = ids.data<std::int64_t>(), .dst = table.buffer.data(),
    };
    Runtime::instance().launch(dy.device(), params, name);
    return {table.result(), Tensor()};
  }
  static Tensors twin(const Attrs& attrs, Inputs in) {
    Tensor rows = index_select(in[0], 0, in[1].reshape({-1}));
    if (attrs.padding_idx >= 0) {  // the value of a padding row, without its gradient
      const Tensor padding = Tensor::full({}, static_cast<double>(attrs.padding_idx), in[1].options());
      rows = where(eq(in[1].reshape({-1, 1}), padding), rows.detach(), rows);
    }
    Shape shape = in[1].shape();
    shape.push_back(attrs.table[1]);
    return {rows.reshape(shape)};
  }
};

struct EmbeddingLayerNorm {
  static constexpr const char* name = "embedding_layer_norm";
  static constexpr OpFlags flags{};
  static constexpr const char* branches[] = {"dropout", "no dropout"};
  struct Attrs {
    double eps;
    std::int64_t padding_idx;
    DropoutCall call;
    std::shared_ptr<const Packing> packing;
    Tensor ids, type_ids, position_ids;
    Shape word, type, position;
  };
  /// Inputs: word, type, position, gamma, beta.
  static Tensors forward(Forward& ctx, const Attrs& attrs, Inputs in) {
    const Tensor word = in[0].contiguous(), type = in[1].contiguous(), position = in[2].contiguous();
    const Tensor gamma = in[3].contiguous(), beta = in[4].contiguous();
    const std::int64_t tokens = attrs.ids.numel(), cols = word.size(1);
    ctx.enter(attrs.call.threshold != 0 ? 0 : 1);
    Tensor y = Tensor::empty({tokens, cols}, word.options());
    const Tensor z = Tensor::empty({tokens, cols}, word.options());
    const Tensor mean = Tensor::empty({tokens}, gamma.options()), rstd = Tensor::empty({tokens}, gamma.options());
    const kernels::EmbeddingLayerNorm params{
        .dtype = word.dtype(), .tokens = tokens, .cols = cols,
        .vocab = word.size(0), .types = type.size(0), .positions = position.size(0),
        .eps = attrs.eps, .dropout = attrs.call.kernel(word.device()), .map = row_map(attrs.packing, word.device()),
        .ids = attrs.ids.data<std::int64_t>(), .type_ids = attrs.type_ids.data<std::int64_t>(),
        .position_ids = attrs.position_ids.data<std::int64_t>(),
        .word = word.data(), .type = type.data(), .position = position.data(),
        .gamma = gamma.data(), .beta = beta.data(),
        .z = z.data(), .y = y.data(), .mean = mean.data(), .rstd = rstd.data(),
    };
    Runtime::instance().launch(word.device(), params, name);
    ctx.save({z, gamma, mean, rstd, attrs.ids, attrs.type_ids, attrs.position_ids});
    return {y};
  }
  static Tensors backward(Backward& ctx, const Attrs& attrs, Inputs grad) {
    const Tensor z = ctx.saved(0), gamma = ctx.saved(1), mean = ctx.saved(2), rstd = ctx.saved(3);
    const Tensor ids = ctx.saved(4), type_ids = ctx.saved(5), position_ids = ctx.saved(6);
    const Tensor dy = grad[0].contiguous();
    const TableGradient word(ctx, 0, attrs.word, z.options(), ids);
    const TableGradient type(ctx, 1, attrs.type, z.options(), type_ids);
    const TableGradient position(ctx, 2, attrs.position, z.options(), position_ids);
    const Tensor dgamma = Tensor::empty(gamma.shape(), gamma.options());
    const Tensor dbeta = Tensor::empty(gamma.shape(), gamma.options());
    kernels::EmbeddingLayerNormBackward params{
        .dtype = z.dtype(), .tokens = z.size(0), .cols = z.size(1),
        .vocab = attrs.word[0], .types = attrs.type[0], .positions = attrs.position[0],
        .padding_idx = attrs.padding_idx,
        .dropout = attrs.call.kernel(z.device()), .map = row_map(attrs.packing, z.device()),
        .ids = ids.data<std::int64_t>(), .type_ids = type_ids.data<std::int64_t>(),
        .position_ids = position_ids.data<std::int64_t>(),
        .dy = dy.data(), .z = z.data(), .mean = mean.data(), .rstd = rstd.data(), .gamma = gamma.data(),
        .dword = word.buffer.data(), .dtype_table = type.buffer.data(), .dposition = position.buffer.data(),
        .dgamma = dgamma.data(), .dbeta = dbeta.data(),
    };
    const auto bytes = static_cast<std::int64_t>(Runtime::instance().workspace(z.device(), params));
    const Tensor workspace = Tensor::empty({bytes}, {Dtype::u8, z.device()});
    params.workspace = workspace.data();
    Runtime::instance().launch(z.device(), params, name);
    return {word.result(), type.result(), position.result(), dgamma, dbeta};
  }
  static Tensors twin(const Attrs& attrs, Inputs in) {
    const Tensor z = embedding(in[0], attrs.ids, attrs.padding_idx) + embedding(in[1], attrs.type_ids) +
                     embedding(in[2], attrs.position_ids);
    const Tensor y = layer_norm(z, in[3], in[4], attrs.eps);
    return {attrs.call.threshold == 0 ? y : y * dropout_mask(y.detach(), attrs.call, attrs.packing)};
  }
  static kernels::Cost cost(const Attrs& attrs, Inputs in) {
    return kernels::cost(kernels::EmbeddingLayerNorm{
        .dtype = in[0].dtype(), .tokens = attrs.ids.numel(), .cols = in[0].size(1)});
  }
};

void check_padding(const char* op, std::int64_t padding_idx, const Tensor& table) {
  if (padding_idx < -1 || padding_idx >= table.size(0))
    fail(ErrorCode::usage, op, ": padding_idx is ", padding_idx, ", it must be -1 or a row of the table ",
         table.shape());
}

/// The tracker of a table of which an optimizer updates rows late; else null.
RowTracker* lagging(const Tensor& table) {
  const autograd::Meta* meta = table.meta();
  return meta != nullptr && meta->rows != nullptr && meta->rows->make_current ? meta->rows.get() : nullptr;
}

}  // namespace

const OpRow embedding_op = make_row<Embedding>();
const OpRow embedding_layer_norm_op = make_row<EmbeddingLayerNorm>();

Tensor embedding(const Tensor& table, const Tensor& ids, std::int64_t padding_idx) {
  if (table.rank() != 2) fail(ErrorCode::usage, "embedding: the table is ", table.shape(), ", it must be [V, H]");
  check_dtype("embedding", "ids", ids, Dtype::i64);
  check_padding("embedding", padding_idx, table);
  if (RowTracker* const rows = lagging(table)) {
    const Tensor there = checked_indices("embedding", "id", ids, table.size(0), table.device());
    rows->make_current(&there);
    return run_op1(embedding_op, Embedding::Attrs{table.shape(), padding_idx}, {table, there});
  }
  return run_op1(embedding_op, Embedding::Attrs{table.shape(), padding_idx}, {table, ids});
}

Tensor embedding_layer_norm(const EmbeddingTables& tables, const Tensor& ids, const Tensor& type_ids,
                            const Tensor& position_ids, const Tensor& gamma, const Tensor& beta, double eps, double p,
                            std::uint32_t site, const std::shared_ptr<const Packing>& packing,
                            std::int64_t padding_idx) {
  const char* op = embedding_layer_norm_op.name;
  check_same_kind(op, {&tables.word, &tables.type, &tables.position});
  check_padding(op, padding_idx, tables.word);
  const std::int64_t columns = tables.word.size(-1);
  check_vector(op, "gamma", tables.word, gamma, columns);
  check_vector(op, "beta", tables.word, beta, columns);
  EmbeddingLayerNorm::Attrs attrs{eps, padding_idx, DropoutCall::make(p, site, op), packing,
                                  {}, {}, {},
                                  tables.word.shape(), tables.type.shape(), tables.position.shape()};
  const auto check_ids = [&](const char* what, const Tensor& index, const Shape& table) {
    if (table.rank() != 2 || table[1] != columns)
      fail(ErrorCode::usage, op, ": a table is ", table, ", not [rows, H]");
    check_dtype(op, what, index, Dtype::i64);
    check_shape(op, what, index, {ids.numel()});
    check_indices(op, what, index, table[0]);
  };
  check_ids("token id", ids, attrs.word);
  check_ids("token type", type_ids, attrs.type);
  check_ids("position", position_ids, attrs.position);
  const Tensors moved = upload(Tensors{ids, type_ids, position_ids}, gamma.device());
  attrs.ids = moved[0];
  attrs.type_ids = moved[1];
  attrs.position_ids = moved[2];
  if (RowTracker* const rows = lagging(tables.word)) rows->make_current(&attrs.ids);
  if (RowTracker* const rows = lagging(tables.type)) rows->make_current(&attrs.type_ids);
  if (RowTracker* const rows = lagging(tables.position)) rows->make_current(&attrs.position_ids);
  return run_op1(embedding_layer_norm_op, attrs, {tables.word, tables.type, tables.position, gamma, beta});
}

}  // namespace sinter
