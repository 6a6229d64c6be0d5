// What Candle's kernels need of CUDA beyond `emulation.h`. The types of 16 and 8 bits are there to be named and no
// more: kernels of them are not compiled.
#pragma once

#include <assert.h>

#include <cmath>
#include <limits>

#include "../../crates/ir-tensor-ops/kernels/emulation.h"

#define __CUDACC_VER_MAJOR__ 13
#define __CUDACC_VER_MINOR__ 0
#define __NV_E4M3 0

using std::isnan;

struct __half {
    uint16_t bits;
};
struct __nv_bfloat16 {
    uint16_t bits;
};
struct __nv_fp8_e4m3 {
    uint8_t __x;
    __nv_fp8_e4m3() = default;
    __nv_fp8_e4m3(float) {}
};
inline __half __nv_cvt_fp8_to_halfraw(uint8_t, int) { return {}; }
inline float __half2float(__half) { return NAN; }

namespace cuda {
namespace std {
template <typename T>
using numeric_limits = ::std::numeric_limits<T>;
}
}  // namespace cuda

inline float normcdff(float x) { return erfcf(-x * M_SQRT1_2) / 2; }
inline double normcdf(double x) { return erfc(-x * M_SQRT1_2) / 2; }
inline float2 make_float2(float x, float y) { return {x, y}; }
inline size_t min(size_t a, unsigned b) { return a < b ? a : b; }

// Blocks and threads take turns, so that nothing is ever interrupted.
template <typename T>
T atomicAdd(T *to, T value) {
    T before = *to;
    *to += value;
    return before;
}

template <typename T>
T __shfl_xor_sync(unsigned lanes, T value, int mask, int) {
    return __shfl_xor_sync(lanes, value, mask);
}
