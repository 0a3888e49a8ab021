#include "kernels/layer_norm.h"

#include <vector>

#include "kernels/base/families.h"
#include "kernels/ref/dropout_decision.h"
#include "kernels/ref/element.h"
#include "kernels/ref/layer_norm_rows.h"

namespace sinter::kernels::ref {
namespace {

template <class P>
Status check_dtype(const P& p) {
  const Status floating = check_floating(p.dtype);
  return floating.ok() ? check(p) : floating;
}

Status run_forward(const LayerNorm& p, Stream) {
  const LayerNormRows rows{p.dtype, p.cols, p.eps, p.x, p.gamma, p.beta, p.y, p.mean, p.rstd};
  for (std::int64_t r = 0; r < p.rows; ++r) layer_norm_row(rows, r);
  return {};
}

Status run_backward(const LayerNormBackward& p, Stream) {
  const LayerNormRowsBackward backward{p.dtype, p.cols, p.x, p.mean, p.rstd, p.gamma};
  if (p.dx != nullptr)
    for (std::int64_t r = 0; r < p.rows; ++r)
      backward.row(
          r, [&](std::int64_t c) { return load(p.dtype, p.dy, r * p.cols + c); },
          [&](std::int64_t c, double dx) { store(p.dtype, p.dx, r * p.cols + c, dx); });
  if (p.dgamma == nullptr) return {};
  for (std::int64_t c = 0; c < p.cols; ++c) {
    double dgamma = 0, dbeta = 0;
    for (std::int64_t r = 0; r < p.rows; ++r) {
      const double dy = load(p.dtype, p.dy, r * p.cols + c);
      dgamma += dy * backward.xhat(r, c);
      dbeta += dy;
    }
    store(computed_dtype(p.dtype), p.dgamma, c, dgamma);
    store(computed_dtype(p.dtype), p.dbeta, c, dbeta);
  }
  return {};
}

Status run_residual_forward(const BiasDropoutResidualLayerNorm& p, Stream) {
  void* z = p.z == nullptr ? p.y : p.z;
  const LayerNormRows rows{p.dtype, p.cols, p.eps, z, p.gamma, p.beta, p.y, p.mean, p.rstd};
  for (std::int64_t r = 0; r < p.rows; ++r) {
    for (std::int64_t c = 0; c < p.cols; ++c) {
      const std::int64_t i = r * p.cols + c;
      const double biased = load(p.dtype, p.x, i) + (p.bias == nullptr ? 0 : load(computed_dtype(p.dtype), p.bias, c));
      store(p.dtype, z, i, biased * dropout_factor(p.dropout, p.map, p.cols, r, c) + load(p.dtype, p.residual, i));
    }
    layer_norm_row(rows, r);
  }
  return {};
}

Status run_residual_backward(const BiasDropoutResidualLayerNormBackward& p, Stream) {
  const LayerNormRowsBackward backward{p.dtype, p.cols, p.z, p.mean, p.rstd, p.gamma};
  std::vector<double> dbias(static_cast<std::size_t>(p.cols));
  for (std::int64_t r = 0; r < p.rows; ++r)
    backward.row(
        r, [&](std::int64_t c) { return load(p.dtype, p.dy, r * p.cols + c); },
        [&](std::int64_t c, double dz) {
          const std::int64_t i = r * p.cols + c;
          const double dx = dz * dropout_factor(p.dropout, p.map, p.cols, r, c);
          store(p.dtype, p.dresidual, i, dz);
          if (p.dx != nullptr && p.dx != p.dresidual) store(p.dtype, p.dx, i, dx);
          dbias[static_cast<std::size_t>(c)] += dx;
        });
  for (std::int64_t c = 0; c < p.cols; ++c) {
    double dgamma = 0, dbeta = 0;
    for (std::int64_t r = 0; r < p.rows; ++r) {
      const double dy = load(p.dtype, p.dy, r * p.cols + c);
      dgamma += dy * backward.xhat(r, c);
      dbeta += dy;
    }
    if (p.dgamma != nullptr) store(computed_dtype(p.dtype), p.dgamma, c, dgamma);
    if (p.dbeta != nullptr) store(computed_dtype(p.dtype), p.dbeta, c, dbeta);
    if (p.dbias != nullptr) store(computed_dtype(p.dtype), p.dbias, c, dbias[static_cast<std::size_t>(c)]);
  }
  return {};
}

template <class P, Status (*run)(const P&, Stream)>
constexpr Variant naive[] = {{"naive", "loops from the formula", "the oracle of the tests", erased_run<P, run>}};

constexpr KernelEntry entries[] = {
    entry<LayerNorm, check_dtype<LayerNorm>>(naive<LayerNorm, run_forward>),
    entry<LayerNormBackward, check_dtype<LayerNormBackward>>(naive<LayerNormBackward, run_backward>),
    entry<BiasDropoutResidualLayerNorm, check_dtype<BiasDropoutResidualLayerNorm>>(
        naive<BiasDropoutResidualLayerNorm, run_residual_forward>),
    entry<BiasDropoutResidualLayerNormBackward, check_dtype<BiasDropoutResidualLayerNormBackward>>(
        naive<BiasDropoutResidualLayerNormBackward, run_residual_backward>),
};

}  // namespace

extern const Family layer_norm_family;
const Family layer_norm_family = family(entries);

}  // namespace sinter::kernels::ref
