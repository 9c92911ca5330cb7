// The element-wise kernels of a decoder layer on plain pointers. One table of them for each instruction set.
#pragma once

#include <cstdint>

namespace palimpsest {

// The kernels for one scalar type (float, double, bfloat16). Sums are formed in the accumulation type: double for
// double, float for the others. Rows are contiguous unless a stride is given; strides count elements.
struct Kernels {
  // y = weight * cast(x * rstd), rstd = 1 / sqrt(mean(x^2) + epsilon). x, y: [rows, width]; rstd: [rows].
  void (*rms_norm)(const void* x, const void* weight, void* y, void* rstd, int64_t rows, int64_t width, double epsilon);
  // out = residual + the gradient of x; weight_gradient (accumulation type, [width]) gains the rows' share.
  void (*rms_norm_backward)(const void* dy, const void* x, const void* weight, const void* rstd, const void* residual,
                            void* out, void* weight_gradient, int64_t rows, int64_t width);
  // Rotates the heads of one position; cosine and sine: [width / 2] in the accumulation type; sign -1 turns back.
  // Head h of the result is the sum over `group` source heads from h * group on.
  void (*rotate)(const void* source, int64_t source_stride, void* target, int64_t heads, int64_t group, int64_t width,
                 const void* cosine, const void* sine, double sign);
  // The same sum without the rotation.
  void (*gather)(const void* source, int64_t source_stride, void* target, int64_t heads, int64_t group, int64_t width);
  // out = silu(gate) * up, where each row of gate_up is [gate, up]. gate_up: [rows, 2 * width]; out: [rows, width].
  void (*swiglu)(const void* gate_up, void* out, int64_t rows, int64_t width);
  // The gradient of gate_up, which may overwrite it.
  void (*swiglu_backward)(const void* d_out, const void* gate_up, void* d_gate_up, int64_t rows, int64_t width);
  // losses[row] = -ln softmax(logits[row])[label]; then, where `gradient`, logits become scale * (softmax - one-hot).
  void (*cross_entropy)(void* logits, const int64_t* labels, void* losses, int64_t rows, int64_t width, double scale,
                        bool gradient);
  // gradient[ids[row]][begin..end] += d[row][begin..end] unless the id is `skipped`; gradient is in the accumulation
  // type.
  void (*embedding_backward)(void* gradient, const int64_t* ids, const void* d, int64_t rows, int64_t width,
                             int64_t begin, int64_t end, int64_t skipped);
};

enum Scalar { kFloat32 = 0, kFloat64 = 1, kBFloat16 = 2 };

}  // namespace palimpsest

namespace kernels_default { const palimpsest::Kernels& table(int scalar); }
#if defined(__x86_64__)
namespace kernels_avx2 { const palimpsest::Kernels& table(int scalar); }
namespace kernels_avx512 { const palimpsest::Kernels& table(int scalar); }
#endif
