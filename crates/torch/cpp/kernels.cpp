// The kernels themselves, compiled once for each instruction set with KERNELS naming the namespace. Loops are written
// for the compiler to vectorise; nothing with inline functions is included, see build.rs.
#include "kernels.h"
#include "scalar.h"

namespace KERNELS {
namespace {

inline float logarithm(float x) { return logf(x); }
inline double logarithm(double x) { return log(x); }
inline float root(float x) { return sqrtf(x); }
inline double root(double x) { return sqrt(x); }

template <typename T, typename A>
struct Of {
  static void rms_norm(const void* x_, const void* weight_, void* y_, void* rstd_, int64_t rows, int64_t width,
                       double epsilon) {
    const T* __restrict weight = static_cast<const T*>(weight_);
    for (int64_t row = 0; row < rows; ++row) {
      const T* __restrict x = static_cast<const T*>(x_) + row * width;
      T* __restrict y = static_cast<T*>(y_) + row * width;
      A squares = 0;
#pragma omp simd reduction(+ : squares)
      for (int64_t i = 0; i < width; ++i) squares += widen(x[i]) * widen(x[i]);
      A rstd = A(1) / root(squares / A(width) + A(epsilon));
      static_cast<A*>(rstd_)[row] = rstd;
#pragma omp simd
      for (int64_t i = 0; i < width; ++i) {
        y[i] = narrow<T>(widen(weight[i]) * widen(narrow<T>(widen(x[i]) * rstd)));
      }
    }
  }

  static void rms_norm_backward(const void* dy_, const void* x_, const void* weight_, const void* rstd_,
                                const void* residual_, void* out_, void* weight_gradient_, int64_t rows,
                                int64_t width) {
    const T* __restrict weight = static_cast<const T*>(weight_);
    A* __restrict weight_gradient = static_cast<A*>(weight_gradient_);
    for (int64_t row = 0; row < rows; ++row) {
      const T* __restrict dy = static_cast<const T*>(dy_) + row * width;
      const T* __restrict x = static_cast<const T*>(x_) + row * width;
      const T* residual = static_cast<const T*>(residual_) + row * width;
      T* out = static_cast<T*>(out_) + row * width;
      A rstd = static_cast<const A*>(rstd_)[row];
      A dot = 0;
#pragma omp simd reduction(+ : dot)
      for (int64_t i = 0; i < width; ++i) dot += widen(dy[i]) * widen(weight[i]) * widen(x[i]);
      A along = dot * rstd * rstd * rstd / A(width);
      if (weight_gradient != nullptr) {
#pragma omp simd
        for (int64_t i = 0; i < width; ++i) weight_gradient[i] += widen(dy[i]) * (widen(x[i]) * rstd);
      }
#pragma omp simd
      for (int64_t i = 0; i < width; ++i) {
        A dx = rstd * (widen(dy[i]) * widen(weight[i])) - widen(x[i]) * along;
        out[i] = narrow<T>(widen(residual[i]) + dx);
      }
    }
  }

  static void rotate(const void* source_, int64_t source_stride, void* target_, int64_t heads, int64_t width,
                     const void* cosine_, const void* sine_, double sign_) {
    const A* __restrict cosine = static_cast<const A*>(cosine_);
    const A* __restrict sine = static_cast<const A*>(sine_);
    const A sign = A(sign_);
    const int64_t half = width / 2;
    for (int64_t head = 0; head < heads; ++head) {
      const T* source = static_cast<const T*>(source_) + head * source_stride;
      T* target = static_cast<T*>(target_) + head * width;
#pragma omp simd
      for (int64_t i = 0; i < half; ++i) {
        A first = widen(source[i]), second = widen(source[i + half]);
        target[i] = narrow<T>(first * cosine[i] - second * (sign * sine[i]));
        target[i + half] = narrow<T>(second * cosine[i] + first * (sign * sine[i]));
      }
    }
  }

  static void swiglu(const void* gate_up_, void* out_, int64_t rows, int64_t width) {
    for (int64_t row = 0; row < rows; ++row) {
      const T* __restrict gate = static_cast<const T*>(gate_up_) + row * 2 * width;
      const T* __restrict up = gate + width;
      T* __restrict out = static_cast<T*>(out_) + row * width;
#pragma omp simd
      for (int64_t i = 0; i < width; ++i) {
        A g = widen(gate[i]);
        out[i] = narrow<T>(g / (A(1) + exponential(-g)) * widen(up[i]));
      }
    }
  }

  static void swiglu_backward(const void* d_out_, const void* gate_up_, void* d_gate_up_, int64_t rows,
                              int64_t width) {
    for (int64_t row = 0; row < rows; ++row) {
      const T* gate = static_cast<const T*>(gate_up_) + row * 2 * width;
      const T* __restrict d_out = static_cast<const T*>(d_out_) + row * width;
      T* d_gate = static_cast<T*>(d_gate_up_) + row * 2 * width;
#pragma omp simd
      for (int64_t i = 0; i < width; ++i) {
        A g = widen(gate[i]), u = widen(gate[i + width]), d = widen(d_out[i]);
        A sigmoid = A(1) / (A(1) + exponential(-g));
        A silu = g * sigmoid;
        d_gate[i] = narrow<T>(d * u * (sigmoid + silu * (A(1) - sigmoid)));
        d_gate[i + width] = narrow<T>(d * silu);
      }
    }
  }

  static void cross_entropy(void* logits_, const int64_t* labels, void* losses_, int64_t rows, int64_t width,
                            double scale_, bool gradient) {
    const int64_t block = 1024;
    for (int64_t row = 0; row < rows; ++row) {
      T* __restrict logits = static_cast<T*>(logits_) + row * width;
      const int64_t label = labels[row];
      const A at_label = widen(logits[label]);
      A largest = widen(logits[0]);
#pragma omp simd reduction(max : largest)
      for (int64_t i = 0; i < width; ++i) {
        A value = widen(logits[i]);
        largest = value > largest ? value : largest;
      }
      double total = 0;
      for (int64_t start = 0; start < width; start += block) {
        const int64_t end = start + block < width ? start + block : width;
        A sum = 0;
#pragma omp simd reduction(+ : sum)
        for (int64_t i = start; i < end; ++i) sum += exponential(widen(logits[i]) - largest);
        total += sum;
      }
      const A loss = (largest - at_label) + A(log(total));
      static_cast<A*>(losses_)[row] = loss;
      if (!gradient) continue;
      const A factor = A(scale_ / total);
#pragma omp simd
      for (int64_t i = 0; i < width; ++i) logits[i] = narrow<T>(exponential(widen(logits[i]) - largest) * factor);
      logits[label] = narrow<T>(A(scale_) * (exponential(-loss) - A(1)));
    }
  }

  static void embedding_backward(void* gradient_, const int64_t* ids, const void* d_, int64_t rows, int64_t width,
                                 int64_t begin, int64_t end, int64_t skipped) {
    for (int64_t row = 0; row < rows; ++row) {
      if (ids[row] == skipped) continue;
      A* __restrict gradient = static_cast<A*>(gradient_) + ids[row] * width;
      const T* __restrict d = static_cast<const T*>(d_) + row * width;
#pragma omp simd
      for (int64_t i = begin; i < end; ++i) gradient[i] += widen(d[i]);
    }
  }

  static constexpr palimpsest::Kernels kernels = {rms_norm,        rms_norm_backward, rotate,            swiglu,
                                                  swiglu_backward, cross_entropy,     embedding_backward};
};

}  // namespace

const palimpsest::Kernels& table(int scalar) { return kernels_of<Of>(scalar); }

}  // namespace KERNELS
