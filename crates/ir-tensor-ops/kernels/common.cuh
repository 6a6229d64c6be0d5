// What every kernel needs: the element types, their conversions, and how kernels are named.
//
// A kernel is written once for both element types. On a GPU this is CUDA C++; with EMULATION defined it is
// plain C++ that `emulation.h` runs on a CPU, which is how the kernels are tested where there is no GPU.
#pragma once

#ifdef EMULATION
#include "emulation.h"
#else
#include <cuda_bf16.h>
#define DYNAMIC_SHARED(name) extern __shared__ __align__(16) unsigned char name[]
#define REGISTER(kernel)
#endif

#include <stdint.h>

// bfloat16: the upper half of an f32. Arithmetic is in f32; this is a way to store.
struct bf16 {
    uint16_t bits;
};

// A number as f32.
__device__ inline float load(float x) { return x; }

__device__ inline float load(bf16 x) { return __uint_as_float((uint32_t)x.bits << 16); }

// A number as it is stored, rounded to the nearest, ties to even.
__device__ inline void store(float *to, float x) { *to = x; }

__device__ inline void store(bf16 *to, float x) {
#ifdef EMULATION
    uint32_t bits = __float_as_uint(x);
    bool nan = (bits & 0x7fffffff) > 0x7f800000;
    to->bits = nan ? (bits >> 16) | 0x40 : (bits + 0x7fff + ((bits >> 16) & 1)) >> 16;
#else
    to->bits = __bfloat16_as_ushort(__float2bfloat16_rn(x));
#endif
}

// `define` is a macro of two arguments, the ending of a kernel's name and the element type.
#define FOR_EACH_TYPE(define) \
    define(f32, float)        \
    define(bf16, bf16)

// A kernel with C linkage, which the host finds by its name.
#define KERNEL(name, parameters) \
    extern "C" __global__ void name parameters; \
    REGISTER(name)                              \
    extern "C" __global__ void name parameters

// The sum of `value` over the threads of a block, in a fixed order, given to all of them. `threads` is a power
// of two, the size of the block, and `room` has as many places.
template <typename T>
__device__ inline T block_sum(T value, T *room, int threads) {
    int thread = threadIdx.x;
    room[thread] = value;
    __syncthreads();
    for (int half = threads / 2; half > 0; half /= 2) {
        if (thread < half) room[thread] += room[thread + half];
        __syncthreads();
    }
    T sum = room[0];
    __syncthreads();
    return sum;
}
