// Runs CUDA kernels on a CPU, to test them where there is no GPU.
//
// The threads of a block are fibers of one thread of the machine, each with a stack of its own, which take
// turns at barriers. Blocks run one after another. A barrier that not all threads reach ends the launch with
// an error; a barrier that is missing shows as a difference between the two orders in which the fibers can be
// made to run (`emulation_reverse`).
#pragma once

#include <math.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <ucontext.h>

#define __global__
#define __device__
#define __host__
#define __forceinline__ inline
#define __shared__ static thread_local
#define __launch_bounds__(...)
#define __restrict__ __restrict
#define __align__(n) alignas(n)

struct dim3 {
    unsigned x, y, z;
};

namespace emulation {

// What a fiber waits for.
enum Wait { NOTHING, WARP, BLOCK, END };

constexpr unsigned MAX_THREADS = 1024;
constexpr size_t STACK = 64 << 10;

struct Fiber {
    ucontext_t context;
    Wait wait;
};

struct State {
    dim3 grid, block, block_index, thread_index;
    unsigned current;
    Fiber fibers[MAX_THREADS];
    ucontext_t scheduler;
    unsigned char *stacks;
    unsigned char *shared;
    void (*body)(void **);
    void **arguments;
    // What each thread gives to the others of its warp.
    unsigned char exchange[MAX_THREADS][64];
};

extern thread_local State *state;

void wait(Wait what);

typedef void (*Call)(void **arguments);

struct Registration {
    Registration(const char *name, Call call);
};

template <typename T>
T argument(void *from) {
    T value;
    memcpy(&value, from, sizeof(T));
    return value;
}

template <int... I>
struct Indices {};
template <int N, int... I>
struct Range : Range<N - 1, N - 1, I...> {};
template <int... I>
struct Range<0, I...> {
    typedef Indices<I...> type;
};

template <typename... A, int... I>
void apply(void (*kernel)(A...), void **arguments, Indices<I...>) {
    kernel(argument<A>(arguments[I])...);
}

template <typename... A>
void apply(void (*kernel)(A...), void **arguments) {
    apply(kernel, arguments, typename Range<sizeof...(A)>::type());
}

}  // namespace emulation

#define REGISTER(kernel)                                                                       \
    static emulation::Registration registration_of_##kernel(                                   \
        #kernel, [](void **arguments) { emulation::apply(&kernel, arguments); });

#define threadIdx (emulation::state->thread_index)
#define blockIdx (emulation::state->block_index)
#define blockDim (emulation::state->block)
#define gridDim (emulation::state->grid)

#define DYNAMIC_SHARED(name) unsigned char *name = emulation::state->shared

inline void __syncthreads() { emulation::wait(emulation::BLOCK); }
inline void __syncwarp(unsigned = 0xffffffff) { emulation::wait(emulation::WARP); }
inline void __threadfence() {}

// The value that another thread of the warp gives.
template <typename T>
T exchange(T value, unsigned lane) {
    static_assert(sizeof(T) <= sizeof(emulation::State::exchange[0]), "too large to exchange");
    auto &state = *emulation::state;
    unsigned first = state.current / 32 * 32;
    memcpy(state.exchange[state.current], &value, sizeof(T));
    emulation::wait(emulation::WARP);
    T found;
    memcpy(&found, state.exchange[first + lane], sizeof(T));
    emulation::wait(emulation::WARP);
    return found;
}

template <typename T>
T __shfl_xor_sync(unsigned, T value, int mask) {
    return exchange(value, (emulation::state->current % 32) ^ mask);
}

template <typename T>
T __shfl_sync(unsigned, T value, int lane) {
    return exchange(value, lane);
}

template <typename T>
T __shfl_down_sync(unsigned, T value, int by) {
    unsigned lane = emulation::state->current % 32;
    return exchange(value, lane + by < 32 ? lane + by : lane);
}

// Blocks and threads take turns, so that nothing is ever interrupted.
template <typename T>
T atomicAdd(T *to, T value) {
    T before = *to;
    *to += value;
    return before;
}

inline float __uint_as_float(uint32_t bits) {
    float value;
    memcpy(&value, &bits, 4);
    return value;
}

inline uint32_t __float_as_uint(float value) {
    uint32_t bits;
    memcpy(&bits, &value, 4);
    return bits;
}

template <typename T>
T min(T a, T b) {
    return a < b ? a : b;
}

template <typename T>
T max(T a, T b) {
    return a > b ? a : b;
}

inline float rsqrtf(float x) { return 1.f / sqrtf(x); }
inline float __expf(float x) { return expf(x); }

struct alignas(8) float2 {
    float x, y;
};
struct alignas(16) float4 {
    float x, y, z, w;
};
struct alignas(8) uint2 {
    uint32_t x, y;
};
struct alignas(16) uint4 {
    uint32_t x, y, z, w;
};
inline float4 make_float4(float x, float y, float z, float w) { return {x, y, z, w}; }
inline uint4 make_uint4(uint32_t x, uint32_t y, uint32_t z, uint32_t w) { return {x, y, z, w}; }
