// What every kernel needs: the element types, their conversions, and how kernels are named.
//
// A kernel is written once for both element types. On a GPU this is CUDA C++; with EMULATION defined it is
// plain C++ that `emulation.h` runs on a CPU, which is how the kernels are tested where there is no GPU.
#pragma once

#ifdef EMULATION
#include "emulation.h"
#define UNROLL
#define UNROLL_BY(times)
#else
#include <cuda_bf16.h>
#define DYNAMIC_SHARED(name) extern __shared__ __align__(16) unsigned char name[]
#define REGISTER(kernel)
#define PRAGMA(text) _Pragma(#text)
#define UNROLL PRAGMA(unroll)
#define UNROLL_BY(times) PRAGMA(unroll times)
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

// max(x, 0). NaN stays NaN, which `fmaxf` would hide.
__device__ inline float relu(float x) {
#ifdef EMULATION
    return x < 0 ? 0 : x;
#else
    float y;
    asm("max.NaN.f32 %0, %1, 0f00000000;" : "=f"(y) : "f"(x));
    return y;
#endif
}

// Numbers that lie side by side and are read and written together.
constexpr int WIDE = 8;

// Reads WIDE numbers, aligned to as many bytes as they have or to 16.
__device__ inline void load_wide(const float *from, float *to) {
    const float4 *words = (const float4 *)from;
    for (int i = 0; i < 2; i++) {
        float4 word = words[i];
        to[4 * i] = word.x, to[4 * i + 1] = word.y, to[4 * i + 2] = word.z, to[4 * i + 3] = word.w;
    }
}

__device__ inline void load_wide(const bf16 *from, float *to) {
    uint4 word = *(const uint4 *)from;
    const uint32_t pairs[4] = {word.x, word.y, word.z, word.w};
    for (int i = 0; i < 4; i++) {
        to[2 * i] = __uint_as_float(pairs[i] << 16);
        to[2 * i + 1] = __uint_as_float(pairs[i] & 0xffff0000);
    }
}

// Writes WIDE numbers.
__device__ inline void store_wide(float *to, const float *from) {
    float4 *words = (float4 *)to;
    for (int i = 0; i < 2; i++) words[i] = make_float4(from[4 * i], from[4 * i + 1], from[4 * i + 2], from[4 * i + 3]);
}

// Two numbers as they are stored, rounded by one instruction; with the ReLU in front of it, too.
template <bool RELU>
__device__ inline uint32_t rounded_pair(float low, float high) {
#ifdef EMULATION
    bf16 pair[2];
    store(&pair[0], RELU ? relu(low) : low);
    store(&pair[1], RELU ? relu(high) : high);
    return pair[0].bits | (uint32_t)pair[1].bits << 16;
#else
    uint32_t pair;
    if (RELU)
        asm("cvt.rn.relu.bf16x2.f32 %0, %1, %2;" : "=r"(pair) : "f"(high), "f"(low));
    else
        asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(pair) : "f"(high), "f"(low));
    return pair;
#endif
}

template <bool RELU>
__device__ inline void store_pairs(bf16 *to, const float *from) {
    uint32_t pairs[4];
    for (int i = 0; i < 4; i++) pairs[i] = rounded_pair<RELU>(from[2 * i], from[2 * i + 1]);
    *(uint4 *)to = make_uint4(pairs[0], pairs[1], pairs[2], pairs[3]);
}

__device__ inline void store_wide(bf16 *to, const float *from) { store_pairs<false>(to, from); }

// Writes what the ReLU leaves of WIDE numbers.
__device__ inline void store_relu(bf16 *to, const float *from) { store_pairs<true>(to, from); }

__device__ inline void store_relu(float *to, const float *from) {
    float values[WIDE];
    for (int k = 0; k < WIDE; k++) values[k] = relu(from[k]);
    store_wide(to, values);
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

// As KERNEL, for blocks of `threads` of which `blocks` are to fit on a multiprocessor.
#define BOUNDED_KERNEL(name, threads, blocks, parameters)                   \
    extern "C" __global__ void __launch_bounds__(threads, blocks) name parameters; \
    REGISTER(name)                                                                 \
    extern "C" __global__ void __launch_bounds__(threads, blocks) name parameters

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
