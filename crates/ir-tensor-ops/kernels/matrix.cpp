// What `matrix.cuh` asks of a GPU: products of matrices, and copies on their way.

#include "emulation.h"

namespace emulation {

// Instructions that move 16 bytes take no other addresses.
static void check_alignment(const void *address) {
    if ((uintptr_t)address % 16 != 0) state->misaligned = true;
}

void load_matrices(uint32_t (&to)[4], const void *row, bool transposed) {
    unsigned lane = state->current % 32;
    check_alignment(row);
    access(row, 16, READ);
    auto rows = give((const char *)row);
    for (unsigned matrix = 0; matrix < 4; matrix++) {
        to[matrix] = 0;
        for (unsigned half = 0; half < 2; half++) {
            unsigned across = lane % 4 * 2 + half, down = lane / 4;
            if (transposed) {
                unsigned swap = across;
                across = down, down = swap;
            }
            uint16_t number;
            memcpy(&number, given<const char *>(rows, matrix * 8 + down) + 2 * across, 2);
            to[matrix] |= (uint32_t)number << 16 * half;
        }
    }
}

// The registers of A and B that a lane has. Register r of A: rows lane/4 + 8 (r % 2), columns 2 (lane % 4) + 8 (r / 2)
// and the next; of B: rows 2 (lane % 4) + 8 r and the next, column lane/4.
struct Fragments {
    uint32_t a[4], b[2];
};

static float half_of(uint32_t pair, unsigned which) {
    uint32_t bits = which ? pair & 0xffff0000 : pair << 16;
    float value;
    memcpy(&value, &bits, 4);
    return value;
}

void multiply(float (&sums)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1) {
    unsigned lane = state->current % 32;
    auto found = give(Fragments{{a[0], a[1], a[2], a[3]}, {b0, b1}});
    for (unsigned k = 0; k < 16; k++) {
        Fragments left = given<Fragments>(found, lane / 4 * 4 + k % 8 / 2);
        for (unsigned i = 0; i < 4; i++) {
            Fragments right = given<Fragments>(found, (lane % 4 * 2 + i % 2) * 4 + k % 8 / 2);
            sums[i] += half_of(left.a[i / 2 + k / 8 * 2], k % 2) * half_of(right.b[k / 8], k % 2);
        }
    }
}

void begin_copy(void *to, const void *from) {
    Fiber &fiber = state->fibers[state->current];
    check_alignment(to);
    check_alignment(from);
    fiber.copies.push_back({to, from, fiber.groups});
    access(fiber.copies.back());
}

void end_group() { state->fibers[state->current].groups++; }

void wait_for_groups(int later) {
    Fiber &fiber = state->fibers[state->current];
    std::vector<Copy> left;
    for (const Copy &copy : fiber.copies) {
        if (copy.group >= fiber.groups - later) {
            left.push_back(copy);
            continue;
        }
        memcpy(copy.to, copy.from, 16);
        access(copy);
    }
    fiber.copies = left;
}

}  // namespace emulation
