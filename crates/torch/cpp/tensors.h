// What the shim's kernels over tensors share: which table of kernels a tensor's kind takes, and how tensors are looked at.
#pragma once

#include "kernels.h"

#include <ATen/Parallel.h>
#include <ATen/Version.h>
#include <ATen/core/Tensor.h>

#include <string>

#ifndef INTRA_OP_PARALLEL
#error "at::parallel_for is a plain loop: compile with -fopenmp"
#endif

namespace palimpsest {

inline int scalar_of(at::ScalarType type) {
  if (type == at::kDouble) return kFloat64;
  if (type == at::kBFloat16) return kBFloat16;
  TORCH_CHECK(type == at::kFloat, "the CPU kernels take Float, Double and BFloat16 tensors, not ", type);
  return kFloat32;
}

// The tables of the instruction set that libtorch chose for its own kernels.
struct Tables {
  const Kernels& (*kernels)(int scalar);
  const AttentionKernels& (*attention)(int scalar);
  const CacheKernels& (*cache)(int scalar);
};

inline Tables tables() {
#if defined(__x86_64__)
  static const std::string capability = at::get_cpu_capability();
  if (capability == "AVX512") return {kernels_avx512::table, kernels_avx512::attention, kernels_avx512::cache};
  if (capability == "AVX2") return {kernels_avx2::table, kernels_avx2::attention, kernels_avx2::cache};
#endif
  return {kernels_default::table, kernels_default::attention, kernels_default::cache};
}

inline const Kernels& kernels_for(at::ScalarType type) { return tables().kernels(scalar_of(type)); }
inline const AttentionKernels& attention_kernels_for(at::ScalarType type) {
  return tables().attention(scalar_of(type));
}

inline const CacheKernels& cache_kernels_for(at::ScalarType type) { return tables().cache(scalar_of(type)); }

inline at::ScalarType accumulation_type(at::ScalarType type) { return type == at::kDouble ? at::kDouble : at::kFloat; }

inline void check(const at::Tensor& tensor, const char* name) {
  TORCH_CHECK(tensor.device().is_cpu() && tensor.is_contiguous(), name, " must be a contiguous CPU tensor");
}

inline void check_like(const at::Tensor& tensor, const at::Tensor& model, const char* name) {
  check(tensor, name);
  TORCH_CHECK(tensor.scalar_type() == model.scalar_type() && tensor.sizes() == model.sizes(), name, " is a ",
              tensor.scalar_type(), " tensor of shape ", tensor.sizes(), ", expected ", model.scalar_type(), " ",
              model.sizes());
}

// Byte address of a row of `width` elements.
template <typename Pointer>
Pointer at_row(Pointer base, int64_t row, int64_t width, size_t size) {
  return base + row * width * static_cast<int64_t>(size);
}
inline const char* bytes(const at::Tensor& tensor) { return static_cast<const char*>(tensor.const_data_ptr()); }
inline char* mutable_bytes(const at::Tensor& tensor) { return static_cast<char*>(tensor.mutable_data_ptr()); }

}  // namespace palimpsest
