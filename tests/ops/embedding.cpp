#include "core/ops/embedding.h"

#include "tests/ops/dropout_factors.h"
#include "tests/ops/layer_norm_reference.h"
#include "tests/ops/sample.h"

namespace sinter::testing {
namespace {

using Arrays = std::vector<HostArray>;

Arrays lookup(const Arrays& in) {
  Shape shape = in[1].shape;
  shape.push_back(in[0].size(1));
  return {make_array(shape, [&](const Shape& i) {
    Shape place = i;
    place.erase(i.rank() - 1);
    return in[0].at({static_cast<std::int64_t>(in[1].at(place)), i[i.rank() - 1]});
  })};
}

void add_fused(Samples& samples, const char* label, double p, bool packed, std::int64_t padding_idx) {
  const std::shared_ptr<const Packing> packing = packed ? Packing::packed({3, 3}) : nullptr;
  samples.valid.push_back(
      {.op = "embedding_layer_norm", .label = label,
       .inputs = {normal({5, 7}, 1), normal({2, 7}, 2), normal({4, 7}, 3), normal({7}, 4, 1, 0.3), normal({7}, 5),
                  indices({4, 0, 2, 4, 1, 0}), indices({0, 0, 1, 1, 0, 1}), indices({0, 1, 2, 0, 1, 2})},
       .call = [=](Inputs in) {
         const SampleScope scope(kSeed, kStep, kFirstSample);
         return Tensors{embedding_layer_norm({in[0], in[1], in[2]}, in[5], in[6], in[7], in[3], in[4], 1e-12, p, 3,
                                             packing, padding_idx)};
       },
       .expected = [=](const Arrays& in) {
         HostArray z = make_array({6, 7}, [&](const Shape& i) {
           double total = 0;
           for (std::size_t table = 0; table < 3; ++table) {
             const auto row = static_cast<std::int64_t>(in[5 + table].at({i[0]}));
             total += in[table].at({row, i[1]});
           }
           return total;
         });
         HostArray y = normalised_rows(z, in[3], in[4], 1e-12);
         if (p > 0)
           for_each_index(y.shape,
                          [&](const Shape& i) { y.at(i) *= row_dropout_factor(p, 3, packing.get(), i[0], i[1], 7); });
         return Arrays{y};
       },
       .terms = 30,
       .no_gradcheck = padding_idx >= 0 ? "the padding row has no gradient although the output depends on it" : ""});
}

}  // namespace

void embedding_samples(Samples& samples) {
  const auto add = [&](const char* label, const Tensor& ids, std::int64_t padding_idx) {
    samples.valid.push_back({.op = "embedding", .label = label, .inputs = {normal({5, 7}, 20), ids},
                             .call = [=](Inputs in) { return Tensors{embedding(in[0], in[1], padding_idx)}; },
                             .expected = lookup, .terms = 6,
                             .no_gradcheck = padding_idx >= 0
                                 ? "the padding row has no gradient although the output depends on it" : ""});
  };
  add("ids that repeat", indices({4, 0, 4, 2, 4}), -1);
  add("ids [B, S]", indices({1, 3, 0, 0, 2, 1}, {2, 3}), -1);
  add("padding row", indices({4, 0, 0, 2}), 0);
  add("no ids", Tensor::empty({0}, {Dtype::i64}), -1);
  add_fused(samples, "no dropout", 0, false, -1);
  add_fused(samples, "dropout, packed", 0.4, true, -1);
  add_fused(samples, "padding row", 0, false, 0);
  const Tensor table = normal({5, 7}, 1), v = normal({7}, 2);
  samples.errors.push_back({"embedding: id", [=] { embedding(table, indices({0, 5})); },
                            "embedding: id 1 is 5, it must lie between 0 and 4"});
  samples.errors.push_back({"embedding: dtype", [=] { embedding(table, table); },
                            "embedding: ids is f64, it must be i64"});
  samples.errors.push_back({"embedding: rank", [=] { embedding(v, indices({0})); },
                            "embedding: the table is [7], it must be [V, H]"});
  const Tensor ids = indices({0, 1}), far = indices({0, 5});
  samples.errors.push_back({"fused: position",
                            [=] { embedding_layer_norm({table, table, table}, ids, ids, far, v, v, 1e-12, 0, 1); },
                            "position 1 is 5, it must lie between 0 and 4"});
  samples.errors.push_back({"embedding: padding_idx", [=] { embedding(table, ids, 5); },
                            "embedding: padding_idx is 5, it must be -1 or a row of the table [5, 7]"});
  samples.errors.push_back({"fused: padding_idx",
                            [=] { embedding_layer_norm({table, table, table}, ids, ids, ids, v, v, 1e-12, 0, 1, nullptr,
                                                       -2); },
                            "embedding_layer_norm: padding_idx is -2"});
  samples.errors.push_back({"fused: ids",
                            [=] { embedding_layer_norm({table, table, table}, ids, indices({0}), ids, v, v, 1e-12, 0,
                                                       1); },
                            "embedding_layer_norm: token type is [1], it must be [2]"});
  samples.errors.push_back({"fused: table",
                            [=] { embedding_layer_norm({table, normal({2, 6}, 1), table}, ids, ids, ids, v, v, 1e-12,
                                                       0, 1); },
                            "a table is [2, 6], not [rows, H]"});
}

}  // namespace sinter::testing
