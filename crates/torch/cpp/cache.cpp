// Attention of new tokens to what a cache holds in blocks, forward only. Compiled once for each instruction set with KERNELS
// naming the namespace. A row's result depends on its own sequence alone, to the last bit.
#include "kernels.h"
#include "tiles.h"

namespace KERNELS {
namespace {

using palimpsest::CachedHead;
using palimpsest::kBlock;

template <typename T, typename A>
struct Cache {
  static constexpr int64_t kColumns = Lanes<A>::kColumns;

  static_assert(kBlock % kColumns == 0 && kKeys % kBlock == 0, "tiles fill blocks");

  static void store(const CachedHead& head) {
    for (int64_t token = 0; token < head.tokens; ++token) {
      const int64_t block = head.blocks[(head.position + token) / kBlock];
      const int64_t place = (head.position + token) % kBlock;
      const T* __restrict key = static_cast<const T*>(head.key) + token * head.stride;
      const T* __restrict value = static_cast<const T*>(head.value) + token * head.stride;
      T* __restrict keys = static_cast<T*>(head.keys) + block * head.key_step + place;
      T* __restrict values = static_cast<T*>(head.values) + block * head.value_step + place * head.padded_width;
      for (int64_t i = 0; i < head.width; ++i) keys[i * kBlock] = key[i];
      for (int64_t i = 0; i < head.width; ++i) values[i] = value[i];
    }
  }

  static int64_t scratch(int64_t width, int64_t padded_width) {
    const int64_t line = 64 / sizeof(A);
    const int64_t numbers = kRows * (2 * padded_width + kKeys) + kBlock * (width + padded_width) + 5 * line;
    return numbers * static_cast<int64_t>(sizeof(A));
  }

  // A block's numbers in the accumulation type: as they lie, or widened.
  static const A* widened(const T* numbers, int64_t count, A* __restrict room) {
    if constexpr (sizeof(T) == sizeof(A)) {
      return numbers;
    } else {
#pragma omp simd
      for (int64_t i = 0; i < count; ++i) room[i] = widen(numbers[i]);
      return room;
    }
  }

  // See kernels.h.
  static void attend(const CachedHead& head, int64_t first, int64_t last, void* scratch_) {
    const int64_t width = head.width, padded_width = head.padded_width, group = head.group;
    Scratch<A> scratch{static_cast<A*>(scratch_)};
    A* queries = scratch.take(kRows * padded_width);
    A* sums = scratch.take(kRows * padded_width);
    A* scores = scratch.take(kRows * kKeys);
    A* key_room = scratch.take(kBlock * width);
    A* value_room = scratch.take(kBlock * padded_width);
    const A scale = A(1) / A(sqrt(static_cast<double>(width)));
    for (int64_t row = first; row < last; row += kRows) {
      const int64_t rows = least(kRows, last - row);
      for (int64_t i = 0; i < kRows; ++i) {
        // What lies beyond the rows is computed and left.
        const int64_t token = (row + least(i, rows - 1)) / group, query_head = (row + least(i, rows - 1)) % group;
        copy(static_cast<const T*>(head.query) + token * head.stride + query_head * width, 0, 1, width, scale,
             queries + i * padded_width, 1, padded_width);
      }
      A largest[kRows], totals[kRows];
      for (int64_t i = 0; i < kRows; ++i) largest[i] = A(-INFINITY), totals[i] = 0;
      for (int64_t i = 0; i < kRows * padded_width; ++i) sums[i] = 0;
      const int64_t end = head.position + (row + rows - 1) / group + 1;
      for (int64_t start = 0; start < end; start += kKeys) {
        const int64_t count = least(kKeys, end - start);
        for (int64_t j = 0; j < count; j += kBlock) {
          const T* block = static_cast<const T*>(head.keys) + head.blocks[(start + j) / kBlock] * head.key_step;
          const A* keys = widened(block, width * kBlock, key_room);
          for (int64_t column = 0; column < least(kBlock, count - j); column += kColumns) {
            tile<false, false>(queries, padded_width, keys + column, kBlock, width, scores + j + column, kKeys);
          }
        }
        for (int64_t i = 0; i < kRows; ++i) {
          const int64_t position = head.position + (row + least(i, rows - 1)) / group;
          const int64_t visible = position + 1 > start ? least(count, position + 1 - start) : 0;
          absorb(scores + i * kKeys, visible, count, largest[i], totals[i], sums + i * padded_width, padded_width);
        }
        for (int64_t j = 0; j < count; j += kBlock) {
          const T* block = static_cast<const T*>(head.values) + head.blocks[(start + j) / kBlock] * head.value_step;
          const A* values = widened(block, kBlock * padded_width, value_room);
          product<false, true>(scores + j, kKeys, values, padded_width, least(kBlock, count - j), sums, padded_width,
                               padded_width);
        }
      }
      for (int64_t i = 0; i < rows; ++i) {
        const A factor = A(1) / totals[i];
        const int64_t token = (row + i) / group, query_head = (row + i) % group;
        T* target = static_cast<T*>(head.out) + token * head.out_stride + query_head * width;
        for (int64_t j = 0; j < width; ++j) target[j] = narrow<T>(sums[i * padded_width + j] * factor);
      }
    }
  }

  static constexpr palimpsest::CacheKernels kernels = {store, scratch, attend};
};

}  // namespace

const palimpsest::CacheKernels& cache(int scalar) { return kernels_of<Cache>(scalar); }

}  // namespace KERNELS
