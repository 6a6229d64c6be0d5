// Runs CUDA kernels on a CPU, to test them where there is no GPU.
//
// The threads of a block are fibers of one thread of the machine, each with a stack of its own, which take
// turns at barriers. Blocks run one after another. A barrier that not all threads reach ends the launch with
// an error; a barrier that is missing shows as a difference between the two orders in which the fibers can be
// made to run, and as a race (`races.h`).
#pragma once

#include <math.h>
#include <setjmp.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <ucontext.h>

#include <map>
#include <string>
#include <vector>

#include "races.h"

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

// A copy of 16 bytes that is under way, as one of a group.
struct Copy {
    void *to;
    const void *from;
    int group;
};

struct Fiber {
    // Where it begins, and, from then on, where it waits.
    ucontext_t context;
    jmp_buf place;
    bool begun;
    Wait wait = NOTHING;
    std::vector<Copy> copies;
    int groups = 0;
    // Which of the two places for what it gives is next.
    int turn = 0;
    // Barriers that it has passed in this block.
    uint16_t barriers = 0;
};

struct State {
    dim3 grid, block, block_index, thread_index;
    unsigned current;
    Fiber fibers[MAX_THREADS];
    jmp_buf scheduler;
    unsigned char *stacks;
    unsigned char *shared;
    void (*body)(void **);
    void **arguments;
    // Which block it is, among all, and what looks for races, if anything does.
    uint32_t block_number;
    Races *races;
    // Whether an instruction that moves 16 bytes was given an address that is no multiple of 16.
    bool misaligned;
    // What each thread gives to the others of its warp. With two places that take turns, a thread that gives again
    // does not take away what others have yet to look at: they do before they give again themselves.
    unsigned char exchange[2][MAX_THREADS][64];
};

extern thread_local State *state;

void wait(Wait what);

// Waits at a barrier of the block.
void pass_barrier();

// The thread that runs does something to memory, or a copy of its.
void access(const void *address, size_t bytes, Kind kind);
void access(const Copy &copy);

int exchange_atomically(int *to, int value);

typedef void (*Call)(void **arguments);

struct Kernel {
    Call call;
    // The bytes of each.
    std::vector<size_t> parameters;
};

// By name.
std::map<std::string, Kernel> &kernels();

struct Registration {
    Registration(const char *name, Call call, std::vector<size_t> parameters) { kernels()[name] = {call, parameters}; }
};

// The bytes of each parameter.
template <typename... A>
std::vector<size_t> parameters(void (*)(A...)) {
    return {sizeof(A)...};
}

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
        #kernel, [](void **arguments) { emulation::apply(&kernel, arguments); },               \
        emulation::parameters(&kernel));

#define threadIdx (emulation::state->thread_index)
#define blockIdx (emulation::state->block_index)
#define blockDim (emulation::state->block)
#define gridDim (emulation::state->grid)

#define DYNAMIC_SHARED(name) unsigned char *name = emulation::state->shared

inline void __syncthreads() { emulation::pass_barrier(); }
inline void __threadfence() {}

namespace emulation {

// What the threads of this warp give, by their place in the warp; valid until they have given twice more.
template <typename T>
const unsigned char (*give(const T &value))[64] {
    static_assert(sizeof(T) <= sizeof(State::exchange[0][0]), "too large to exchange");
    Fiber &fiber = state->fibers[state->current];
    auto &places = state->exchange[fiber.turn];
    fiber.turn ^= 1;
    memcpy(places[state->current], &value, sizeof(T));
    wait(WARP);
    return places + state->current / 32 * 32;
}

template <typename T>
T given(const unsigned char (*found)[64], unsigned lane) {
    T value;
    memcpy(&value, found[lane], sizeof(T));
    return value;
}

// See `matrix.cuh`.
void load_matrices(uint32_t (&to)[4], const void *row, bool transposed);
void multiply(float (&sums)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1);

// See `matrix.cuh`. A copy happens as late as it may, so that what does not wait for it finds nothing.
void begin_copy(void *to, const void *from);
void end_group();
void wait_for_groups(int later);

}  // namespace emulation

// The value that another thread of the warp gives.
template <typename T>
T exchange(T value, unsigned lane) {
    return emulation::given<T>(emulation::give(value), lane);
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

inline int atomicExch(int *to, int value) { return emulation::exchange_atomically(to, value); }

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

inline uint32_t __umulhi(uint32_t a, uint32_t b) { return (uint64_t)a * b >> 32; }

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
