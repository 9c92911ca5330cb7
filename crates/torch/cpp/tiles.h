// Products of tiles: kRows rows by kColumns columns, held in registers. Their right operand is rows of kColumns neighbouring
// numbers. Included inside of each instruction set, as scalar.h is.
#pragma once

#include "scalar.h"

namespace KERNELS {
namespace {

#if defined(__AVX512F__)
constexpr int64_t kVectorBytes = 64, kRows = 8;
#elif defined(__AVX2__)
constexpr int64_t kVectorBytes = 32, kRows = 4;
#else
constexpr int64_t kVectorBytes = 16, kRows = 4;
#endif

// Keys whose scores are held at once.
constexpr int64_t kKeys = 256;

inline int64_t round_up(int64_t value, int64_t multiple) { return (value + multiple - 1) / multiple * multiple; }
inline int64_t least(int64_t a, int64_t b) { return a < b ? a : b; }

// Takes pieces off a block of memory.
template <typename A>
struct Scratch {
  A* next;
  A* take(int64_t count) {
    A* piece = next;
    next += round_up(count, 64 / sizeof(A));
    return piece;
  }
};

// As many numbers as a register holds.
template <typename A>
struct Lanes {
  typedef A Vector __attribute__((vector_size(kVectorBytes), aligned(sizeof(A)), may_alias));
  static constexpr int64_t kLanes = kVectorBytes / sizeof(A);
  // Columns of a tile.
  static constexpr int64_t kColumns = 2 * kLanes;

  static_assert(kKeys % kColumns == 0 && kColumns % kRows == 0, "tiles fill blocks");
};

// c[i][j] = (adds ? c[i][j] : 0) + sum over k of a(i, k) * b[k][j], where a(i, k) is a[i][k] or, transposed, a[k][i].
template <bool transposed, bool adds, typename A>
inline void tile(const A* __restrict a, int64_t a_step, const A* __restrict b, int64_t b_step, int64_t depth,
                 A* __restrict c, int64_t c_step) {
  using Vector = typename Lanes<A>::Vector;
  constexpr int64_t kLanes = Lanes<A>::kLanes;
  Vector sums[kRows][2];
#pragma GCC unroll 8
  for (int64_t i = 0; i < kRows; ++i) {
#pragma GCC unroll 2
    for (int64_t j = 0; j < 2; ++j) {
      sums[i][j] = adds ? *reinterpret_cast<const Vector*>(c + i * c_step + j * kLanes) : Vector{};
    }
  }
  for (int64_t k = 0; k < depth; ++k) {
    const Vector left = *reinterpret_cast<const Vector*>(b + k * b_step);
    const Vector right = *reinterpret_cast<const Vector*>(b + k * b_step + kLanes);
#pragma GCC unroll 8
    for (int64_t i = 0; i < kRows; ++i) {
      const A factor = transposed ? a[k * a_step + i] : a[i * a_step + k];
      sums[i][0] += left * factor;
      sums[i][1] += right * factor;
    }
  }
#pragma GCC unroll 8
  for (int64_t i = 0; i < kRows; ++i) {
#pragma GCC unroll 2
    for (int64_t j = 0; j < 2; ++j) *reinterpret_cast<Vector*>(c + i * c_step + j * kLanes) = sums[i][j];
  }
}

// The same for all columns of c, [kRows, columns].
template <bool transposed, bool adds, typename A>
inline void product(const A* a, int64_t a_step, const A* b, int64_t b_step, int64_t depth, A* c,
                    int64_t c_step, int64_t columns) {
  for (int64_t j = 0; j < columns; j += Lanes<A>::kColumns) {
    tile<transposed, adds>(a, a_step, b + j, b_step, depth, c + j, c_step);
  }
}

// Rows of [rows, width] at `stride`, times `scale`, into [padded_rows, padded_width] with zeros around.
template <typename T, typename A>
void copy(const T* from, int64_t stride, int64_t rows, int64_t width, A scale, A* to, int64_t padded_rows,
          int64_t padded_width) {
  for (int64_t row = 0; row < padded_rows; ++row) {
    A* __restrict target = to + row * padded_width;
    const int64_t filled = row < rows ? width : 0;
    const T* __restrict source = from + (row < rows ? row * stride : 0);
#pragma omp simd
    for (int64_t i = 0; i < filled; ++i) target[i] = widen(source[i]) * scale;
    for (int64_t i = filled; i < padded_width; ++i) target[i] = 0;
  }
}

// The transpose of the same in panels.
template <typename T, typename A>
void transpose(const T* from, int64_t stride, int64_t rows, int64_t width, A* to) {
  constexpr int64_t kColumns = Lanes<A>::kColumns;
  for (int64_t first = 0; first < rows; first += kColumns, to += width * kColumns) {
    for (int64_t row = 0; row < kColumns; ++row) {
      const bool is_there = first + row < rows;
      const T* source = from + (is_there ? (first + row) * stride : 0);
      for (int64_t i = 0; i < width; ++i) to[i * kColumns + row] = is_there ? widen(source[i]) : A(0);
    }
  }
}

// Turns a row's scores into powers of e, those of hidden keys into zeros, and brings what was added up so far to the new
// largest score.
template <typename A>
inline void absorb(A* __restrict scores, int64_t visible, int64_t count, A& largest, A& total, A* sums,
                   int64_t width) {
  A most = largest;
#pragma omp simd reduction(max : most)
  for (int64_t j = 0; j < visible; ++j) most = scores[j] > most ? scores[j] : most;
  A sum = 0;
#pragma omp simd reduction(+ : sum)
  for (int64_t j = 0; j < visible; ++j) {
    scores[j] = exponential(scores[j] - most);
    sum += scores[j];
  }
  for (int64_t j = visible; j < count; ++j) scores[j] = 0;
  if (most != largest) {
    const A factor = exponential(largest - most);
    for (int64_t j = 0; j < width; ++j) sums[j] *= factor;
    total *= factor;
  }
  largest = most;
  total += sum;
}

}  // namespace
}  // namespace KERNELS
