// Operations of users.
//
//   struct Cube : autograd::Function<Cube> {
//     static constexpr const char* name = "cube";
//     static Tensor forward(autograd::Context& ctx, const Tensor& x) {
//       ctx.save_for_backward({x});
//       return x * x * x;
//     }
//     static Tensors backward(autograd::Context& ctx, Inputs grad) {
//       const Tensor x = ctx.saved(0);
//       return {grad[0] * x * x * 3.0};
//     }
//   };
//   Tensor y = Cube::apply(x);
#pragma once

#include <any>
#include <type_traits>
#include <utility>

#include "core/autograd/mode.h"
#include "core/autograd/node.h"

namespace sinter::autograd {

/// Carries what forward keeps to backward.
class Context {
 public:
  /// Tensors for backward; their versions are checked when they are read.
  void save_for_backward(Tensors tensors) { to_save_ = std::move(tensors); }
  /// In backward: the i-th saved tensor.
  Tensor saved(std::size_t i) const { return backward_->saved(i); }
  /// In backward: whether the i-th tensor argument of forward needs a gradient.
  bool needs_input_grad(std::size_t i) const { return backward_->needs(i); }
  /// Anything else that backward needs.
  std::any data;

  /// For Function: what save_for_backward got, and the running backward.
  Tensors take_saved() { return std::exchange(to_save_, {}); }
  void set_backward(const Backward* backward) { backward_ = backward; }

 private:
  Tensors to_save_;
  const Backward* backward_ = nullptr;
};

/// Base of a user's op. Derived has
///   static Tensor (or Tensors) forward(Context&, args...): runs without a graph; args are tensors and anything else
///   static Tensors backward(Context&, Inputs grad): one gradient for each tensor argument, in order; undefined = zero
///   static constexpr const char* name   (optional)
/// With create_graph the backward is recorded, so a backward made of sinter's ops can be differentiated again.
template <class Derived>
class Function {
 public:
  template <class... Args>
  static auto apply(Args&&... args) {
    Tensors inputs;
    (collect(inputs, args), ...);
    auto context = std::make_shared<Context>();
    using Result = decltype(Derived::forward(*context, std::forward<Args>(args)...));
    const bool recording = should_record(inputs);
    Tensors outputs;
    {
      const NoGradGuard guard;
      if constexpr (std::is_same_v<Result, Tensor>) {
        outputs = {Derived::forward(*context, std::forward<Args>(args)...)};
      } else {
        outputs = Derived::forward(*context, std::forward<Args>(args)...);
      }
    }
    const Tensors saved = context->take_saved();
    if (recording) record(row, context, inputs, saved, outputs);
    if constexpr (std::is_same_v<Result, Tensor>) {
      return outputs.front();
    } else {
      return outputs;
    }
  }

 private:
  template <class Arg>
  static void collect(Tensors& inputs, const Arg& arg) {
    if constexpr (std::is_same_v<Arg, Tensor>) inputs.push_back(arg);
  }

  static constexpr const char* row_name() {
    if constexpr (requires { Derived::name; }) {
      return Derived::name;
    } else {
      return "function";
    }
  }

  static Tensors run_backward(Backward& ctx, const void* attrs, Inputs grad) {
    // The node's context is shared and constant to the engine; only the user's backward sees it.
    auto& context = *const_cast<Context*>(static_cast<const Context*>(attrs));
    context.set_backward(&ctx);
    return Derived::backward(context, grad);
  }

  static constexpr OpRow row = {
      row_name(), {.second_order = true}, {}, nullptr, run_backward, nullptr, nullptr, nullptr, nullptr};
};

}  // namespace sinter::autograd
