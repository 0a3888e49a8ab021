// What a test may ask of the pretended cuBLASLt (pretended_cublaslt.cpp), which is a library of its own.
#pragma once

#include <cuda_runtime_api.h>
#include <dlfcn.h>

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

namespace sinter::kernels::testing {

/// An algorithm that the heuristic names. The first offer sums in f64, the others in f32, each in another order.
struct Offer {
  double milliseconds = 1;          ///< of one product
  std::uint32_t reductions = 0;     ///< how the parts of a split K are added: a number of cublasLtReductionScheme_t
  std::size_t workspace = 1024;     ///< bytes that it says it needs where there is a workspace
  bool refused = false;             ///< named with a state that is no success
  bool fails = false;               ///< the product fails
};

/// A function of the library, which the program finds in its RPATH.
template <class Function>
Function* of_pretended_cublaslt(const char* name) {
  const std::string library = "libcublasLt.so." + std::to_string(CUDART_VERSION / 1000);
  return reinterpret_cast<Function*>(dlsym(dlopen(library.c_str(), RTLD_NOW), name));
}

inline void offer(const std::vector<Offer>& offers) {
  of_pretended_cublaslt<void(const Offer*, int)>("pretended_cublaslt_offer")(offers.data(),
                                                                              static_cast<int>(offers.size()));
}
/// 130100: 13.1.0.
inline void set_version(std::size_t number) {
  of_pretended_cublaslt<void(std::size_t)>("pretended_cublaslt_version")(number);
}
/// How often the heuristic was asked.
inline int questions() { return of_pretended_cublaslt<int()>("pretended_cublaslt_questions")(); }
/// Milliseconds that all products have taken so far.
inline double clock() { return of_pretended_cublaslt<double()>("pretended_cublaslt_clock")(); }

}  // namespace sinter::kernels::testing
