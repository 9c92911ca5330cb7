// Scalar types of the kernels, and the exponential that the compiler can vectorise. Included inside of the anonymous namespace
// of each instruction set, so that no code for a newer CPU can leak into the rest; see build.rs.
#pragma once

#include "kernels.h"

#include <math.h>
#include <stdint.h>
#include <string.h>

namespace KERNELS {
namespace {

struct bfloat16 {
  uint16_t bits;
};

inline float widen(float value) { return value; }
inline double widen(double value) { return value; }
inline float widen(bfloat16 value) {
  uint32_t bits = static_cast<uint32_t>(value.bits) << 16;
  float result;
  memcpy(&result, &bits, sizeof result);
  return result;
}

template <typename T> inline T narrow(float value);
template <typename T> inline T narrow(double value);
template <> inline float narrow<float>(float value) { return value; }
template <> inline double narrow<double>(double value) { return value; }
// Rounds to nearest, ties to even; a NaN stays one.
template <> inline bfloat16 narrow<bfloat16>(float value) {
  uint32_t bits;
  memcpy(&bits, &value, sizeof bits);
  uint32_t rounded = (bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16;
  return bfloat16{static_cast<uint16_t>(value != value ? 0x7fc0u : rounded)};
}

// e^x for x <= 88, to about 1.5 ulp: x = n ln 2 + r, a polynomial in r (Cephes' expf), n put into the exponent.
// The branch-free form lets the compiler vectorise it. Below -87.3 the result is 0 or tiny.
inline float exponential(float x) {
  float clamped = x < -87.3f ? -87.3f : (x > 88.0f ? 88.0f : x);
  const float magic = 12582912.0f;  // 1.5 * 2^23: adding it rounds to an integer
  float n = (clamped * 1.44269504088896341f + magic) - magic;
  float r = clamped - n * 0.693359375f;
  r = r - n * -2.12194440e-4f;
  float p = 1.9875691500e-4f;
  p = p * r + 1.3981999507e-3f;
  p = p * r + 8.3334519073e-3f;
  p = p * r + 4.1665795894e-2f;
  p = p * r + 1.6666665459e-1f;
  p = p * r + 5.0000001201e-1f;
  p = p * (r * r) + r + 1.0f;
  int32_t exponent = (static_cast<int32_t>(n) + 127) << 23;
  float power;
  memcpy(&power, &exponent, sizeof power);
  float result = p * power;
  result = x < -87.3f ? 0.0f : result;
  return x != x ? x : result;
}
inline double exponential(double x) { return exp(x); }

// The kernels for a scalar type, of a family that is written for each and its accumulation type.
template <template <typename, typename> class Family>
const auto& kernels_of(int scalar) {
  switch (scalar) {
    case palimpsest::kFloat64:
      return Family<double, double>::kernels;
    case palimpsest::kBFloat16:
      return Family<bfloat16, float>::kernels;
    default:
      return Family<float, float>::kernels;
  }
}

}  // namespace
}  // namespace KERNELS
