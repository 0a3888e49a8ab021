// Builds a row of a backend's table from typed functions. Included by kernel files only.
#pragma once

#include "kernels/base/kernel.h"

namespace sinter::kernels {

/// Type-erased form of `Status fn(const P&, Stream)`.
template <class P, Status (*fn)(const P&, Stream)>
Status erased_run(const void* params, Stream stream) {
  return fn(*static_cast<const P*>(params), stream);
}

template <class P, Status (*fn)(const P&)>
Status erased_supports(const void* params) {
  return fn(*static_cast<const P*>(params));
}

template <class P, std::size_t (*fn)(const P&)>
std::size_t erased_workspace(const void* params) {
  return fn(*static_cast<const P*>(params));
}

template <class P, int (*fn)(const P&)>
int erased_select(const void* params) {
  return fn(*static_cast<const P*>(params));
}

template <class P>
std::size_t no_workspace(const P&) {
  return 0;
}

template <class P>
int first_variant(const P&) {
  return 0;
}

/// A row for params struct P. `check` is the contract's own `Status check(const P&)`, or a stricter one.
template <class P, Status (*check)(const P&), std::size_t (*workspace)(const P&) = no_workspace<P>,
          int (*select)(const P&) = first_variant<P>, int N>
constexpr KernelEntry entry(const Variant (&variants)[N]) {
  return {P::id, sizeof(P), variants, N, erased_select<P, select>, erased_supports<P, check>,
          erased_workspace<P, workspace>};
}

}  // namespace sinter::kernels
