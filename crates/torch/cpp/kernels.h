// The CPU kernels of a decoder layer on plain pointers. One table of them for each instruction set.
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
  void (*rotate)(const void* source, int64_t source_stride, void* target, int64_t heads, int64_t width,
                 const void* cosine, const void* sine, double sign);
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

// What one key head and the `group` query heads that share it do in one segment. Rows are positions; the heads of `query`, of
// `out` and their gradients lie side by side.
struct Segment {
  int64_t length, width, group;
  // Elements between rows: of queries, keys, values and their gradients; of outputs and theirs; the heads of a row of log_sums.
  int64_t stride, out_stride, heads;
  const void *query, *key, *value;
  void* out;       // written by the forward pass, read by the backward pass
  void* log_sums;  // the logarithms of the softmax's denominators, accumulation type
  const void* d_out;
  void *d_query, *d_key, *d_value;
};

// Causal attention: softmax(query key^T / sqrt(width)) value, where a row sees the keys up to its own. The scratch is as many bytes
// as the first function says.
struct AttentionKernels {
  int64_t (*forward_scratch)(int64_t length, int64_t width);
  // Every `parts`-th tile of rows from the `part`-th on.
  void (*forward)(const Segment& segment, int64_t part, int64_t parts, void* scratch);
  int64_t (*backward_scratch)(int64_t length, int64_t width);
  void (*backward)(const Segment& segment, void* scratch);
};

// Positions of a block of a cache.
constexpr int64_t kBlock = 32;

// What one key head and the `group` query heads that share it do for new tokens of one sequence whose keys and values lie in a cache,
// in blocks that follow one another as `blocks` says. Of each block there are, for this head,
//
//   keys    [width][kBlock], so that scores are formed of them as they lie
//   values  [kBlock][padded width]
struct CachedHead {
  // The new tokens, and the position of the first.
  int64_t tokens, position;
  int64_t width, padded_width, group;
  // Elements between tokens of the new queries, keys and values, between those of outputs, and between blocks.
  int64_t stride, out_stride, key_step, value_step;
  const void *query, *key, *value;
  void* out;
  const int32_t* blocks;
  void *keys, *values;  // of the cache's first block
};

// Attention over a cache. A row is a query head of a new token; those of one token lie side by side.
struct CacheKernels {
  // Puts the new tokens' keys and values into the cache.
  void (*store)(const CachedHead& head);
  int64_t (*scratch)(int64_t width, int64_t padded_width);
  // softmax(query key^T / sqrt(width)) value of rows [first, last), each of which sees the positions up to its own.
  void (*attend)(const CachedHead& head, int64_t first, int64_t last, void* scratch);
};

enum Scalar { kFloat32 = 0, kFloat64 = 1, kBFloat16 = 2 };

}  // namespace palimpsest

#define KERNEL_TABLES(name)                                  \
  namespace name {                                           \
  const palimpsest::Kernels& table(int scalar);              \
  const palimpsest::AttentionKernels& attention(int scalar); \
  const palimpsest::CacheKernels& cache(int scalar);         \
  }
KERNEL_TABLES(kernels_default)
#if defined(__x86_64__)
KERNEL_TABLES(kernels_avx2)
KERNEL_TABLES(kernels_avx512)
#endif
