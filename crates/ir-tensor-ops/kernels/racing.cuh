// Kernels with a race and, with `sound`, without it, to test what finds them. Blocks of 64 threads.
#pragma once

constexpr int RACERS = 64;

// A thread takes what one of the other warp has put into shared memory.
KERNEL(race_of_threads, (int *to, int sound)) {
    __shared__ int room[RACERS];
    int thread = threadIdx.x;
    room[thread] = thread;
    if (sound) __syncthreads();
    to[blockIdx.x * RACERS + thread] = room[(thread + 32) % RACERS];
}

// In memory that blocks share: a thread overwrites what one of the other warp reads.
KERNEL(race_after_reading, (int *to, int sound)) {
    int *of_block = to + blockIdx.x * RACERS, thread = threadIdx.x;
    of_block[thread] = thread;
    __syncthreads();
    int taken = of_block[(thread + 32) % RACERS];
    if (sound) __syncthreads();
    of_block[thread] = taken;
}

// An exchange of registers orders nothing in memory, though the lanes meet.
KERNEL(race_behind_an_exchange, (int *to, int sound)) {
    __shared__ int room[RACERS];
    int thread = threadIdx.x;
    room[thread] = __shfl_xor_sync(0xffffffff, thread, 1);
    int met = __shfl_xor_sync(0xffffffff, thread, 2);
    to[blockIdx.x * RACERS + thread] = met + (sound ? 0 : room[thread ^ 1]);
}

KERNEL(race_of_blocks_that_write, (int *to, int sound)) {
    if (threadIdx.x == 0) to[sound ? blockIdx.x : 0] = blockIdx.x;
}

// A block reads what another one writes.
KERNEL(race_of_blocks, (int *to, int sound)) {
    if (threadIdx.x > 0) return;
    int other = (blockIdx.x + (sound ? 0 : 1)) % gridDim.x;
    to[gridDim.x + blockIdx.x] = to[other];
    to[blockIdx.x] = 1;
}

// Every thread sets the same mark.
KERNEL(race_for_a_mark, (int *to, int sound)) {
    if (sound)
        atomicExch(to, 1);
    else
        to[0] = 1;
}

// A mark that is set atomically and read as any number.
KERNEL(race_of_a_mark, (int *to, int sound)) {
    atomicExch(to, 1);
    if (!sound) to[1 + threadIdx.x] = to[0];
}

// A mark that is cleared without a barrier before it is set: the first thread's own accesses are in order, and no others.
KERNEL(race_to_clear_a_mark, (int *to, int sound)) {
    if (threadIdx.x == 0 && (!sound || blockIdx.x == 0)) to[0] = 0;
    if (sound) __syncthreads();
    if (!sound || blockIdx.x == 0) atomicExch(to, 1);
}

// Memory that is filled by a loop, as compilers like to do by a call.
KERNEL(race_to_clear, (int *to, int sound)) {
    DYNAMIC_SHARED(shared);
    int *room = (int *)shared;
    int begin = threadIdx.x % 32 * 2, end = begin + (sound ? 2 : 3);
    for (int i = begin; i < end && threadIdx.x < 31; i++) room[i] = 0;
    if (threadIdx.x == 0) to[blockIdx.x] = room[0];
}

// Memory that is assigned in pieces of 32 bytes.
struct Large {
    float4 words[2];
};

KERNEL(race_of_pieces, (int *to, int sound)) {
    __shared__ Large room[RACERS / 8];
    int thread = threadIdx.x;
    if (thread % 8 != 0) return;
    Large *from = (Large *)(to + blockIdx.x * RACERS + thread);
    room[sound ? thread / 8 : 0] = *from;
    *from = room[sound ? thread / 8 : 0];
}

// What a copy is on its way from is written behind a barrier that it was not waited for.
KERNEL(race_with_a_copy, (int *to, int sound)) {
    DYNAMIC_SHARED(shared);
    int thread = threadIdx.x, *of_block = to + blockIdx.x * RACERS;
    if (thread < RACERS / 4) begin_copy(shared + 16 * thread, of_block + 4 * thread);
    end_group();
    if (sound) wait_for_groups<0>();
    __syncthreads();
    of_block[RACERS - 1 - thread] = thread;
    __syncthreads();
    if (!sound) wait_for_groups<0>();
}

// A copy is done when its thread has waited for it, and is then to be seen behind a barrier.
KERNEL(race_of_a_copy, (int *to, int sound)) {
    DYNAMIC_SHARED(shared);
    int *room = (int *)shared, thread = threadIdx.x;
    if (thread < RACERS / 4) begin_copy(room + 4 * thread, to + 4 * thread);
    end_group();
    if (sound) wait_for_groups<0>();
    __syncthreads();
    int taken = room[RACERS - 1 - thread];
    if (!sound) wait_for_groups<0>();
    __syncthreads();
    if (blockIdx.x == 0) to[RACERS + thread] = taken;
}

// Two numbers of a word are two places.
KERNEL(race_for_half_a_word, (bf16 *to, int sound)) {
    if (threadIdx.x < 2) to[sound ? 2 * blockIdx.x + threadIdx.x : 2 * blockIdx.x].bits = 1;
}
