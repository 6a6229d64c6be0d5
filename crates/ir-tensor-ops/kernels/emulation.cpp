// The scheduler of `emulation.h`, and the functions by which the host finds and launches kernels.

#include "emulation.h"

namespace emulation {

thread_local State *state = nullptr;

void wait(Wait what) {
    Fiber &fiber = state->fibers[state->current];
    fiber.wait = what;
    if (_setjmp(fiber.place) == 0) _longjmp(state->scheduler, 1);
}

void pass_barrier() {
    wait(BLOCK);
    Fiber &fiber = state->fibers[state->current];
    fiber.barriers++;
    // What is under way may happen at any time.
    for (const Copy &copy : fiber.copies) access(copy);
}

// What a fiber runs: one thread of each block, for ever. The scheduler does not resume it at its end, until there is
// another block.
static void run() {
    for (;;) {
        state->body(state->arguments);
        wait(END);
    }
}

// Makes a fiber that begins at `run`.
static void begin(Fiber &fiber, unsigned char *stack) {
    getcontext(&fiber.context);
    fiber.context.uc_stack.ss_sp = stack;
    fiber.context.uc_stack.ss_size = STACK;
    fiber.context.uc_link = nullptr;
    makecontext(&fiber.context, run, 0);
    fiber.begun = false;
}

// Lets a fiber go on until it waits. Jumps take no call of the system, unlike changes of context.
static void resume(State &state, Fiber &fiber) {
    if (_setjmp(state.scheduler) != 0) return;
    if (fiber.begun) _longjmp(fiber.place, 1);
    fiber.begun = true;
    setcontext(&fiber.context);
}

static unsigned threads(const State &state) {
    return state.block.x * state.block.y * state.block.z;
}

// Whether the fibers [first, last) that are not at their end all wait for `what`; those then wait no more.
static bool release(State &state, unsigned first, unsigned last, Wait what) {
    bool any = false;
    for (unsigned i = first; i < last; i++) {
        Wait found = state.fibers[i].wait;
        if (found != what && found != END) return false;
        any |= found == what;
    }
    for (unsigned i = first; any && i < last; i++)
        if (state.fibers[i].wait == what) state.fibers[i].wait = NOTHING;
    return any;
}

// Runs one block; false if its threads wait for one another for ever.
static bool run_block(State &state, bool reverse) {
    unsigned count = threads(state);
    for (unsigned i = 0; i < count; i++) {
        Fiber &fiber = state.fibers[i];
        // A fiber of a launch that failed stands somewhere in its middle.
        if (fiber.wait != END) begin(fiber, state.stacks + i * STACK);
        fiber.wait = NOTHING;
        fiber.copies.clear();
        fiber.groups = 0;
        fiber.turn = 0;
        fiber.barriers = 0;
    }
    for (;;) {
        for (unsigned turn = 0; turn < count; turn++) {
            unsigned i = reverse ? count - 1 - turn : turn;
            if (state.fibers[i].wait != NOTHING) continue;
            state.current = i;
            state.thread_index = {i % state.block.x, i / state.block.x % state.block.y,
                                  i / state.block.x / state.block.y};
            resume(state, state.fibers[i]);
        }
        bool released = false;
        for (unsigned first = 0; first < count; first += 32)
            released |= release(state, first, min(first + 32, count), WARP);
        released = released || release(state, 0, count, BLOCK);
        if (!released) break;
    }
    for (unsigned i = 0; i < count; i++)
        if (state.fibers[i].wait != END) return false;
    return true;
}

// The shared memory of a block, with a fence behind it.
struct Shared {
    static constexpr size_t FENCE = 4 << 10;
    static constexpr unsigned char INTACT = 0x5a;
    size_t bytes;
    std::vector<float4> room;

    explicit Shared(size_t bytes) : bytes(bytes), room((bytes + FENCE) / sizeof(float4) + 1) {}

    unsigned char *begin() { return (unsigned char *)room.data(); }

    void clear() {
        // What no thread has written is not a number.
        memset(begin(), 0xff, bytes);
        memset(begin() + bytes, INTACT, FENCE);
    }

    bool intact() {
        for (size_t i = 0; i < FENCE; i++)
            if (begin()[bytes + i] != INTACT) return false;
        return true;
    }
};

// As `emulation_launch`.
static int run_blocks(State &state, Shared &shared, bool reverse) {
    for (unsigned z = 0; z < state.grid.z; z++)
        for (unsigned y = 0; y < state.grid.y; y++)
            for (unsigned x = 0; x < state.grid.x; x++) {
                state.block_index = {x, y, z};
                shared.clear();
                if (!run_block(state, reverse)) return 2;
                if (!shared.intact()) return 5;
                state.block_number++;
            }
    return state.misaligned ? 4 : 0;
}

}  // namespace emulation

using namespace emulation;

// How many bytes each parameter of a kernel has, by its place; 0 behind the last, and for a kernel that is not there.
extern "C" size_t emulation_parameter(const char *name, size_t place) {
    auto found = kernels().find(name);
    if (found == kernels().end() || place >= found->second.parameters.size()) return 0;
    return found->second.parameters[place];
}

// 0: done. 1: no kernel of this name. 2: threads wait for one another for ever. 3: too many threads. 4: an address that
// is not aligned. 5: more shared memory used than there is. Races are looked for unless `races` is null, and stay with it.
extern "C" int emulation_launch(const char *name, const unsigned grid[3], const unsigned block[3], size_t shared_bytes,
                                void **arguments, int reverse, Races *races, const Moment *moment) noexcept {
    auto found = kernels().find(name);
    if (found == kernels().end()) return 1;
    if (block[0] * block[1] * block[2] > MAX_THREADS) return 3;
    static thread_local std::vector<unsigned char> stacks(MAX_THREADS * STACK);
    static thread_local State kept;
    Shared shared(shared_bytes);
    state = &kept;
    state->grid = {grid[0], grid[1], grid[2]};
    state->block = {block[0], block[1], block[2]};
    state->stacks = stacks.data();
    state->shared = shared.begin();
    state->body = found->second.call;
    state->arguments = arguments;
    state->misaligned = false;
    state->block_number = 0;
    state->races = races;
    if (races) {
        races->take((uintptr_t)state->shared, shared_bytes, false);
        races->begin(found->first.c_str(), *moment);
    }
    int status = run_blocks(*state, shared, reverse);
    // Nothing else that is done in this thread is done by a kernel.
    state->races = nullptr;
    return status;
}
