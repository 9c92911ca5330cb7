// Autograd with given output gradients, and the fused optimizer step.
#include "guard.h"

#include <ATen/ops/_foreach_add.h>
#include <ATen/ops/_foreach_mul.h>
#include <ATen/ops/_foreach_norm.h>
#include <ATen/ops/_fused_adamw.h>
#include <ATen/ops/linalg_vector_norm.h>
#include <ATen/ops/stack.h>
#include <c10/core/GradMode.h>
#include <torch/csrc/autograd/autograd.h>

using palimpsest::guarded;
using palimpsest::tensors;

extern "C" {

char* palimpsest_backward(at::Tensor* const* outputs, at::Tensor* const* gradients, size_t count) {
  return guarded([&] { torch::autograd::backward(tensors(outputs, count), tensors(gradients, count)); });
}

// Writes `input_count` new tensors to `results`; null where an input had no part in the outputs.
char* palimpsest_grad(at::Tensor* const* outputs, at::Tensor* const* gradients, size_t output_count,
                      at::Tensor* const* inputs, size_t input_count, at::Tensor** results) {
  return guarded([&] {
    auto computed = torch::autograd::grad(tensors(outputs, output_count), tensors(inputs, input_count),
                                          tensors(gradients, output_count), std::nullopt, false, true);
    TORCH_CHECK(computed.size() == input_count, "autograd returned ", computed.size(), " gradients");
    for (size_t index = 0; index < input_count; ++index) {
      results[index] = computed[index].defined() ? new at::Tensor(std::move(computed[index])) : nullptr;
    }
  });
}

// Sets or, where `gradient` is null, clears `tensor.grad`.
char* palimpsest_set_gradient(at::Tensor* tensor, at::Tensor* gradient) {
  return guarded([&] { tensor->mutable_grad() = gradient == nullptr ? at::Tensor() : *gradient; });
}

char* palimpsest_adamw_step(at::Tensor* const* parameters, at::Tensor* const* gradients, at::Tensor* const* averages,
                            at::Tensor* const* square_averages, at::Tensor* const* steps, size_t count,
                            double learning_rate, double beta1, double beta2, double epsilon, double weight_decay) {
  return guarded([&] {
    c10::NoGradGuard no_grad;
    auto step_list = tensors(steps, count);
    at::_foreach_add_(step_list, 1);
    at::_fused_adamw_(tensors(parameters, count), tensors(gradients, count), tensors(averages, count),
                      tensors(square_averages, count), {}, step_list, learning_rate, beta1, beta2, weight_decay,
                      epsilon, /*amsgrad=*/false, /*maximize=*/false);
  });
}

// The 2-norm of all the tensors together, as torch.nn.utils.get_total_norm computes it.
char* palimpsest_total_norm(at::Tensor* const* list, size_t count, at::Tensor** result) {
  return guarded([&] {
    c10::NoGradGuard no_grad;
    TORCH_CHECK(count > 0, "the norm of no tensors was asked for");
    auto norms = at::_foreach_norm(tensors(list, count), 2);
    *result = new at::Tensor(at::linalg_vector_norm(at::stack(norms), 2));
  });
}

// Multiplies every tensor in place by a tensor of one element.
char* palimpsest_scale(at::Tensor* const* list, size_t count, at::Tensor* factor) {
  return guarded([&] {
    c10::NoGradGuard no_grad;
    at::_foreach_mul_(tensors(list, count), *factor);
  });
}

}  // extern "C"
