// Causal attention of one segment, forward and backward, in the manner of FlashAttention-2 (Dao, https://arxiv.org/abs/2307.08691):
// the softmax is formed block by block of keys, and the backward pass computes it again from its denominators. Compiled once for
// each instruction set with KERNELS naming the namespace.
//
// All products are of tiles: kRows rows by kColumns columns, held in registers. Their right operand is rows of kColumns
// neighbouring numbers: values, keys or queries as they lie, padded with zeros, or the transpose of keys in panels:
//
//   panel p:  [width][kColumns], the keys p * kColumns .. (p + 1) * kColumns
#include "kernels.h"
#include "tiles.h"

namespace KERNELS {
namespace {

// Queries that a block of the backward pass takes.
constexpr int64_t kQueries = 32;
static_assert(kQueries % kRows == 0, "tiles fill blocks");

template <typename T, typename A>
struct Attention {
  static constexpr int64_t kColumns = Lanes<A>::kColumns;

  static int64_t forward_scratch(int64_t length, int64_t width) {
    const int64_t padded_width = round_up(width, kColumns), padded = round_up(length, kColumns);
    const int64_t line = 64 / sizeof(A);
    const int64_t numbers = padded * (width + padded_width) + kRows * (2 * padded_width + kKeys) + 6 * line;
    return numbers * static_cast<int64_t>(sizeof(A));
  }

  // See kernels.h.
  static void forward(const palimpsest::Segment& segment, int64_t part, int64_t parts, void* scratch_) {
    const int64_t length = segment.length, width = segment.width;
    const int64_t padded_width = round_up(width, kColumns), padded = round_up(length, kColumns);
    Scratch<A> scratch{static_cast<A*>(scratch_)};
    A* keys = scratch.take(padded * width);
    A* values = scratch.take(padded * padded_width);
    A* queries = scratch.take(kRows * padded_width);
    A* sums = scratch.take(kRows * padded_width);
    A* scores = scratch.take(kRows * kKeys);
    transpose(static_cast<const T*>(segment.key), segment.stride, length, width, keys);
    copy(static_cast<const T*>(segment.value), segment.stride, length, width, A(1), values, padded, padded_width);
    const A scale = A(1) / A(sqrt(static_cast<double>(width)));
    for (int64_t head = 0; head < segment.group; ++head) {
      const T* query = static_cast<const T*>(segment.query) + head * width;
      T* out = static_cast<T*>(segment.out) + head * width;
      A* log_sums = static_cast<A*>(segment.log_sums) + head;
      for (int64_t first = part * kRows; first < length; first += parts * kRows) {
        const int64_t rows = least(kRows, length - first);
        copy(query + first * segment.stride, segment.stride, rows, width, scale, queries, kRows, padded_width);
        A largest[kRows], totals[kRows];
        for (int64_t i = 0; i < kRows; ++i) largest[i] = A(-INFINITY), totals[i] = 0;
        for (int64_t i = 0; i < kRows * padded_width; ++i) sums[i] = 0;
        for (int64_t block = 0; block < first + rows; block += kKeys) {
          const int64_t count = least(kKeys, first + rows - block);
          for (int64_t j = 0; j < count; j += kColumns) {
            tile<false, false>(queries, padded_width, keys + (block + j) * width, kColumns, width, scores + j, kKeys);
          }
          for (int64_t i = 0; i < kRows; ++i) {
            // A row sees the keys up to its own.
            const int64_t visible = least(count, first + i + 1 - block);
            absorb(scores + i * kKeys, visible, count, largest[i], totals[i], sums + i * padded_width, padded_width);
          }
          product<false, true>(scores, kKeys, values + block * padded_width, padded_width, count, sums, padded_width,
                               padded_width);
        }
        for (int64_t i = 0; i < rows; ++i) {
          const A factor = A(1) / totals[i];
          T* target = out + (first + i) * segment.out_stride;
          for (int64_t j = 0; j < width; ++j) target[j] = narrow<T>(sums[i * padded_width + j] * factor);
          log_sums[(first + i) * segment.heads] = largest[i] + A(log(static_cast<double>(totals[i])));
        }
      }
    }
  }

  static int64_t backward_scratch(int64_t length, int64_t width) {
    const int64_t padded_width = round_up(width, kColumns), padded = round_up(length, kColumns);
    const int64_t line = 64 / sizeof(A);
    const int64_t numbers =
        padded * (2 * width + 3 * padded_width) + kQueries * (3 * padded_width + 2 * kKeys) + 12 * line;
    return numbers * static_cast<int64_t>(sizeof(A));
  }

  static void backward(const palimpsest::Segment& segment, void* scratch_) {
    const int64_t length = segment.length, width = segment.width;
    const int64_t padded_width = round_up(width, kColumns), padded = round_up(length, kColumns);
    Scratch<A> scratch{static_cast<A*>(scratch_)};
    A* keys_transposed = scratch.take(padded * width);
    A* values_transposed = scratch.take(padded * width);
    A* keys = scratch.take(padded * padded_width);
    A* d_keys = scratch.take(padded * padded_width);
    A* d_values = scratch.take(padded * padded_width);
    A* queries = scratch.take(kQueries * padded_width);
    A* d_outs = scratch.take(kQueries * padded_width);
    A* d_queries = scratch.take(kQueries * padded_width);
    A* weights = scratch.take(kQueries * kKeys);
    A* d_scores = scratch.take(kQueries * kKeys);
    const T *key = static_cast<const T*>(segment.key), *value = static_cast<const T*>(segment.value);
    transpose(key, segment.stride, length, width, keys_transposed);
    transpose(value, segment.stride, length, width, values_transposed);
    copy(key, segment.stride, length, width, A(1), keys, padded, padded_width);
    for (int64_t i = 0; i < padded * padded_width; ++i) d_keys[i] = d_values[i] = 0;
    const A scale = A(1) / A(sqrt(static_cast<double>(width)));
    for (int64_t head = 0; head < segment.group; ++head) {
      const T* query = static_cast<const T*>(segment.query) + head * width;
      const T* out = static_cast<const T*>(segment.out) + head * width;
      const T* d_out = static_cast<const T*>(segment.d_out) + head * width;
      const A* log_sums = static_cast<const A*>(segment.log_sums) + head;
      T* d_query = static_cast<T*>(segment.d_query) + head * width;
      for (int64_t first = 0; first < length; first += kQueries) {
        const int64_t rows = least(kQueries, length - first), padded_rows = round_up(rows, kRows);
        copy(query + first * segment.stride, segment.stride, rows, width, scale, queries, padded_rows, padded_width);
        copy(d_out + first * segment.out_stride, segment.out_stride, rows, width, A(1), d_outs, padded_rows,
             padded_width);
        // The sum of each row's gradient times its output; a row beyond the end has none.
        A along[kQueries], log_sum[kQueries];
        for (int64_t i = 0; i < padded_rows; ++i) {
          A sum = 0;
          const T* place = out + (first + (i < rows ? i : 0)) * segment.out_stride;
#pragma omp simd reduction(+ : sum)
          for (int64_t j = 0; j < width; ++j) sum += d_outs[i * padded_width + j] * widen(place[j]);
          along[i] = sum;
          log_sum[i] = log_sums[(first + (i < rows ? i : 0)) * segment.heads];
        }
        for (int64_t i = 0; i < padded_rows * padded_width; ++i) d_queries[i] = 0;
        for (int64_t block = 0; block < first + rows; block += kKeys) {
          for (int64_t row = 0; row < padded_rows; row += kRows) {
            const int64_t count = least(kKeys, first + row + kRows - block);
            A *weight = weights + row * kKeys, *d_score = d_scores + row * kKeys;
            for (int64_t j = 0; j < count; j += kColumns) {
              tile<false, false>(queries + row * padded_width, padded_width, keys_transposed + (block + j) * width,
                                 kColumns, width, weight + j, kKeys);
              tile<false, false>(d_outs + row * padded_width, padded_width, values_transposed + (block + j) * width,
                                 kColumns, width, d_score + j, kKeys);
            }
            for (int64_t i = 0; i < kRows; ++i) {
              const int64_t visible = row + i < rows ? least(count, first + row + i + 1 - block) : 0;
              differentiate(weight + i * kKeys, d_score + i * kKeys, visible, count, log_sum[row + i], along[row + i]);
            }
            product<false, true>(d_score, kKeys, keys + block * padded_width, padded_width, count,
                                 d_queries + row * padded_width, padded_width, padded_width);
          }
          const int64_t last = least(kKeys, first + padded_rows - block);
          for (int64_t j = 0; j < last; j += kRows) {
            // The first of these queries that sees any of these keys.
            const int64_t from = block + j > first ? (block + j - first) / kRows * kRows : 0;
            const int64_t depth = padded_rows - from, place = (block + j) * padded_width;
            product<true, true>(weights + from * kKeys + j, kKeys, d_outs + from * padded_width, padded_width, depth,
                                d_values + place, padded_width, padded_width);
            product<true, true>(d_scores + from * kKeys + j, kKeys, queries + from * padded_width, padded_width, depth,
                                d_keys + place, padded_width, padded_width);
          }
        }
        for (int64_t i = 0; i < rows; ++i) {
          T* target = d_query + (first + i) * segment.stride;
          for (int64_t j = 0; j < width; ++j) target[j] = narrow<T>(d_queries[i * padded_width + j] * scale);
        }
      }
    }
    put(d_keys, padded_width, length, width, static_cast<T*>(segment.d_key), segment.stride);
    put(d_values, padded_width, length, width, static_cast<T*>(segment.d_value), segment.stride);
  }

  // A row's scores become the softmax's weights, and the gradients of its weights those of its scores.
  static inline void differentiate(A* __restrict weights, A* __restrict d_scores, int64_t visible, int64_t count,
                                   A log_sum, A along) {
#pragma omp simd
    for (int64_t j = 0; j < visible; ++j) {
      weights[j] = exponential(weights[j] - log_sum);
      d_scores[j] = weights[j] * (d_scores[j] - along);
    }
    for (int64_t j = visible; j < count; ++j) weights[j] = d_scores[j] = 0;
  }

  static void put(const A* from, int64_t step, int64_t rows, int64_t width, T* to, int64_t stride) {
    for (int64_t row = 0; row < rows; ++row) {
      for (int64_t i = 0; i < width; ++i) to[row * stride + i] = narrow<T>(from[row * step + i]);
    }
  }

  static constexpr palimpsest::AttentionKernels kernels = {forward_scratch, forward, backward_scratch, backward};
};

}  // namespace

const palimpsest::AttentionKernels& attention(int scalar) { return kernels_of<Attention>(scalar); }

}  // namespace KERNELS
