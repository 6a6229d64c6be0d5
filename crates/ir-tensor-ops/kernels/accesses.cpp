// How what a kernel does to memory comes to `races.h`: with `-fsanitize=thread` the compiler calls a function before every
// access. Those of the library that belongs to it know nothing of a GPU, and these are in their place. What a compiler makes
// of memory that is copied or filled as a whole differs: GCC tells of it as of a range if the kernel assigns it, and not
// if the kernel calls `memcpy` or `memset`, which ours do not; clang calls the functions below from some version between 14,
// which hides it, and 16 on. The tests with `racing.cuh` fail where it is hidden.

#include "emulation.h"

namespace emulation {

void access(const void *address, size_t bytes, Kind kind) {
    const State *state = emulation::state;
    if (!state || !state->races) return;
    uintptr_t at = (uintptr_t)address;
    // What a thread has of its own, and what the emulation is made of.
    if (at - (uintptr_t)state->stacks < MAX_THREADS * STACK || at - (uintptr_t)state < sizeof(State) ||
        address == &emulation::state)
        return;
    const Fiber &fiber = state->fibers[state->current];
    Turn now{state->block_number, (uint16_t)state->current, fiber.barriers};
    state->races->access(now, at, bytes, kind);
}

void access(const Copy &copy) {
    access(copy.from, 16, READ);
    access(copy.to, 16, WRITE);
}

// Blocks and threads take turns, so that nothing is ever interrupted.
int exchange_atomically(int *to, int value) {
    access(to, sizeof(int), ATOMIC);
    int before = *to;
    *to = value;
    return before;
}

}  // namespace emulation

using namespace emulation;

#define FOR_SIZE(bytes)                                                                 \
    extern "C" void __tsan_read##bytes(void *at) { access(at, bytes, READ); }           \
    extern "C" void __tsan_write##bytes(void *at) { access(at, bytes, WRITE); }         \
    extern "C" void __tsan_unaligned_read##bytes(void *at) { access(at, bytes, READ); } \
    extern "C" void __tsan_unaligned_write##bytes(void *at) { access(at, bytes, WRITE); }
FOR_SIZE(1)
FOR_SIZE(2)
FOR_SIZE(4)
FOR_SIZE(8)
FOR_SIZE(16)

extern "C" void __tsan_read_range(void *at, size_t bytes) { access(at, bytes, READ); }
extern "C" void __tsan_write_range(void *at, size_t bytes) { access(at, bytes, WRITE); }

extern "C" void *__tsan_memcpy(void *to, const void *from, size_t bytes) {
    access(from, bytes, READ);
    access(to, bytes, WRITE);
    return memcpy(to, from, bytes);
}

extern "C" void *__tsan_memmove(void *to, const void *from, size_t bytes) {
    access(from, bytes, READ);
    access(to, bytes, WRITE);
    return memmove(to, from, bytes);
}

extern "C" void *__tsan_memset(void *to, int value, size_t bytes) {
    access(to, bytes, WRITE);
    return memset(to, value, bytes);
}

// Functions, tables of functions and what begins only once are nothing that threads of a GPU share.
extern "C" void __tsan_init() {}
extern "C" void __tsan_func_entry(void *) {}
extern "C" void __tsan_func_exit() {}
extern "C" void __tsan_vptr_update(void **, void *) {}
extern "C" void __tsan_vptr_read(void **) {}
extern "C" char __tsan_atomic8_load(const volatile char *at, int) { return __atomic_load_n(at, __ATOMIC_ACQUIRE); }
