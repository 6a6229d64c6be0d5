// The scheduler of `emulation.h`, and the two functions by which the host reaches the kernels.

#define EMULATION
#include "kernels.cu"

#include <map>
#include <string>
#include <vector>

namespace emulation {

thread_local State *state = nullptr;

static std::map<std::string, Call> &kernels() {
    static std::map<std::string, Call> found;
    return found;
}

Registration::Registration(const char *name, Call call) { kernels()[name] = call; }

void wait(Wait what) {
    Fiber &fiber = state->fibers[state->current];
    fiber.wait = what;
    if (_setjmp(fiber.place) == 0) _longjmp(state->scheduler, 1);
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

}  // namespace emulation

using namespace emulation;

// 0: done. 1: no kernel of this name. 2: threads wait for one another for ever. 3: too many threads.
extern "C" int emulation_launch(const char *name, const unsigned grid[3], const unsigned block[3],
                                size_t shared_bytes, void **arguments, int reverse) {
    auto found = kernels().find(name);
    if (found == kernels().end()) return 1;
    if (block[0] * block[1] * block[2] > MAX_THREADS) return 3;
    static thread_local std::vector<unsigned char> stacks(MAX_THREADS * STACK);
    static thread_local State kept;
    std::vector<float4> shared(shared_bytes / sizeof(float4) + 1);
    state = &kept;
    state->grid = {grid[0], grid[1], grid[2]};
    state->block = {block[0], block[1], block[2]};
    state->stacks = stacks.data();
    state->shared = (unsigned char *)shared.data();
    state->body = found->second;
    state->arguments = arguments;
    for (unsigned z = 0; z < grid[2]; z++)
        for (unsigned y = 0; y < grid[1]; y++)
            for (unsigned x = 0; x < grid[0]; x++) {
                state->block_index = {x, y, z};
                // What no thread has written is not a number.
                memset(shared.data(), 0xff, shared.size() * sizeof(float4));
                if (!run_block(*state, reverse)) return 2;
            }
    return 0;
}
